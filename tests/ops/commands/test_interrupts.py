"""Ctrl-C within a command on models: it ends at once with one line, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.commands import cleanup as commands_upkeep
from ops.commands import models as commands_models
from ops.commands import registry as commands_registry
from ops.models.volume_layout import record_path
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.ops_desk import HEAD, ROOT, SVD, Desk


@pytest.fixture
def desk(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(emu, tmp_path, capsys)


def interrupt(emu: Emulator, desk: Desk, command: str, method: str, path: str, *, seen: int = 0) -> None:
    """Run a command, press Ctrl-C once a request was asked for, and see it end well."""
    program = [sys.executable, "-m", "invoke", *command.split()]
    process = subprocess.Popen(
        [*program, "--registry", str(desk.registry)],
        cwd=ROOT,
        env={"PATH": "", **emu.env, **desk.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(emu.requests(method, path)) <= seen:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_S)
    emu.control("DELETE", "/faults")

    assert process.returncode == 130
    assert err.splitlines()[-1].startswith(("Interrupted.", "Stopped."))
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_ctrl_c_within_a_lock(emu: Emulator, desk: Desk):
    """Neither a file of this machine that takes minutes to hash nor a slow service is waited for."""
    (desk.models / "loras").mkdir()
    with (desk.models / "loras" / "huge.pt").open("wb") as file:
        file.truncate(1 << 40)
    desk.registry.write_text(HEAD.replace("hf:LeonJoe13/Sonic:Sonic/unet.pth", "local:loras/huge.pt"))
    desk.run(commands_registry.add, SVD, path="vae/x.pt", registry=str(desk.registry))
    emu.control("POST", "/faults", {"match": {"path": "/hub/stabilityai/*"}, "delay_s": 60})
    seen = len(emu.requests("HEAD", "/hub/stabilityai/*"))

    interrupt(emu, desk, "models.lock", "HEAD", "/hub/stabilityai/*", seen=seen)

    assert not desk.registry.with_name("models-registry.lock.yaml").exists()


@pytest.mark.slow
def test_ctrl_c_within_a_prune(emu: Emulator, desk: Desk):
    """What was deleted is gone with its record, the rest is untouched, and the next run deletes it."""
    for number in range(9):
        for path in (f"models/loras/{number}.pt", record_path(f"models/loras/{number}.pt")):
            (desk.volume / path).parent.mkdir(parents=True, exist_ok=True)
            (desk.volume / path).write_bytes(b"x")
    emu.fault("/s3/*models/loras/?.pt", method="DELETE", skip=5, delay_s=8, times=0)
    interrupt(emu, desk, "models.prune --yes --transport s3", "DELETE", "/s3/*/5.pt")
    left = {path.name for path in (desk.volume / "models/loras").iterdir()}
    records = {path.stem for path in (desk.volume / record_path("models/loras/x")).parent.iterdir()}

    pruned = desk.run(commands_upkeep.prune, registry=str(desk.registry), transport="s3", yes=True)

    assert "8.pt" in left  # it is not begun before the sixth is done
    assert records <= left
    assert {Path(done["path"]).name for done in pruned["done"]} == left
    assert [path for path in desk.volume.rglob("*.pt*") if path.is_file()] == []


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_goes_on_later(emu: Emulator, desk: Desk):
    """One Ctrl-C ends a sync in the middle of a file with one line; the next run fetches only the rest."""
    body = {"repo": "LeonJoe13/Sonic", "path": "Sonic/unet.pth", "size_bytes": 40 << 20}
    emu.control("POST", "/hub/files", body)
    emu.fault("/s3/*unet.pth", method="PUT", delay_s=HANG_S, times=0)
    interrupt(emu, desk, "models.sync --yes --transport s3", "PUT", "/s3/*unet.pth")

    synced = desk.run(commands_models.sync, registry=str(desk.registry), transport="s3", yes=True)
    (done,) = synced["done"]
    assert (done["status"], done["fetched_bytes"]) == (
        "fetched",
        0,
    )  # all of it had come before the first part
