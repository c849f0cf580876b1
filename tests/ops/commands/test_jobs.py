"""``inv jobs.*`` and the report on what is in the journal: nothing from outside steers a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from backend import Settings
from backend.errors import ConfigError, InvalidArgument
from backend.jobs.journal import Journal
from backend.validation.printable import visible
from ops.commands.jobs import cancel_job, list_jobs, show_job, wait_job
from ops.console.console import Console
from ops.report.collect import gather
from tests.support.job_plane_server import paid_jobs

HOSTILE = "\x1b[31mred\x1b[0m\0 [/] [link=http://evil]x " + "x" * 2_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "jobs")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"COMFYFORM_STATE_DIR": str(tmp_path / "state")})


def begin(journal: Journal, params: dict[str, Any] | None = None, **changes: Any) -> str:
    entry = journal.begin("portrait", "ep1", seed=1, output_path=None, params=params or {"prompt": "x"})
    return journal.write(entry, **changes).key


def test_an_entry_that_was_cut_off_says_what_to_do(journal, settings, capsys):
    """It has no id; the command that looks for it is named."""
    key = begin(journal)
    begin(journal, job_id="job-1", state="IN_QUEUE")

    assert list_jobs(settings=settings) == 0

    out = capsys.readouterr()
    assert key in out.out
    assert f"inv jobs.wait {key}" in out.err
    assert "inv jobs.wait JOB" in out.err


def test_a_job_that_was_cut_off_is_fetched_by_its_key(tmp_path, journal, capsys):
    """The command that the list names."""
    with paid_jobs() as plane:
        key = begin(journal)
        plane.jobs["job-9"] = {"journal_key": key}

        assert wait_job(key, output_path=str(tmp_path / "a.png"), settings=plane.settings(tmp_path)) == 0

    assert (tmp_path / "a.png").is_file()
    assert journal.find("job-9") is not None


@pytest.mark.parametrize("name", ["../../health", "", "a/b", "\x1b[31m", "x\n"])
def test_what_is_not_an_id_is_refused_and_leaves_nothing(tmp_path, settings, name):
    for command in (show_job, wait_job, cancel_job):
        with pytest.raises(InvalidArgument, match="is not a job id"):
            command(name, settings=settings)

    assert list(tmp_path.rglob("*.json")) == []


def test_nothing_from_outside_steers_the_terminal(journal, settings, capsys):
    """A worker's error, an address, a path; and two megabytes are not printed."""
    file = {"filename": HOSTILE, "local_path": "/x/\x1b[31m", "remote_url": "https://h/a?sig=SECRET"}
    begin(journal, {"prompt": HOSTILE}, job_id="j", state="FAILED", error=HOSTILE, result={"files": [file]})

    list_jobs(settings=settings)
    show_job("j", settings=settings)
    Console().text(HOSTILE[:100])
    Console().fail(InvalidArgument(HOSTILE))

    out = capsys.readouterr()
    assert "\x1b" not in out.out + out.err
    assert "\0" not in out.out + out.err
    assert len(out.out + out.err) < 200_000


def test_damaged_entries_break_no_listing(journal, settings, capsys):
    """Of a shape of their own, in the folder of an earlier version too."""
    begin(journal, job_id="good", state="FAILED")
    for number, content in enumerate(
        ["[]", "[" * 100_000, "{", '{"key": 5}', '{"key": "k1", "result": {"files": 5}}']
    ):
        (journal.folder / f"{number}.json").write_text(content)

    assert list_jobs(settings=settings) == 0
    assert list_jobs(json=True, settings=settings) == 0

    assert "good" in capsys.readouterr().out


def test_a_report_shows_no_secret_of_an_address(journal, settings, tmp_path):
    """It is made to be shown to others."""
    begin(journal, {"portrait_image": "https://h/p.png?sig=SIGSECRET", "audio": "https://u:URLSECRET@h/a.wav#t"},
          state="FAILED", error="GET https://h/x?token=ERRSECRET failed")  # fmt: skip
    begin(journal, {"prompt": "like https://h/y?token=PROMPTSECRET"})
    (tmp_path / "models.yaml").write_text("required: []\n")

    report = gather(settings, title="x", registry=tmp_path / "models.yaml", transport="job")

    assert len(report.jobs) == 2
    assert "SECRET" not in repr(report.jobs)
    assert "p.png says a.wav" in repr(report.jobs)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RUNPOD_API_KEY", "rpa_schlüssel", "non-ASCII"),
        ("RUNPOD_API_KEY", "rpa\nx", "a line break"),
        ("COMFYUI_URL", "http://localhost:8188/?token=SECRET", "it has a query"),
    ],
)
def test_a_setting_that_no_request_can_carry_is_named(variable, value, message):
    """By its variable, and without what may be a secret."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})

    assert f"{variable}: " in str(caught.value)
    assert message in str(caught.value)
    assert value not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_an_address_as_a_browser_shows_it_is_taken():
    assert (
        Settings.from_env({"COMFYUI_URL": "http://localhost:8188/#/"}).comfyui_url == "http://localhost:8188"
    )


def test_json_of_the_list_is_json(journal, settings, capsys):
    begin(journal, {"prompt": "x", "cfg": float("nan")}, job_id="j", state="FAILED")

    list_jobs(json=True, settings=settings)

    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)[0]["params"]["cfg"] is None


@pytest.mark.parametrize("name", ["x[v1]/y", "[/]", "x[/bold]", "[link=http://evil]click", "\x1b[31mred"])
def test_a_name_in_a_progress_bar_is_no_markup(monkeypatch, name):
    """It is shown as it is called, also on a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    err = io.StringIO()

    with Console(err=err).progress() as show:
        show({"progress": "provision", "path": name, "done_bytes": 1, "total_bytes": 10})

    assert visible(name) in err.getvalue()
    assert "\x1b]8" not in err.getvalue()
