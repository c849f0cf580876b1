"""A volume over S3: the gateway's moods are outlived, and an upload goes on where it was."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from backend.contract import WantedFile
from backend.drivers import Http
from backend.errors import (
    AuthError,
    ComfyformError,
    Forbidden,
    HashMismatch,
    NotFound,
    SourceMissing,
    TransferError,
    Unavailable,
    VolumeFull,
)
from backend.flow import Retry
from backend.settings import Secret
from ops.bucket import Bucket
from ops.layout import record_path, upload_path
from ops.volume import S3Store
from tests.emulation import Emulator
from tests.ops_places import PATH, QUICK, serve, sources_of

PART = 256 * 1024
SIZE = 5 * PART + 77
LOCAL = "models/loras/mine.safetensors"


class Shelf:
    """A volume with an S3 store on it, and a local models folder with one file."""

    def __init__(self, emu: Emulator, http: Http, root: Path) -> None:
        volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
        self.emu = emu
        self.id = str(emu.rest("POST", "/network-volumes", volume).json()["id"])
        self.folder = emu.volume_dir(self.id)
        self.staging = root / "staging"
        self.mine = root / "models" / "loras" / "mine.safetensors"
        self.mine.parent.mkdir(parents=True)
        self.mine.write_bytes(random.Random(7).randbytes(SIZE))
        self.sha256 = hashlib.sha256(self.mine.read_bytes()).hexdigest()
        self.local = self.wanted(sha256=self.sha256)
        self.http = http
        self.root = root

    def wanted(self, **changes: Any) -> WantedFile:
        """Want the local file."""
        return cast("WantedFile", {"path": LOCAL, "source": "local:loras/mine.safetensors"} | changes)

    def bucket(self, **options: Any) -> Bucket:
        """Open the bucket, without much patience."""
        keywords: dict[str, Any] = {
            "region": "eu-ro-1",
            "access_key_id": self.emu.env["RUNPOD_S3_ACCESS_KEY_ID"],
            "secret_access_key": Secret(self.emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"]),
            "retry": Retry(attempts=4, first_s=0.01, most_s=0.02),
        }
        return Bucket(self.emu.url("s3"), options.pop("volume", self.id), **(keywords | options))

    def store(self, **options: Any) -> S3Store:
        """Open the store, with small parts."""
        return S3Store(
            options.pop("bucket", None) or self.bucket(),
            sources_of(self.emu, self.http),
            staging=self.staging,
            local_models=self.root / "models",
            pace=QUICK,
            part_bytes=PART,
            **options,
        )

    def files(self) -> list[str]:
        """List what is on the volume, but for records."""
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file()
            and not path.relative_to(self.folder).as_posix().startswith(".comfyform/records")
        )


@pytest.fixture
def shelf(emu: Emulator, tmp_path: Path) -> Iterator[Shelf]:
    """Give an empty volume and somebody with a file."""
    with Http() as http:
        yield Shelf(emu, http, tmp_path)


def test_a_local_file_goes_up_in_parts(shelf: Shelf):
    """It arrives whole with its record, and no note or part is left."""
    (answer,) = shelf.store().provision([shelf.local])

    assert (answer["status"], answer["sha256"]) == ("fetched", shelf.sha256)
    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert shelf.files() == [LOCAL]
    assert json.loads((shelf.folder / record_path(LOCAL)).read_bytes())["sha256"] == shelf.sha256
    assert shelf.store().provision([shelf.local])[0]["status"] == "kept"


def test_a_file_from_the_internet_goes_through_here(shelf: Shelf):
    """It is fetched, checked and sent; nothing of it stays on this machine."""
    served = serve(shelf.emu, size=SIZE)

    (answer,) = shelf.store().provision([served.wanted()])

    assert answer["fetched_bytes"] == served.size_bytes
    assert hashlib.sha256((shelf.folder / PATH).read_bytes()).hexdigest() == served.sha256
    assert [path for path in (shelf.staging / "models").rglob("*") if path.is_file()] == []


FAULTS: dict[str, dict[str, Any]] = {
    "AccessDenied now and then": {"path": "/s3/*", "status": 403, "times": 2},
    "502 on a part": {"path": "/s3/*", "method": "PUT", "skip": 1, "status": 502, "times": 2},
    "a part cut": {"path": "/s3/*", "method": "PUT", "skip": 2, "cut": "before"},
    "a part that arrives and is not answered": {"path": "/s3/*", "method": "PUT", "skip": 2, "cut": "after"},
    "500 on complete": {"path": "/s3/*mine.safetensors", "method": "POST", "skip": 1, "status": 500},
    "a complete that works and is not answered": {
        "path": "/s3/*mine.safetensors",
        "method": "POST",
        "skip": 1,
        "cut": "after",
    },
    "a complete that never arrives": {
        "path": "/s3/*mine.safetensors",
        "method": "POST",
        "skip": 1,
        "cut": "before",
    },
    "500 on the record": {"path": "/s3/*records*", "method": "PUT", "status": 500},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_passing_fault_is_outlived(shelf: Shelf, fault: dict[str, Any]):
    """The file arrives, and exactly once."""
    shelf.emu.fault(**fault)

    shelf.store().provision([shelf.local])

    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert shelf.files() == [LOCAL]


LASTING: dict[str, tuple[dict[str, Any], type[ComfyformError]]] = {
    "AccessDenied for ever": ({"path": "/s3/*", "status": 403, "times": 0}, Forbidden),
    "503 for ever": ({"path": "/s3/*", "status": 503, "times": 0}, Unavailable),
    "never an answer": ({"path": "/s3/*", "cut": "before", "times": 0}, Unavailable),
    "parts are refused": (
        {"path": "/s3/*", "method": "PUT", "skip": 1, "status": 500, "times": 0},
        Unavailable,
    ),
}


@pytest.mark.parametrize(("fault", "error"), LASTING.values(), ids=LASTING.keys())
@pytest.mark.slow
def test_a_lasting_fault_is_one_error(shelf: Shelf, fault: dict[str, Any], error: type[ComfyformError]):
    """Nothing has the file's name, and the next run goes on with the parts that arrived."""
    shelf.emu.fault(**fault)

    with pytest.raises(error):
        shelf.store().provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")

    assert not (shelf.folder / LOCAL).exists()
    assert shelf.store().provision([shelf.local])[0]["status"] == "fetched"


