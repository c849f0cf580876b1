"""What ComfyUI prints: quoted in errors and health as plain text, with what failed to import by name."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from backend.comfyui.node_definitions import NodeDefinitions, definitions_path
from backend.validation.printable import plain
from tests.support.emulation import IMAGES, running_emulator
from tests.support.worker_endpoint import Studio, until
from tests.worker.jobs.test_lifetime import comfyui_of, running, slow
from worker.comfyui.import_failures import ImportFailures
from worker.comfyui.log import ProcessLog

PRINTED = (
    b"\x1b[32m[INFO]\x1b[0m VAE load device: cpu\n"
    b"\r  0%|          | 0/20 [00:00<?, ?it/s]"
    b"\r 35%|\xe2\x96\x88\xe2\x96\x88   | 7/20 [00:04<00:08,  1.65it/s]\n"
    b"12it [00:01,  9.61it/s]\n"
    b"Fetching 3 files:  33%|\xe2\x96\x88   | 1/3 [00:01<00:02]\n"
    b"\x1b]0;title\x07\x1b[1m\x1b[33m[WARNING]\x1b[0m 100% sure | maybe\x07\n"
)
FAILED = """\
[WARNING] Traceback (most recent call last):
  File "/comfyui/nodes.py", line 2243, in load_custom_node
    module_spec.loader.exec_module(module)
ModuleNotFoundError: No module named 'comfy_angle'

[WARNING] Cannot import /x/nodes_glsl.py module for custom nodes: No module named 'comfy_angle'
[WARNING] Error while calling comfy_entrypoint in /comfyui/custom_nodes/pack: it is broken
[INFO]    0.0 seconds (IMPORT FAILED): /comfyui/custom_nodes/pack
[INFO]    0.1 seconds: /comfyui/custom_nodes/fine
[INFO]    0.2 seconds (IMPORT FAILED): /comfyui/custom_nodes/silent pack/
[WARNING] IMPORT FAILED: nodes_glsl.py
"""


def test_lines_are_kept_without_colors_and_progress_bars(tmp_path: Path) -> None:
    """A message quotes what the program said, not what its terminal draws, and not the worker's notes."""
    log = ProcessLog(tmp_path / "log", echo_fd=None)
    log.drain(io.BytesIO(PRINTED)).join()
    log.note("it ended")

    assert log.printed(9) == ["[INFO] VAE load device: cpu", "[WARNING] 100% sure | maybe"]
    assert log.tail(9) == [*log.printed(9), "[worker] it ended"]
    assert "\x1b" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[38;5;196mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bdone\x1b[K", "done"),
        ("a\tb\nc\x00\x08", "a\tb\nc"),
        ("naïve ✓ 日本", "naïve ✓ 日本"),
    ],
)
def test_control_sequences_are_removed(text: str, expected: str) -> None:
    """Letters of every script stay."""
    assert plain(text) == expected


def test_failed_imports_are_named_with_the_last_line_of_their_traceback() -> None:
    """As ComfyUI's log says it, for core extras and packs."""
    failures = ImportFailures()
    for line in FAILED.splitlines():
        failures.read(line)

    assert failures.found == {
        "nodes_glsl": "ModuleNotFoundError: No module named 'comfy_angle'",
        "pack": "it is broken",
        "silent pack": "ComfyUI's log says why",
    }


@pytest.mark.slow
def test_a_worker_says_what_its_comfyui_printed_as_plain_text(tmp_path: Path) -> None:
    """A pack that failed is named in health and debug, other nodes stay known, and a death is said once."""
    command = IMAGES["comfyform/worker"].replace(
        "emulator.comfyui", "emulator.comfyui --emulate missing_nodes=SONICTLoader"
    )
    assert "missing_nodes" in command
    with running_emulator(tmp_path, images={"comfyform/worker": command}) as emu:
        studio = Studio(emu, "comfyform/worker")
        studio.output(action="workflow", workflow=slow(1, 0.0))
        health = studio.output(action="health")
        debug = studio.output(action="debug")
        place = studio.volume / definitions_path(studio.endpoint_id)
        until(place.is_file)
        known = NodeDefinitions.from_bytes(place.read_bytes())
        job = studio.submit(action="workflow", workflow=slow(1000, 0.05))
        until(lambda: running(studio, job))
        pid = comfyui_of(studio.worker_pid())
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        error = str(studio.wait(job)["error"])

    (failed,) = health["comfyui"]["failed_imports"].items()
    assert failed[1] == "ModuleNotFoundError: No module named 'missing_dependency'"
    assert f"{failed[0]} could not be imported: {failed[1]}" in health["warnings"]
    assert set(health["warnings"]) <= set(debug["warnings"])
    assert health["healthy"] is True
    assert dict(known.failed_imports) == health["comfyui"]["failed_imports"]
    assert "KSampler" in known.object_info
    assert "SONICTLoader" not in known.object_info
    for text in (error, *debug["comfyui_log"], *health["problems"]):
        assert "\x1b" not in text
        assert "it/s]" not in text
    assert error.count("it was killed (signal 9)") == 1
    assert "[worker]" not in error
