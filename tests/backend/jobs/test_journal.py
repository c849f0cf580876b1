"""The journal: what is in it stays, whatever happens to the disk, the program or the file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidArgument, VolumeFull
from backend.jobs.journal import OPEN_DAYS, Entry, Journal
from backend.jobs.journal_database import NAME


def begun(journal: Journal, number: int = 0, **changes: Any) -> Entry:
    entry = journal.begin("portrait", "ep", seed=number, output_path=None, params={"prompt": "x"})
    return journal.write(entry, **changes) if changes else entry


def old_file(folder: Path, key: str, **changes: Any) -> Path:
    """An entry as earlier versions wrote it: a JSON file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    value: dict[str, Any] = {
        "key": key,
        "verb": "tts",
        "endpoint_id": "ep",
        "job_id": f"job-{key}",
        "state": "COMPLETED",
    }
    value |= {"submitted_at": "2026-01-01T00:00:00Z", "params": {"text": "hi"}, "result": {"success": True}}
    path = folder / f"{key}.json"
    path.write_text(json.dumps(value | changes))
    return path


def test_an_entry_is_found_by_its_key_and_by_its_job_id(tmp_path):
    """By another process too; what has no id is not found by an empty one."""
    journal = Journal(tmp_path)
    begun(journal, 1)
    entry = begun(journal, 2, job_id="job-1", state="IN_QUEUE")

    assert Journal(tmp_path).find("job-1") == entry
    assert Journal(tmp_path).find(entry.key) == entry
    assert [journal.find(name) for name in ("", "nothing", "../x", "a\0", "%")] == [None] * 5


def test_entries_are_listed_newest_first(tmp_path):
    journal = Journal(tmp_path)
    for number in range(5):
        begun(journal, number)

    assert [entry.seed for entry in journal.entries()] == [4, 3, 2, 1, 0]
    assert [entry.seed for entry in journal.entries(2)] == [4, 3]


def test_a_journal_that_is_not_there_is_empty_and_is_not_made_by_looking(tmp_path):
    journal = Journal(tmp_path / "state" / "jobs")

    assert (journal.entries(), journal.find("x")) == ([], None)
    assert list(tmp_path.iterdir()) == []


def test_old_entries_go_when_a_job_is_begun(tmp_path):
    """What is open stays, and what was paid for and not fetched."""
    journal = Journal(tmp_path)
    for number, state in enumerate(["IN_QUEUE", "COMPLETED", "FAILED", "FAILED", "CANCELLED", "FAILED"]):
        begun(journal, number, state=state)

    journal.prune(keep=2)

    assert [entry.seed for entry in journal.entries()] == [5, 4, 1, 0]


def test_an_open_entry_is_closed_with_a_word_when_it_is_old(tmp_path):
    """By the next job that is begun; its service no longer has anything."""
    journal = Journal(tmp_path)
    begun(journal, 1, job_id="job-1", state="IN_PROGRESS", submitted_at="2026-01-01T00:00:00Z")
    begun(journal, 2, submitted_at="2026-01-01T00:00:00Z")
    begun(journal, 3)

    _, unseen, unfetched = journal.entries()
    assert (unfetched.state, unseen.state) == ("EXPIRED", "EXPIRED")
    assert f"Closed after {OPEN_DAYS} days: its result was not fetched" in str(unfetched.error)
    assert "no answer to its submission was seen" in str(unseen.error)


def test_entries_of_earlier_versions_are_taken_in(tmp_path, caplog):
    """One file each; a damaged one is set aside under a name of its own, and named."""
    for number in range(3):
        old_file(tmp_path, f"2026010{number}T000000-aa")
    for name, content in {
        "list": "[]",
        "deep": "[" * 100_000,
        "half": '{"key',
        "path": '{"key": "../x"}',
    }.items():
        (tmp_path / f"{name}.json").write_text(content)
    old_file(tmp_path, "20260105T000000-aa", seed="5", params=7, result=[1], job_id={"a": 1}, error=5)

    entries = Journal(tmp_path).entries()

    assert [entry.key[:8] for entry in entries] == ["20260105", "20260102", "20260101", "20260100"]
    assert (entries[0].seed, entries[0].params, entries[0].result, entries[0].job_id) == (5, {}, None, "")
    assert entries[1].result == {"success": True}
    assert sorted(path.name for path in tmp_path.glob("*.damaged")) == [
        "deep.json.damaged", "half.json.damaged", "list.json.damaged", "path.json.damaged",
    ]  # fmt: skip
    assert list(tmp_path.glob("*.json")) == []
    assert "half.json" in caplog.text


