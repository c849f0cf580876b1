"""How files of every size travel to a worker and back, over an emulated volume."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import (
    GeneratedFile,
    InvalidArgument,
    Settings,
    TransferError,
    Unavailable,
)
from backend.errors import ApiError, Forbidden, HashMismatch, JobFailed
from backend.files.volume_s3 import VolumeS3
from backend.files.volume_s3_multipart import put_in_parts
from backend.flow import Reply, Send
from backend.flow.http_driver import Http
from backend.runpod.inputs import pack
from backend.runpod.outputs import collect
from backend.settings import Secret
from backend.verbs.request import read
from tests.support.emulation import Emulator

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


# --- the volume over S3 ------------------------------------------------------


def test_a_file_goes_to_the_volume_and_back(emu, http, tmp_path):
    """Signed by our own few lines, accepted by an S3 that checks: names with spaces and umlauts too."""
    s3, folder = volume_of(emu)
    source = tmp_path / "a"
    source.write_bytes(b"film" * 100_000)
    sha256 = SHA(source.read_bytes()).hexdigest()
    key = "inputs/ü b#1.mp4"

    before = http.run(s3.size_of(key))
    http.run(s3.put(source, key, size_bytes=400_000, sha256=sha256))
    after = http.run(s3.size_of(key))
    got = http.run(s3.get(key, tmp_path / "b", sha256=sha256))

    assert (before, after, got.sha256) == (None, 400_000, sha256)
    assert (folder / key).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("trouble", [None, "a part is cut", "the end's answer is lost"])
def test_a_large_file_goes_in_parts_and_comes_whole(emu, http, tmp_path, trouble):
    """A part that fails is sent again, and no other; a lost answer to the last call is no failure."""
    s3, folder = volume_of(emu)
    source = tmp_path / "film"
    source.write_bytes(bytes(range(256)) * 1000)
    if trouble == "a part is cut":
        emu.fault("/s3/*/inputs/film", method="PUT", skip=1, cut="before")
    if trouble == "the end's answer is lost":
        emu.fault("/s3/*/inputs/film", method="POST", skip=2, cut="after")
    events: list[Any] = []

    http.run(
        put_in_parts(s3, source, "inputs/film", size_bytes=256_000, part_bytes=100_000),
        on_progress=events.append,
    )

    assert (folder / "inputs" / "film").read_bytes() == source.read_bytes()
    assert [event["done_bytes"] for event in events] == [100_000, 200_000, 256_000]
    assert list((folder / ".s3compat_uploads").glob("*")) == []


def test_a_large_file_that_does_not_come_whole_leaves_nothing(emu, http, tmp_path):
    """Its parts are taken back: they would fill the volume unseen."""
    s3, folder = volume_of(emu)
    source = tmp_path / "film"
    source.write_bytes(bytes(250_000))
    emu.fault("/s3/*/inputs/film", method="PUT", skip=2, status=403, times=0)

    with pytest.raises(Forbidden):
        http.run(put_in_parts(s3, source, "inputs/film", size_bytes=250_000, part_bytes=100_000))

    assert not (folder / "inputs" / "film").exists()
    assert list((folder / ".s3compat_uploads").glob("*")) == []


def test_damage_on_the_way_from_the_volume_is_refused(emu, http, tmp_path):
    """A flipped bit is seen, and nothing is written."""
    s3, folder = volume_of(emu)
    (folder / "outputs").mkdir()
    (folder / "outputs" / "a").write_bytes(b"0123456789")
    emu.fault("/s3/*/outputs/a", method="GET", corrupt=3, times=0)

    with pytest.raises(HashMismatch):
        http.run(s3.get("outputs/a", tmp_path / "a", sha256=SHA(b"0123456789").hexdigest()))

    assert not (tmp_path / "a").exists()


def test_the_address_of_a_volume_follows_from_its_data_center():
    """With keys and a volume's id alone, the control plane is asked where it is, once."""
    settings = Settings(
        runpod_api_key=Secret("rpa_1"),
        runpod_rest_url="http://rest/v2",
        runpod_volume_id="vol",
        runpod_s3_access_key_id="user_1",
        runpod_s3_secret_access_key=Secret("rps_1"),
    )
    s3 = VolumeS3.from_settings(settings)
    assert s3 is not None
    requested: list[str] = []

    for _ in range(2):
        flow = s3.size_of("inputs/a b")
        answer: Any = None
        with contextlib.suppress(StopIteration):
            while True:
                step: Any = flow.send(answer)
                requested.append(
                    f"{step.method} {step.url} {'eu-ro-1/s3' in step.headers.get('authorization', '')}"
                )
                answer = Reply(status=200, headers={}, content=b'{"dataCenter": "EU-RO-1"}', url=step.url)

    there = "HEAD https://s3api-eu-ro-1.runpod.io/vol/inputs/a%20b True"
    assert requested == ["GET http://rest/v2/network-volumes/vol False", there, there]


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
    with pytest.raises(InvalidArgument, match="Pass output_path to the call that generates it"):
        packed(http, None, portrait_image="a.png", audio=there)


