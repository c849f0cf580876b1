"""A volume over S3: the gateway's moods are outlived, and what is wrong is said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from backend.errors import (
    AuthError,
    ComfyformError,
    HashMismatch,
    InvalidRequest,
    NotFound,
    SourceMissing,
    TransferError,
    Unavailable,
    VolumeFull,
)
from backend.flow.http_driver import Http
from backend.settings import Secret, Settings
from ops.models.volume_layout import quarantine_path
from ops.stores.open import open_store
from ops.stores.s3_client import Bucket
from tests.support.emulation import Emulator
from tests.support.ops_places import serve
from tests.support.ops_shelf import LOCAL, PART, Shelf
from tests.support.small_server import Answer, Seen, serving


@pytest.fixture
def shelf(emu: Emulator, tmp_path: Path) -> Iterator[Shelf]:
    """Yield an empty volume and somebody with a file."""
    with Http() as http:
        yield Shelf(emu, http, tmp_path)


@pytest.mark.slow
def test_a_repeated_token_does_not_end_the_list(shelf: Shelf):
    """Files beyond the first page are listed although the gateway gives its token twice."""
    (shelf.folder / "models/loras").mkdir(parents=True)
    for number in range(2100):
        (shelf.folder / f"models/loras/{number:04}.pt").touch()
    (shelf.folder / "models/loras" / os.fsdecode(b"bad\xff.pt")).touch()
    shelf.emu.set(s3_repeat_token=True)

    found = shelf.bucket().list("models/")

    assert len(found) == 2101
    shelf.emu.set(s3_repeat_token=False)


NAMES = ("models/a.pt", "models/b.pt", "models/c.pt")


def listing(names: Iterable[str], token: str | None) -> Answer:
    """Answer with a page of a listing; with a token, there is more."""
    entries = "".join(
        f"<Contents><Key>{name}</Key><LastModified>2026-11-01T00:00:00Z</LastModified><Size>1</Size></Contents>"
        for name in names
    )
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    body = f"<ListBucketResult>{entries}{more if token else ''}</ListBucketResult>"
    return Answer(body=body.encode(), headers={"content-type": "application/xml"})


def bucket_at(url: str) -> Bucket:
    key = Secret("secret")
    return Bucket(url, "vol1", region="eu-ro-1", access_key_id="id", secret_access_key=key)


def test_a_page_that_comes_again_is_passed_by_its_last_name():
    """The gateway answers a token with the same page and token: the list goes on after the page's names."""

    def answer(request: Seen) -> Answer:
        query = parse_qs(urlsplit(request.path).query)
        if query.get("start-after") == [NAMES[1]]:
            return listing(NAMES[2:], None)
        return listing(NAMES[:2], "again")

    with serving(answer) as server:
        found = bucket_at(server.url).list("models/")

    assert [stored.key for stored in found] == list(NAMES)


def test_a_listing_without_an_end_is_an_error():
    """The gateway gives one page for ever, whatever it is asked: that is an error, not an endless loop."""
    calls = iter(range(10))

    def answer(_: Seen) -> Answer:
        # A client that goes on all the same gets an end, so that this test fails instead of hanging.
        return listing(NAMES, "again" if next(calls, None) is not None else None)

    with (
        serving(answer) as server,
        pytest.raises(TransferError, match=r"The listing of models/ on volume vol1 does not end\."),
    ):
        bucket_at(server.url).list("models/")


@pytest.mark.slow
def test_a_wrong_hash_never_goes_up(shelf: Shelf):
    """The local file is hashed before its first part is sent."""
    with pytest.raises(HashMismatch, match="instead of 0000"):
        shelf.store().provision([shelf.wanted(sha256="0" * 64)])

    assert shelf.files() == []


def test_a_local_file_that_is_not_there(shelf: Shelf):
    """The error names the folder that was looked into and the setting."""
    with pytest.raises(SourceMissing, match="COMFYUI_MODELS_DIR"):
        shelf.store().provision([shelf.wanted(source="local:loras/none.pt")])


def test_what_does_not_fit_is_refused_before_the_first_byte(shelf: Shelf):
    """The gateway does not look for room, so this does."""
    with pytest.raises(VolumeFull, match="1,000 are free"):
        shelf.store(capacity_bytes=1000).provision([shelf.local])

    assert shelf.files() == []


