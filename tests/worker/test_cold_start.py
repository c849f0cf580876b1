"""The times of a worker's start: what was measured where, and in which answer they are."""

from __future__ import annotations

import json

import pytest

from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio
from worker.cold_start import ColdStart
from worker.comfyui.import_times import ImportTimes

LOG = """\
Import times for custom nodes:
   0.0 seconds: /opt/ComfyUI/custom_nodes/websocket_image_save.py
   1.3 seconds (IMPORT FAILED): /opt/ComfyUI/custom_nodes/ComfyUI-F5-TTS
  12.5 seconds: /opt/ComfyUI/custom_nodes/ComfyUI_Sonic

Prompt executed in 2.50 seconds
"""


def test_import_times_are_read_for_each_pack() -> None:
    """The list names folders and files; other lines with seconds don't count."""
    times = ImportTimes()
    for line in LOG.splitlines():
        times.read(line)

    assert times.found == {"websocket_image_save": 0.0, "ComfyUI-F5-TTS": 1.3, "ComfyUI_Sonic": 12.5}


def test_only_the_first_answer_has_the_times() -> None:
    """They come from the earlier stages, from this program and from ComfyUI."""
    start = ColdStart(json.dumps({"began_at": 0.0, "code_s": 0.5, "notes": ["as root"]}), began=1.0)
    start.note("worker_s", since=0.0)

    first = start.first({"seed": 1}, {"comfyui_s": 9.0})

    assert start.notes == ["as root"]
    assert first["seed"] == 1
    assert first["cold_start"].keys() == {"code_s", "worker_s", "comfyui_s", "first_job_s"}
    assert start.first({"seed": 2}, {}) == {"seed": 2}
    assert start.times() == first["cold_start"]


@pytest.mark.slow
def test_a_generation_worker_says_how_long_its_start_took(emu: Emulator) -> None:
    """The first job's answer and `debug` have the times; the second job's answer has not."""
    studio = Studio(emu, "comfyform/worker")
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 3}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }

    first = studio.output(action="workflow", workflow=graph)
    second = studio.output(action="workflow", workflow=graph)

    assert first["cold_start"].keys() == {"worker_s", "comfyui_s", "imports_s", "first_job_s"}
    assert "cold_start" not in second
    assert studio.output(action="debug")["start"] == first["cold_start"]
