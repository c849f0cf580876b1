"""The RunPod backend on the emulator: files of every size, the journal, health and its reasons."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import (
    Backend,
    GeneratedFile,
    InvalidArgument,
    JobExpired,
    MissingSetting,
    Settings,
    TransferError,
    Unavailable,
    get_backend,
)
from backend.drivers import Http
from backend.errors import HashMismatch, JobFailed
from backend.flow import Flow, Retry
from backend.jobs import JobPlane
from backend.journal import Journal
from backend.request import read
from backend.runpod import RunPodBackend
from backend.runpod_inputs import pack
from backend.runpod_outputs import collect
from backend.s3 import VolumeS3
from backend.settings import Secret
from tests.emulation import Emulator
from tests.worker_endpoint import Studio

SHA = hashlib.sha256


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as http:
        yield http


def volume_of(emu: Emulator) -> tuple[VolumeS3, Path]:
    """A volume over S3, and its folder."""
    body = {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}
    volume_id = str(emu.rest("POST", "/network-volumes", body).json()["id"])
    secret = Secret(emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"])
    s3 = VolumeS3(emu.url("s3"), volume_id, emu.env["RUNPOD_S3_ACCESS_KEY_ID"], secret)
    return s3, emu.volume_dir(volume_id)


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


# --- the volume over S3 ------------------------------------------------------


def test_a_file_goes_to_the_volume_and_back(emu, http, tmp_path):
    """Signed by our own few lines, accepted by an S3 that checks: names with spaces and umlauts too."""
    s3, folder = volume_of(emu)
    source = tmp_path / "a"
    source.write_bytes(b"film" * 100_000)
    sha256 = SHA(source.read_bytes()).hexdigest()
    key = "inputs/ü b#1.mp4"

    before = http.run(s3.has(key, 400_000))
    http.run(s3.put(source, key, size_bytes=400_000, sha256=sha256))
    after = http.run(s3.has(key, 400_000))
    got = http.run(s3.get(key, tmp_path / "b", sha256=sha256))

    assert (before, after, got.sha256) == (False, True, sha256)
    assert (folder / key).read_bytes() == source.read_bytes()


def test_damage_on_the_way_from_the_volume_is_refused(emu, http, tmp_path):
    """A flipped bit is seen, and nothing is written."""
    s3, folder = volume_of(emu)
    (folder / "outputs").mkdir()
    (folder / "outputs" / "a").write_bytes(b"0123456789")
    emu.fault("/s3/*/outputs/a", method="GET", corrupt=3, times=0)

    with pytest.raises(HashMismatch):
        http.run(s3.get("outputs/a", tmp_path / "a", sha256=SHA(b"0123456789").hexdigest()))

    assert not (tmp_path / "a").exists()


# --- how files travel up -----------------------------------------------------


def packed(http: Http, volume: VolumeS3 | None, **given: Any) -> Any:
    return http.run(pack(read("lipsync", given), "runpod ep", volume))


def test_small_inputs_travel_inside_the_job(http, tmp_path):
    """Each once, by content, with its sha256; the argument names it."""
    face = tmp_path / "face.png"
    face.write_bytes(b"png")

    job = packed(http, None, portrait_image=face, audio=face)

    name = f"comfyform/{SHA(b'png').hexdigest()[:16]}_face.png"
    assert job.params == {"portrait_image": name, "audio": name}
    assert job.inputs == [
        {"name": name, "sha256": SHA(b"png").hexdigest(), "data": base64.b64encode(b"png").decode()}
    ]


def test_a_large_input_travels_over_the_volume_once(emu, http, tmp_path):
    """Over the limit of a job it is put there over S3; the second time it is found there."""
    s3, folder = volume_of(emu)
    big = tmp_path / "big.wav"
    big.write_bytes(bytes(8_000_000))

    job = packed(http, s3, portrait_image="a.png", audio=big)
    again = packed(http, s3, portrait_image="a.png", audio=big)

    (entry,) = job.inputs
    assert "data" not in entry
    assert (folder / entry["volume_path"]).stat().st_size == 8_000_000
    assert again == job
    assert len(emu.requests("PUT", "/s3/*")) == 1


def test_a_large_input_without_a_volume_says_the_ways_out(http, tmp_path):
    """Size, limit and what to set, before anything is sent."""
    big = tmp_path / "big.wav"
    big.write_bytes(bytes(8_000_000))

    with pytest.raises(InvalidArgument, match=r"10\.7 MB as base64.*of 10 MB.*RUNPOD_S3_.*https://"):
        packed(http, None, portrait_image="a.png", audio=big)


def test_what_lies_on_the_volume_does_not_travel(http, tmp_path):
    """A file of an earlier job of the same endpoint is named by its place there."""
    speech = GeneratedFile(
        type="audio", filename="s.flac", sha256="ab" * 32, origin="runpod ep", origin_path="outputs/d/s.flac"
    )

    job = packed(http, None, portrait_image="https://h/p.png?x=1", audio=speech)

    assert [sorted(entry) for entry in job.inputs] == [["name", "url"], ["name", "volume_path"]]
    assert job.inputs[1]["volume_path"] == "outputs/d/s.flac"


def test_what_another_backend_holds_is_sent_from_here_or_refused(http, tmp_path):
    """A file of the local ComfyUI travels from its copy here; without one nobody can fetch it."""
    copy = tmp_path / "s.flac"
    copy.write_bytes(b"flac")
    there = GeneratedFile(
        type="audio",
        filename="s.flac",
        remote_url="http://127.0.0.1:8188/view?filename=s.flac",
        origin="local http://127.0.0.1:8188",
        origin_path="s.flac [output]",
    )
    here = GeneratedFile(type="audio", filename="s.flac", local_path=copy, origin=there.origin)

    assert "data" in packed(http, None, portrait_image="a.png", audio=here).inputs[0]
    with pytest.raises(InvalidArgument, match="Give the call that makes it an output_path"):
        packed(http, None, portrait_image="a.png", audio=there)


# --- how results come back ---------------------------------------------------


def collected(http: Http, output: Any, tmp_path: Path, **options: Any) -> Any:
    given: dict[str, Any] = {
        "output_path": tmp_path / "out.png",
        "spare_folder": tmp_path / "spare",
        "origin": "runpod ep",
        "volume": None,
    }
    return http.run(collect(output, **(given | options)))


def file(name: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"type": "image", "filename": name, "size_bytes": 3, "sha256": SHA(b"png").hexdigest(), **more}


INLINE = base64.b64encode(b"png").decode()


def test_results_arrive_by_each_way(emu, http, tmp_path):
    """Inline, on the volume and by an address: each checked against its sha256 and in its place."""
    s3, folder = volume_of(emu)
    for name in ("b.png", "c.png"):
        (folder / name).write_bytes(b"png")
    output = {"files": [file("a.png", data=INLINE), file("b.png", volume_path="b.png")]}

    result = collected(http, output, tmp_path, volume=s3)

    assert result.failure is None
    assert [made.local_path for made in result.files] == [tmp_path / "out.png", tmp_path / "out-2.png"]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("out*"))] == [b"png", b"png"]
    assert [(made.origin, made.origin_path) for made in result.files] == [("", None), ("runpod ep", "b.png")]


def test_answers_of_other_workers_are_read(http, tmp_path):
    """The origin's handlers and RunPod's worker-comfyui have shapes of their own."""
    origins = {
        "files": [{"type": "image", "filename": "a.png", "data": INLINE, "encoding": "base64", "size": 3}]
    }
    foreign = {"images": [{"filename": "b.png", "type": "base64", "data": f"data:image/png;base64,{INLINE}"}]}

    for output in (origins, foreign):
        result = collected(http, output, tmp_path)
        assert (result.files[0].sha256, result.failure) == (SHA(b"png").hexdigest(), None)


def test_a_result_that_cannot_be_fetched_says_where_it_is(http, tmp_path):
    """The job went well and is paid: its file is named, and what to set to get it."""
    output = {"files": [file(volume_path="outputs/d/a.png", size_bytes=9_000_000)]}

    result = collected(http, output, tmp_path)

    assert isinstance(result.failure, TransferError)
    assert "9.0 MB" in str(result.failure)
    assert "inv jobs.wait" in str(result.failure)
    assert result.files[0].origin_path == "outputs/d/a.png"


@pytest.mark.parametrize("data", ["!!!", base64.b64encode(b"evil").decode()])
def test_broken_inline_bytes_are_refused(http, tmp_path, data):
    """Neither broken base64 nor other bytes than announced become a file."""
    result = collected(http, {"files": [file(data=data)]}, tmp_path)

    assert isinstance(result.failure, TransferError)
    assert not (tmp_path / "out.png").exists()


def test_no_file_is_no_success(http, tmp_path):
    """A job that ended well and gave nothing is not reported as if it had."""
    with pytest.raises(JobFailed, match="gave no file"):
        collected(http, {"files": []}, tmp_path)


def test_inline_results_without_a_place_are_kept_anyway(http, tmp_path):
    """Bytes that came inside the answer exist nowhere else."""
    result = collected(http, {"files": [file(data=INLINE)]}, tmp_path, output_path=None)

    assert result.files[0].local_path == tmp_path / "spare" / "a.png"


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
        result = backend.portrait(prompt="x", timeout_s=0.3)

    (path,) = (tmp_path / "state" / "jobs").glob("*.json")
    (entry,) = Journal(path.parent).entries()
    assert (entry.state, entry.job_id) == ("CANCELLED", result.job_id)
    assert emu.env["RUNPOD_API_KEY"] not in path.read_text()


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


def echo_backend_again(backend: Backend) -> Backend:
    """A second client of the same endpoint, as another process would make it."""
    return Backend(backend.flows)


def test_a_job_whose_result_is_gone_is_written_down(emu, tmp_path):
    """Resuming too late says so, and so does the list from then on."""
    backend, _ = echo_backend(emu, tmp_path)
    with backend:
        job = backend.submit("portrait", prompt="x")
        emu.advance(8 * 86_400)
        result = backend.resume(job.id)

    assert isinstance(result.exception, JobExpired)
    assert [entry.state for entry in Journal(tmp_path / "state" / "jobs").entries()] == ["EXPIRED"]


def test_a_journal_that_cannot_be_written_stops_no_job(tmp_path, caplog):
    """A full or read-only disk is logged; the job matters more."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    journal = Journal(blocked / "jobs")

    entry = journal.begin("portrait", "ep", seed=1, output_path=None, params={})

    assert entry.state == "SUBMITTING"
    assert "cannot be written" in caplog.text