# --- how results come back ---------------------------------------------------


def collected(http: Http, output: Any, tmp_path: Path, **options: Any) -> Any:
    inputs: dict[str, Any] = {
        "output_path": tmp_path / "out.png",
        "spare_folder": tmp_path / "spare",
        "origin": "runpod ep",
        "volume": None,
        "job_id": "job-1",
    }
    return http.run(collect(output, **(inputs | options)))


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
    assert [created.local_path for created in result.files] == [tmp_path / "out.png", tmp_path / "out-2.png"]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("out*"))] == [b"png", b"png"]
    assert [(created.origin, created.origin_path) for created in result.files] == [
        ("", None),
        ("runpod ep", "b.png"),
    ]


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
    with pytest.raises(JobFailed, match="produced no file"):
        collected(http, {"files": []}, tmp_path)


def test_inline_results_without_a_place_are_kept_anyway(http, tmp_path):
    """Bytes that came inside the answer exist nowhere else."""
    result = collected(http, {"files": [file(data=INLINE)]}, tmp_path, output_path=None)

    assert result.files[0].local_path == tmp_path / "spare" / "a.png"


def test_inline_results_whose_place_is_lost_are_kept_aside(http, tmp_path):
    """The folder became a file while the job ran: the bytes are saved, and the error says where."""
    (tmp_path / "gone").write_text("a file")

    result = collected(
        http, {"files": [file(data=INLINE)]}, tmp_path, output_path=tmp_path / "gone" / "a.png"
    )

    spare = tmp_path / "spare" / "a.png"
    assert isinstance(result.failure, TransferError)
    assert spare.read_bytes() == b"png"
    assert f"Its bytes are kept as {spare}." in str(result.failure)
    assert "`inv jobs.wait job-1 --output-path …`" in str(result.failure)


def test_one_file_that_does_not_come_holds_up_no_other(http, tmp_path):
    """The rest is fetched; each is told with where it is."""
    output = {"files": [file("a.png", url="http://127.0.0.1:9/a.png"), file("b.png", data=INLINE)]}

    with Http(wait=lambda _: None) as impatient:
        result = collected(impatient, output, tmp_path)

    assert isinstance(result.failure, Unavailable)
    assert [created.local_path for created in result.files] == [None, tmp_path / "out-2.png"]
    assert result.files[0].remote_url == "http://127.0.0.1:9/a.png"


@pytest.mark.parametrize(("status", "asks"), [(400, True), (403, False), (413, False)])
def test_the_region_is_learned_from_a_bad_request_only(status: int, asks: bool):
    """400 may mean another region, and costs one more signed request; a refusal costs none."""
    s3 = VolumeS3("https://s3.example", "vol1", "id", Secret("key"))
    flow = s3.put(Path(__file__), "inputs/a", size_bytes=1, sha256="0" * 64)
    next(flow)

    try:
        step = flow.send(Reply(status=status, headers={}, content=b"<Error/>", url="https://s3.example"))
    except ApiError:
        step = None

    assert (isinstance(step, Send) and ".comfyform/region" in step.url) is asks
