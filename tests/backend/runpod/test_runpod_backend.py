"""The RunPod backend on the emulator: its journal, health and the reasons, settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import (
    Backend,
    InvalidArgument,
    JobExpired,
    MissingSetting,
    NotFound,
    Settings,
    TransferError,
    Unavailable,
    WaitTimeout,
    get_backend,
)
from backend.flow import Flow, Retry
from backend.flow.http_driver import Http
from backend.jobs.journal import Journal
from backend.runpod.backend import RunPodBackend
from backend.runpod.health import judge
from backend.runpod.job_api import JobPlane
from backend.settings import Secret
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio, until

SHA = hashlib.sha256


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as http:
        yield http


def echo_backend(emu: Emulator, tmp_path: Path, **env: str) -> tuple[Backend, str]:
    """A backend whose endpoint never answers in our contract: nothing takes its jobs."""
    emu.set(shortage=["cpu3c"])
    studio = Studio(emu, "comfyform/ops")
    settings = Settings.from_env(
        emu.env
        | {"RUNPOD_ENDPOINT_ID": studio.endpoint_id, "COMFYFORM_STATE_DIR": str(tmp_path / "state")}
        | env
    )
    return get_backend("runpod", settings=settings), studio.endpoint_id


# --- the journal -------------------------------------------------------------


def test_a_job_is_written_down_before_it_is_submitted(emu, tmp_path):
    """Its answer is lost on the way: the journal has it as UNKNOWN, with all but its name."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    emu.fault(f"/jobs/v2/{endpoint_id}/run", method="POST", cut="after")

    with backend:
        result = backend.portrait(prompt="x", seed=4, output_path=tmp_path / "a.png")

    (entry,) = Journal(tmp_path / "state" / "jobs").entries()
    assert isinstance(result.exception, Unavailable)
    assert (entry.state, entry.job_id, entry.seed) == ("UNKNOWN", "", 4)
    assert (entry.verb, entry.endpoint_id, entry.params["prompt"]) == ("portrait", endpoint_id, "x")
    assert entry.output_path == str(tmp_path / "a.png")


def test_a_refused_job_is_written_down_as_not_submitted(emu, tmp_path):
    """Nobody has to wonder whether it was paid for."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    emu.fault(f"/jobs/v2/{endpoint_id}/run", method="POST", status=403)

    with backend:
        backend.portrait(prompt="x")

    assert [entry.state for entry in Journal(tmp_path / "state" / "jobs").entries()] == ["NOT_SUBMITTED"]


def test_a_cancelled_wait_is_written_down(emu, tmp_path):
    """The journal says how it ended, and holds no secret."""
    backend, _ = echo_backend(emu, tmp_path)

    with backend:
        result = backend.portrait(prompt="x", timeout_s=2.0)

    jobs = tmp_path / "state" / "jobs"
    (entry,) = Journal(jobs).entries()
    assert (entry.state, entry.job_id) == ("CANCELLED", result.job_id)
    assert all(emu.env["RUNPOD_API_KEY"].encode() not in path.read_bytes() for path in jobs.iterdir())


def test_a_crash_of_the_caller_loses_nothing(emu, tmp_path):
    """Another process finds the job by the journal and goes on where the first one died."""
    backend, _ = echo_backend(emu, tmp_path)
    with backend:
        job = backend.submit("portrait", prompt="x", seed=4, output_path=tmp_path / "a.png")
    journal = Journal(tmp_path / "state" / "jobs")

    found = journal.find(job.id)

    assert found is not None
    assert (found.state, found.seed, found.output_path) == ("IN_QUEUE", 4, str(tmp_path / "a.png"))
    with echo_backend_again(backend) as other:
        assert other.status(job.id).state == "IN_QUEUE"
        assert other.cancel(job.id) is True
    assert [entry.state for entry in journal.entries()] == ["CANCELLED"]


@pytest.mark.slow
def test_a_job_that_has_ended_is_not_cancelled(emu, tmp_path):
    """RunPod would say yes; the journal says how the job really ended, and its result can still be had."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    emu.set(shortage=[])
    with backend:
        job = backend.submit("portrait", prompt="x")  # which the ops image refuses
        until(lambda: job.status().ended)
        sent = len(emu.requests("POST", f"/jobs/v2/{endpoint_id}/cancel/*"))

        assert backend.cancel(job.id) is False

    assert [entry.state for entry in Journal(tmp_path / "state" / "jobs").entries()] == ["FAILED"]
    assert len(emu.requests("POST", f"/jobs/v2/{endpoint_id}/cancel/*")) == sent