@pytest.mark.slow
def test_a_volume_that_is_full_all_the_same(shelf: Shelf):
    """When the gateway says so in the middle, it is the same error."""
    shelf.emu.set(s3_volume_bytes=3 * PART)

    with pytest.raises(ComfyformError) as caught:
        shelf.store().provision([shelf.local])
    shelf.emu.set(s3_volume_bytes=0)

    assert isinstance(caught.value, VolumeFull)
    assert not (shelf.folder / LOCAL).exists()


@pytest.mark.slow
def test_keys_and_names_that_are_wrong(shelf: Shelf):
    """Each says which setting to look at."""
    with pytest.raises(AuthError, match="Make S3 keys in RunPod's console"):
        shelf.bucket(secret_access_key=Secret("wrong")).list("models/")
    with pytest.raises(NotFound, match="Volume none not found"):
        shelf.bucket(volume="none").list("models/")
    with pytest.raises(InvalidRequest, match="the volume is asked for its data center"):
        shelf.bucket(region="us-east-1").list("models/")
    with pytest.raises(NotFound) as caught:
        open_store(Settings.from_env(shelf.emu.env), shelf.http, transport="s3", volume_id="none")
    assert "Check RUNPOD_VOLUME_ID: volume none does not exist" in str(caught.value)


@pytest.mark.slow
def test_verify_reads_records_or_bytes(shelf: Shelf):
    """Without deep no file is read; with deep every byte is; damage of the same size is seen, then mended."""
    store = shelf.store()
    store.provision([shelf.local])
    damaged = bytearray((shelf.folder / LOCAL).read_bytes())
    damaged[-1] ^= 1
    stat = (shelf.folder / LOCAL).stat()
    (shelf.folder / LOCAL).write_bytes(damaged)
    os.utime(shelf.folder / LOCAL, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    (shallow,) = store.verify([shelf.local])
    (deep,) = store.verify([shelf.local], deep=True)
    (mended,) = store.provision([shelf.local])

    assert (shallow["ok"], deep["ok"]) == (True, False)
    assert mended["status"] == "fetched"
    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()


@pytest.mark.slow
def test_a_record_never_speaks_of_the_file_after_it(shelf: Shelf):
    """A run that ends between a new file and its record leaves none, not the record of the older one."""
    first = serve(shelf.emu, seed="first")
    store = shelf.store()
    store.provision([first.wanted()])
    second = serve(shelf.emu, seed="second")
    shelf.emu.fault("/s3/*records*", method="PUT", status=500, times=0)
    with pytest.raises(Unavailable):
        store.provision([second.wanted()])
    shelf.emu.control("DELETE", "/faults")

    (checked,) = store.verify([first.wanted()])
    (again,) = store.provision([second.wanted()])

    assert (checked["ok"], checked["sha256"]) == (False, None)
    assert again["status"] == "kept"


@pytest.mark.slow
def test_a_broken_read_goes_on(shelf: Shelf):
    """A connection that breaks in the middle of a deep look is taken up where it broke."""
    store = shelf.store()
    store.provision([shelf.local])
    shelf.emu.fault("/s3/*mine.safetensors", method="GET", cut=2 * PART)

    (deep,) = store.verify([shelf.local], deep=True)

    assert deep["ok"]


@pytest.mark.slow
def test_remove_leaves_nothing_of_a_file(shelf: Shelf):
    """Not what an attempt of ours had sent of it, nor what a worker put into quarantine; others' stays."""
    others = shelf.bucket().begin_upload(LOCAL)
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=2, status=500, times=0)
    with pytest.raises(ComfyformError):
        shelf.store().provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")
    wrong = shelf.folder / quarantine_path(LOCAL, "0" * 64)
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"x")
    uploads = shelf.files_of_uploads()

    removal = shelf.store().remove([LOCAL])

    assert (removal.removed, removal.missing) == ((), (LOCAL,))
    assert (uploads, shelf.files_of_uploads()) == (2, 1)
    assert shelf.bucket().parts(LOCAL, others) == {}
    assert [path for path in shelf.files() if not path.startswith(".s3compat_uploads/")] == []


@pytest.mark.slow
def test_remove_deletes_one_by_one(shelf: Shelf):
    """RunPod has no DeleteObjects; what is not there is said."""
    store = shelf.store()
    store.provision([shelf.local])

    removal = store.remove([LOCAL, "models/loras/none.pt"])

    assert (removal.removed, removal.missing) == ((LOCAL,), ("models/loras/none.pt",))
    assert shelf.files() == []
    assert store.inventory().files == {}
