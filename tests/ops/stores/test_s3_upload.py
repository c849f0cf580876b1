"""An upload over S3: it arrives whole or not at all, and goes on where it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import (
    ComfyformError,
    Forbidden,
    TransferError,
    Unavailable,
)
from backend.flow.http_driver import Http
from ops.models.volume_layout import record_path
from ops.stores.s3_client import Bucket
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.ops_places import safetensors
from tests.support.ops_shelf import LOCAL, PART, SIZE, Shelf


@pytest.fixture
def shelf(emu: Emulator, tmp_path: Path) -> Iterator[Shelf]:
    """Yield an empty volume and somebody with a file."""
    with Http() as http:
        yield Shelf(emu, http, tmp_path)


@pytest.mark.slow
def test_a_local_file_goes_up_in_parts(shelf: Shelf):
    """It arrives whole with its record, and no note or part is left."""
    (answer,) = shelf.store().provision([shelf.local])

    assert (answer["status"], answer["sha256"]) == ("fetched", shelf.sha256)
    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert shelf.files() == [LOCAL]
    assert json.loads((shelf.folder / record_path(LOCAL)).read_bytes())["sha256"] == shelf.sha256
    assert shelf.store().provision([shelf.local])[0]["status"] == "kept"


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_upload_of_other_bytes_is_begun_anew(shelf: Shelf):
    """When the local file changed meanwhile, the old parts are ours to drop."""
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, status=500, times=0)
    with pytest.raises(Unavailable):
        shelf.store().provision([shelf.local])
    shelf.emu.control("DELETE", "/faults")
    shelf.mine.write_bytes(safetensors(SIZE, seed=8))
    changed = hashlib.sha256(shelf.mine.read_bytes()).hexdigest()

    shelf.store().provision([shelf.wanted(sha256=changed)])

    assert (shelf.folder / LOCAL).read_bytes() == shelf.mine.read_bytes()
    assert shelf.files() == [LOCAL]


@pytest.mark.slow
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
from backend.flow.http_driver import Http
from tests.support.emulation import Emulator
from tests.support.ops_places import settings_of
from ops.stores.open import open_store
import ops.stores.s3
ops.stores.s3.S3Store.__init__.__kwdefaults__["part_bytes"] = {part}
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
    shelf.emu.fault("/s3/*mine.safetensors", method="PUT", skip=3, delay_s=HANG_S, times=0)
    root = Path(__file__).parents[3]
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
    assert shelf.files_of_uploads() == 0


@pytest.mark.slow
def test_an_upload_that_vanishes_is_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """An upload that is reported complete and is not there is an error, not a success."""
    monkeypatch.setattr(Bucket, "complete_upload", lambda *_: None)

    with pytest.raises(TransferError, match="was sent and is not on volume"):
        shelf.store().provision([shelf.local])
