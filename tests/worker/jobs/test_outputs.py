"""Outputs on their way out: inline while there is room, then the volume, or all to a bucket."""

import base64
import hashlib
import mimetypes
from datetime import date

import pytest

from backend.errors import NotSupported, TransferError
from backend.settings import Secret
from tests.support.small_server import Answer, serving
from worker.configuration import Bucket
from worker.jobs.outputs import Made, Outlet, copy_durably

TODAY = date(2026, 11, 24)


@pytest.fixture
def output(tmp_path):
    """Make an output of so many bytes."""

    def output(name, size):
        path = tmp_path / "output" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(n % 251 for n in range(size)))
        return Made(path)

    return output


def test_a_small_file_travels_inside_the_answer(output, tmp_path):
    """With all that a client needs to check it."""
    picture = output("a.png", 100)
    content = picture.path.read_bytes()

    sent = Outlet(tmp_path / "none").send([picture], job_id="j", today=TODAY)

    assert sent == [
        {
            "type": "image",
            "filename": "a.png",
            "size_bytes": 100,
            "sha256": hashlib.sha256(content).hexdigest(),
            "data": base64.b64encode(content).decode(),
            "encoding": "base64",
        }
    ]


def test_all_inline_files_together_stay_under_the_limit(output, tmp_path):
    """RunPod refuses an answer that is too large, and then the paid job is lost."""
    (tmp_path / "volume").mkdir()
    outlet = Outlet(tmp_path / "volume", inline_limit_bytes=1000)

    sent = outlet.send(
        [output("a.png", 600), output("b.png", 600), output("c.png", 100)], job_id="j", today=TODAY
    )

    assert [("data" in file, file.get("volume_path")) for file in sent] == [
        (True, None),
        (False, "outputs/2026-11-24/j/b.png"),
        (True, None),
    ]
    assert (tmp_path / "volume" / "outputs/2026-11-24/j/b.png").stat().st_size == 600


def test_a_file_can_be_asked_to_stay_on_the_volume(output, tmp_path):
    """Speech that goes on into a film need not travel through the client."""
    (tmp_path / "volume").mkdir()

    sent = Outlet(tmp_path / "volume").send(
        [output("a.flac", 10)], job_id="sync-1/../x", deliver="volume", today=TODAY
    )

    assert sent[0].get("volume_path") == "outputs/2026-11-24/sync-1____x/a.flac"


def test_without_a_volume_a_large_file_is_refused_with_the_ways_out(output, tmp_path):
    """The one thing that must not happen is a success without the file."""
    with pytest.raises(NotSupported, match=r"film\.mp4 is too large.*Attach a network volume"):
        Outlet(tmp_path / "none", inline_limit_bytes=10).send(
            [output("film.mp4", 100)], job_id="j", today=TODAY
        )


def test_a_copy_appears_whole_or_not_at_all(output, tmp_path):
    """A reader of the volume never sees half a film, and a failed copy leaves nothing."""
    place = tmp_path / "volume" / "film.mp4"
    copy_durably(output("film.mp4", 5000).path, place)
    with pytest.raises(IsADirectoryError):
        copy_durably(tmp_path, tmp_path / "volume" / "other.mp4")

    assert [path.name for path in place.parent.iterdir()] == ["film.mp4"]
    assert place.stat().st_size == 5000


def test_a_volume_that_cannot_be_written_is_named(output, tmp_path):
    """Disk errors are the operator's to mend: the message says where."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "outputs").write_text("a file where a folder should be")

    with pytest.raises(TransferError, match=r"a\.png could not be written to the volume"):
        Outlet(tmp_path / "volume").send([output("a.png", 10)], job_id="j", deliver="volume", today=TODAY)


@pytest.mark.slow
def test_a_bucket_gets_every_file(output, tmp_path, emu, monkeypatch):
    """With a bucket configured even a small file goes there, so that it has a URL."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "EU-RO-1")  # read by boto3, under RunPod's helper
    volume = emu.rest("POST", "/network-volumes", {"name": "b", "size": 10, "dataCenter": "EU-RO-1"}).json()
    bucket = Bucket(
        endpoint_url=emu.env["RUNPOD_S3_URL"],
        access_key_id=emu.env["RUNPOD_S3_ACCESS_KEY_ID"],
        secret_access_key=Secret(emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"]),
        name=volume["id"],
    )
    picture = output("a.png", 100_000)

    (sent,) = Outlet(tmp_path / "none", bucket).send([picture], job_id="j", today=TODAY)

    assert "data" not in sent
    assert f"/{volume['id']}/outputs/2026-11-24/j/a.png?" in sent["url"]
    assert (emu.volume_dir(volume["id"]) / "outputs/2026-11-24/j/a.png").read_bytes() == (
        picture.path.read_bytes()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "media_type"), [("speech.flac", "audio/flac"), ("clip.mkv", "video/x-matroska")]
)
def test_a_bucket_learns_the_media_type_also_from_a_machine_without_a_table(
    output, tmp_path, monkeypatch, name, media_type
):
    """Python's own table asks /etc/mime.types, which a slim image lacks; browsers then download speech."""
    monkeypatch.setattr(mimetypes, "_db", mimetypes.MimeTypes(filenames=()))
    monkeypatch.setattr(mimetypes, "inited", True)
    with serving(lambda _: Answer(headers={"ETag": '"x"'})) as server:
        bucket = Bucket(server.url, "user_x", Secret("rps_secret"), "b")
        Outlet(tmp_path / "none", bucket).send([output(name, 10)], job_id="j", today=TODAY)

    types = [
        value
        for seen in server.seen
        if seen.method == "PUT" and seen.path.partition("?")[0].endswith(name)
        for header, value in seen.headers.items()
        if header.lower() == "content-type"
    ]
    assert types == [media_type]


@pytest.mark.slow
def test_a_bucket_that_refuses_is_named_without_its_key(output, tmp_path, emu):
    """The message says which settings to check; the key is in no message."""
    bucket = Bucket(emu.env["RUNPOD_S3_URL"], "user_x", Secret("rps_secret"), "no-such-bucket")

    with pytest.raises(TransferError, match="Check BUCKET_ENDPOINT_URL") as caught:
        Outlet(tmp_path / "none", bucket).send([output("a.png", 10)], job_id="j", today=TODAY)

    assert "rps_secret" not in str(caught.value)