@pytest.mark.parametrize("damage", ["nothing but zeros", "text", "in the middle", "cut"])
def test_a_damaged_database_is_set_aside(tmp_path, caplog, damage):
    """Jobs go on being written down; what could be read is there again."""
    journal = Journal(tmp_path)
    journal.begin("portrait", "ep", seed=0, output_path=None, params={"prompt": "x" * 2000})
    for number in range(200):
        begun(journal, number, job_id=f"job-{number}", state="FAILED")
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    file = tmp_path / NAME
    content = file.read_bytes()
    file.write_bytes(
        {
            "nothing but zeros": bytes(len(content)),
            "text": b"[]" * 1000,
            "in the middle": content[: len(content) // 2]
            + os.urandom(8192)
            + content[len(content) // 2 + 8192 :],
            "cut": content[: len(content) // 2],
        }[damage]
    )

    again = Journal(tmp_path)
    entry = begun(again, 1, job_id="new", state="IN_QUEUE")

    assert again.entries(1) == [entry]
    assert again.find("new") == entry
    for number in (0, 57, 199):
        again.find(f"job-{number}")
    again.entries()
    if damage in ("nothing but zeros", "text"):
        assert "was damaged" in caplog.text
        assert list(tmp_path.glob(f"{NAME}.damaged-*"))


def test_a_full_disk_stops_the_job_and_not_the_listing(tmp_path):
    """The error says which disk, and that nothing was submitted."""
    journal = Journal(tmp_path)
    entry = begun(journal, 1)
    database = journal._database._opened()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(VolumeFull, match=r"cannot be written .* Nothing was submitted.*COMFYFORM_STATE_DIR"):
        journal.begin("portrait", "ep", seed=2, output_path=None, params={"prompt": "x" * 100_000})

    assert journal.entries() == [entry]
    assert journal.try_write(entry) is True


def test_a_write_that_fails_later_is_said_with_the_jobs_id(tmp_path, caplog):
    """And nothing is raised: the job matters more than its entry."""
    journal = Journal(tmp_path)
    entry = begun(journal, 1)
    database = journal._database._opened()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")

    journal.write(entry, job_id="job-7", state="IN_QUEUE", error="x" * 100_000)

    assert "job job-7" in caplog.text


@pytest.mark.slow
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)
)
def test_an_entry_with_any_value_in_any_field_is_read_or_refused(value):
    """No field breaks a listing."""
    for name in Entry.__dataclass_fields__:
        fields = {"key": "k", "verb": "tts", "endpoint_id": "ep", name: value}
        try:
            entry = Entry.from_json(fields)
        except InvalidArgument:
            assert name == "key"
            continue
        json.dumps(entry.to_json())
        entry.age_s()


def test_many_threads_and_a_fork_write_into_one_journal(tmp_path):
    """Each entry is there in the end."""
    journal = Journal(tmp_path)

    def write(first: int) -> None:
        for number in range(first, first + 20):
            begun(journal, number, job_id=f"job-{number}", state="IN_QUEUE")

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = os.fork()
    if child == 0:
        begun(journal, 1000, job_id="forked", state="IN_QUEUE")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    assert len(journal.entries()) == 101
    assert journal.find("forked") is not None


def test_a_program_that_is_killed_leaves_whole_entries(tmp_path):
    """kill -9 in the middle of writing: each entry that was reported is there, and the journal opens."""
    code = (
        "import sys; from pathlib import Path; from backend.jobs.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path)!r}))\n"
        "while True:\n"
        "    entry = journal.begin('tts', 'ep', seed=1, output_path=None, params={})\n"
        "    print(entry.key, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    keys = [process.stdout.readline().strip() for _ in range(100)]
    process.kill()
    process.wait()
    process.stdout.close()

    assert {entry.key for entry in Journal(tmp_path).entries()} >= set(keys)