def echo_backend_again(backend: Backend) -> Backend:
    """A second client of the same endpoint, as another process would make it."""
    return Backend(backend.flows)


def test_a_job_whose_result_is_gone_is_written_down(emu, tmp_path):
    """Resuming too late says so, and so does the list from then on."""
    backend, _ = echo_backend(emu, tmp_path)
    with backend:
        job = backend.submit("portrait", prompt="x")
        emu.advance(8 * 86_400)
        journal = Journal(tmp_path / "state" / "jobs")
        (entry,) = journal.entries()
        # For this machine too it was long ago: of a new job a 404 is believed only after a while.
        journal.write(entry, submitted_at="2026-01-01T00:00:00.000000+00:00")
        result = backend.resume(job.id)

    assert isinstance(result.exception, JobExpired)
    assert [entry.state for entry in journal.entries()] == ["EXPIRED"]


def test_a_job_whose_entry_cannot_be_written_is_not_submitted(emu, tmp_path):
    """A full or read-only disk costs nothing: what is not written down could be lost."""
    (tmp_path / "state").write_text("not a folder")
    backend, endpoint_id = echo_backend(emu, tmp_path)
    sent = len(emu.requests("POST", f"/jobs/v2/{endpoint_id}/run"))

    with backend:
        result = backend.portrait(prompt="x")

    assert isinstance(result.exception, TransferError)
    assert "Nothing was submitted" in str(result.error)
    assert "COMFYFORM_STATE_DIR" in str(result.error)
    assert len(emu.requests("POST", f"/jobs/v2/{endpoint_id}/run")) == sent


def test_a_job_carries_its_key_and_is_found_by_it(emu, tmp_path):
    """Its answer is lost; RunPod has the key in the job's input, and the list says what to do."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    emu.fault(f"/jobs/v2/{endpoint_id}/run", method="POST", cut="after")
    with backend:
        backend.portrait(prompt="x")
        (entry,) = Journal(tmp_path / "state" / "jobs").entries()
        ((job_id, job_input),) = emu.submitted().items()
        assert job_input["journal_key"] == entry.key

        listed = {"requests": [{"id": job_id, "input": job_input}]}
        emu.fault(f"/jobs/v2/{endpoint_id}/requests", status=200, body=listed)
        result = backend.resume(entry.key, timeout_s=2.0)

    assert result.job_id == job_id
    assert isinstance(result.exception, WaitTimeout)
    assert Journal(tmp_path / "state" / "jobs").find(job_id) is not None


def test_a_job_that_cannot_be_found_says_what_to_do(emu, tmp_path):
    """Neither expired nor written as such: it may be there."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    emu.fault(f"/jobs/v2/{endpoint_id}/run", method="POST", cut="after")
    with backend:
        backend.portrait(prompt="x")
        (entry,) = Journal(tmp_path / "state" / "jobs").entries()
        result = backend.resume(entry.key)

    assert isinstance(result.exception, NotFound)
    assert f"journal_key is {entry.key}" in str(result.error)
    assert [entry.state for entry in Journal(tmp_path / "state" / "jobs").entries()] == ["UNKNOWN"]