def test_old_entries_of_ended_jobs_are_dropped(tmp_path):
    """What is still open stays, however old."""
    journal = Journal(tmp_path)
    for number in range(6):
        entry = journal.begin("portrait", "ep", seed=number, output_path=None, params={})
        journal.write(entry, state="IN_QUEUE" if number == 0 else "COMPLETED")

    journal.prune(keep=2)

    assert len(journal.entries()) == 3
    assert "IN_QUEUE" in [entry.state for entry in journal.entries()]


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
    said = []
    with backend:
        backend.submit("portrait", prompt="x")
        said.append(backend.health_check().error)
        emu.rest("PATCH", f"/serverless/{endpoint_id}", {"workers": {"min": 0, "max": 0}})
        said.append(backend.health_check().error)
        emu.rest("DELETE", f"/serverless/{endpoint_id}")
        said.append(backend.health_check().error)

    assert ["throttled" in str(said[0]), "paused" in str(said[1]), "not found" in str(said[2])] == [True] * 3


def test_flows_need_no_settings(emu, http, tmp_path):
    """A program may put a backend together from plain values."""
    plane = JobPlane(emu.url("jobs"), Secret("rpa_wrong"), retry=Retry(attempts=1))
    flows = RunPodBackend(plane, "nope", journal=Journal(tmp_path))

    health: Flow[Any] = flows.health_check()

    assert "invalid api key" in str(http.run(health).error)