def test_an_upload_goes_on_where_it_was(shelf: Shelf):
    """Parts that arrived are not sent again, and nobody else's upload is dropped."""
    others = shelf.bucket().begin_upload("models/loras/others.safetensors")
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")
    before = len(shelf.emu.requests("PUT", "/s3/*mine.safetensors"))

    (answer,) = shelf.store().provision([shelf.local])
    sent = len(shelf.emu.requests("PUT", "/s3/*mine.safetensors")) - before

    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert answer["fetched_bytes"] <= SIZE - 3 * PART
    assert sent <= 3
    assert shelf.bucket().parts("models/loras/others.safetensors", others) == {}


def test_an_upload_of_other_bytes_is_begun_anew(shelf: Shelf):
    """When the local file changed meanwhile, the old parts are ours to drop."""
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")
    shelf.mine.write_bytes(random.Random(8).randbytes(SIZE))
    changed = hashlib.sha256(shelf.mine.read_bytes()).hexdigest()

    shelf.store().provision([shelf.wanted(sha256=changed)])

    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert shelf.files() == [LOCAL]


def test_a_fetch_that_was_staged_is_not_fetched_again(shelf: Shelf):
    """A stop between fetch and upload costs neither."""
    served = serve(shelf.emu, size=SIZE)
    shelf.emu.fault("/s3/*", method="PUT", status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([served.wanted()])
    shelf.emu.control("DELETE", "/faults")

    (answer,) = shelf.store().provision([served.wanted()])

    assert answer["fetched_bytes"] == 0
    assert hashlib.sha256((shelf.folder / PATH).read_bytes()).hexdigest() == served.sha256


def test_a_repeated_token_does_not_end_the_list(shelf: Shelf):
    """Files beyond the first page are listed although the gateway gives its token twice."""
    (shelf.folder / "models/loras").mkdir(parents=True)
    for number in range(2100):
        (shelf.folder / f"models/loras/{number:04}.pt").touch()
    shelf.emu.set(s3_repeat_token=True)

    found = shelf.bucket().list("models/")

    assert len(found) == 2100
    shelf.emu.set(s3_repeat_token=False)


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


def test_a_volume_that_is_full_all_the_same(shelf: Shelf):
    """When the gateway says so in the middle, it is the same error."""
    shelf.emu.set(s3_volume_bytes=3 * PART)

    with pytest.raises(ComfyformError) as caught:
        shelf.store().provision([shelf.local])
    shelf.emu.set(s3_volume_bytes=0)

    assert isinstance(caught.value, VolumeFull)
    assert not (shelf.folder / LOCAL).exists()


def test_keys_and_names_that_are_wrong(shelf: Shelf):
    """Each says which setting to look at."""
    with pytest.raises(AuthError, match="Make S3 keys in RunPod's console"):
        shelf.bucket(secret_access_key=Secret("wrong")).list("models/")
    with pytest.raises(NotFound, match="There is no volume none"):
        shelf.bucket(volume="none").list("models/")


def test_verify_reads_records_or_bytes(shelf: Shelf):
    """Without deep no file is read; with deep every byte is, and damage of the same size is seen."""
    store = shelf.store()
    store.provision([shelf.local])
    damaged = bytearray((shelf.folder / LOCAL).read_bytes())
    damaged[-1] ^= 1
    stat = (shelf.folder / LOCAL).stat()
    (shelf.folder / LOCAL).write_bytes(damaged)
    import os

    os.utime(shelf.folder / LOCAL, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    (shallow,) = store.verify([shelf.local])
    (deep,) = store.verify([shelf.local], deep=True)

    assert (shallow["ok"], deep["ok"]) == (True, False)


def test_a_broken_read_goes_on(shelf: Shelf):
    """A connection that breaks in the middle of a deep look is taken up where it broke."""
    store = shelf.store()
    store.provision([shelf.local])
    shelf.emu.fault("/s3/*mine.safetensors", method="GET", cut=2 * PART)

    (deep,) = store.verify([shelf.local], deep=True)

    assert deep["ok"]


def test_remove_deletes_one_by_one(shelf: Shelf):
    """RunPod has no DeleteObjects; what is not there is said."""
    store = shelf.store()
    store.provision([shelf.local])

    removal = store.remove([LOCAL, "models/loras/none.pt"])

    assert (removal.removed, removal.missing) == ((LOCAL,), ("models/loras/none.pt",))
    assert shelf.files() == []
    assert store.inventory().files == {}


def test_a_damaged_part_is_sent_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """The gateway's ETag of a part is compared with what was sent."""
    sent: list[int] = []
    send = Bucket.upload_part

    def once_wrong(self: Bucket, key: str, upload_id: str, number: int, body: Any) -> str:
        sent.append(number)
        etag = send(self, key, upload_id, number, body)
        return "0" * 32 if sent.count(2) == 1 and number == 2 else etag

    monkeypatch.setattr(Bucket, "upload_part", once_wrong)

    shelf.store().provision([shelf.local])

    assert sent.count(2) == 2
    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()


PROGRAM = """
import json, sys
from pathlib import Path
from backend.contract import WantedFile
from backend.drivers import Http
from tests.emulation import Emulator
from tests.ops_places import settings_of
from ops.stores import open_store
import ops.volume
ops.volume.S3Store.__init__.__kwdefaults__["part_bytes"] = {part}
env, volume, wanted = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
from backend.settings import Settings
with Http() as http:
    store = open_store(Settings.from_env(env), http, transport="s3", volume_id=volume)
    print(store.provision([wanted])[0]["fetched_bytes"])
"""


@pytest.mark.slow
def test_a_killed_upload_goes_on(shelf: Shelf):
    """After kill -9 in the middle of the parts, the next run sends the others."""
    env = shelf.emu.env | {
        "COMFYUI_MODELS_DIR": str(shelf.root / "models"),
        "COMFYFORM_STATE_DIR": str(shelf.root / "state"),
    }
    command = [sys.executable, "-c", PROGRAM.format(part=PART)]
    arguments = [json.dumps(env), shelf.id, json.dumps(shelf.local)]
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, delay_s=30, times=0)
    root = Path(__file__).parents[1]
    first = subprocess.Popen([*command, *arguments], cwd=root, stdout=subprocess.PIPE)
    while len(shelf.emu.requests("PUT", "/s3/*mine.safetensors")) < 4:
        assert first.poll() is None
    first.kill()
    first.communicate()
    shelf.emu.control("DELETE", "/faults")

    second = subprocess.run([*command, *arguments], cwd=root, capture_output=True, text=True)

    assert second.stderr == ""
    assert int(second.stdout) <= SIZE - 2 * PART
    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert not (shelf.folder / upload_path(LOCAL)).exists()


def test_an_upload_that_vanishes_is_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """An upload that is reported complete and is not there is an error, not a success."""
    monkeypatch.setattr(Bucket, "complete_upload", lambda *_: None)

    with pytest.raises(TransferError, match="was sent and is not on volume"):
        shelf.store().provision([shelf.local])