@pytest.mark.slow
def test_nothing_is_written_for_a_job_that_is_not_known(emu, tmp_path):
    """A name that is not an id is refused; of one that RunPod does not know, nothing stays."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    victim = tmp_path / "victim.json"
    victim.write_text("{}")
    before = len(emu.requests("GET", f"/jobs/v2/{endpoint_id}/*"))
    with backend:
        for name in ("../../victim", "../health", "", "a/b", "x\0", "a b", "\ud83d"):
            for call in (backend.resume, backend.status, backend.cancel):
                with pytest.raises(InvalidArgument, match="is not a job id"):
                    call(name)
        assert len(emu.requests("GET", f"/jobs/v2/{endpoint_id}/*")) == before
        assert isinstance(backend.resume("unknown-u1").exception, JobExpired)

    assert victim.read_text() == "{}"
    assert Journal(tmp_path / "state" / "jobs").entries() == []


# --- settings and health -----------------------------------------------------


@pytest.mark.parametrize("missing", ["RUNPOD_API_KEY", "RUNPOD_ENDPOINT_ID"])
def test_a_missing_setting_is_named_at_once(missing):
    """Before anything is sent, by its variable."""
    env = {"RUNPOD_API_KEY": "k", "RUNPOD_ENDPOINT_ID": "e"}
    del env[missing]

    with pytest.raises(MissingSetting, match=f"{missing} is not set"):
        get_backend("runpod", settings=Settings.from_env(env))


def test_health_wakes_nobody(emu, tmp_path):
    """An endpoint that sleeps is healthy, and asking starts no worker and no job."""
    backend, endpoint_id = echo_backend(emu, tmp_path)

    with backend:
        health = backend.health_check()

    assert (health.healthy, health.error) == (True, None)
    assert health.details["jobs"]["inQueue"] == 0
    assert emu.state()["workers"] == []
    assert endpoint_id in str(health.details)


def test_an_unhealthy_endpoint_says_why(emu, tmp_path):
    """Paused, throttled and unknown each have their own sentence."""
    backend, endpoint_id = echo_backend(emu, tmp_path)
    lines = []
    with backend:
        backend.submit("portrait", prompt="x")
        throttled = backend.health_check()
        lines.append(throttled.error)
        emu.rest("PATCH", f"/serverless/{endpoint_id}", {"workers": {"min": 0, "max": 0}})
        lines.append(backend.health_check().error)
        emu.rest("DELETE", f"/serverless/{endpoint_id}")
        lines.append(backend.health_check().error)

    assert ["throttled" in str(lines[0]), "paused" in str(lines[1]), "not found" in str(lines[2])] == [
        True
    ] * 3
    assert "1 waiting and no worker has started" in throttled.details["note"]


@pytest.mark.parametrize(
    ("workers", "jobs", "endpoint", "message", "note"),
    [
        ({}, {}, {}, None, None),
        ({"initializing": 1, "unhealthy": 2}, {"inQueue": 3}, {}, None, None),
        ({"unhealthy": 2}, {}, {}, "are unhealthy. Their logs in RunPod's console say why.", None),
        ({"throttled": 2}, {}, {}, "are throttled: RunPod has no free machine", None),
        ({"idle": 1}, {}, {"workers": {"max": 0}}, "is paused", None),
        (
            {},
            {"inQueue": 3},
            {},
            None,
            "3 waiting and no worker has started; other endpoints may have used up",
        ),
    ],
)
def test_counts_become_a_verdict_with_its_reason(workers, jobs, endpoint, message, note):
    """Unhealthy, throttled, paused, the account's quota; an endpoint that sleeps, or wakes up, is healthy."""
    health = judge("ep", {"workers": workers, "jobs": jobs}, endpoint)

    assert health.healthy is (message is None)
    assert (message or "") in (health.error or "")
    assert (note or "") in health.details.get("note", "")


def test_flows_need_no_settings(emu, http, tmp_path):
    """A program may put a backend together from plain values."""
    plane = JobPlane(emu.url("jobs"), Secret("rpa_wrong"), retry=Retry(attempts=1))
    flows = RunPodBackend(plane, "nope", journal=Journal(tmp_path))

    health: Flow[Any] = flows.health_check()

    assert "invalid api key" in str(http.run(health).error)
