"""Errors of a run in words that help: the cause, the nearest choice, what became of the job."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import Backend, InvalidArgument, Settings, get_backend
from backend.comfyui.refusals import choices
from backend.comfyui.responses import failure
from tests.support.comfyui_program import ComfyUI, running_comfyui, slow, txt2img
from tests.support.pages import ROOT


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as program:
        program.add_model("checkpoints/tiny.safetensors")
        yield program


@pytest.fixture
def backend(comfyui: ComfyUI, tmp_path: Path) -> Iterator[Backend]:
    settings = Settings.from_env({"COMFYUI_URL": comfyui.url, "COMFYFORM_STATE_DIR": str(tmp_path)})
    with get_backend("local", settings=settings) as client:
        yield client


def error_of(message: str, kind: str = "RuntimeError") -> str:
    """The error of a run whose node raised an exception with this message."""
    data = {"node_id": "5", "node_type": "F5TTSAudio", "exception_type": kind, "exception_message": message}
    entry = {"status": {"status_str": "error", "messages": [["execution_error", data]]}}
    return str(failure(entry, "p1").message)


def test_the_cause_is_told_where_the_first_line_only_announces_it() -> None:
    """All lines of a short message, without colors and without a sentence that ends in a colon and a stop."""
    text = "Could not load libtorchcodec. Likely causes:\n\n  1. \x1b[31mFFmpeg\x1b[0m is not installed\n"

    assert error_of(text) == (
        "node 5 (F5TTSAudio) failed: RuntimeError: "
        "Could not load libtorchcodec. Likely causes: 1. FFmpeg is not installed."
    )
    assert error_of("Likely causes:") == "node 5 (F5TTSAudio) failed: RuntimeError: Likely causes."


def test_a_long_message_keeps_its_start_and_its_end() -> None:
    """The cause stands at one of them."""
    message = error_of("It failed.\n" + "a line of a stack\n" * 500 + "caused by: no ffmpeg")

    assert len(message) < 800
    assert "It failed. a line" in message
    assert message.endswith("caused by: no ffmpeg.")


@pytest.mark.parametrize(
    ("received", "options", "expected"),
    [
        ("eulre", ["euler", "heun"], "choose one of euler, heun. Did you mean euler?"),
        ("EULER", ["euler", "heun"], "choose one of euler, heun. Did you mean euler?"),
        ("zzz", ["euler", "heun"], "choose one of euler, heun"),
        (None, [], "the list of options is empty"),
        (
            7,
            list(range(20)),
            "choose one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 … (8 more). Did you mean 7?",
        ),
    ],
)
def test_the_nearest_choice_is_named(received: Any, options: list[Any], expected: str) -> None:
    """For a typing error; far from all of them, nothing is guessed."""
    assert choices(received, options) == expected


@pytest.mark.slow
def test_a_refusal_names_the_choices_that_comfyui_leaves_out(backend: Backend) -> None:
    """Of a long list its refusal gives only the length."""
    graph = txt2img()
    graph["3"]["inputs"]["sampler_name"] = "eular"

    result = backend.workflow(graph)

    assert "sampler_name 'eular' is not available; choose one of euler, " in str(result.error)
    assert "Did you mean euler?" in str(result.error)
    assert "others" not in str(result.error)


def test_a_workflow_in_the_editors_form_is_refused_in_whole_sentences(backend: Backend) -> None:
    """Each with one full stop, and the hint apart."""
    with pytest.raises(InvalidArgument) as refused:
        backend.workflow({"nodes": []})

    assert str(refused.value) == (
        "workflow: This workflow is in the format of ComfyUI's editor, and cannot be queued. "
        "Export it in API format: Workflow > Export (API)."
    )
    assert refused.value.hint == "Export it in API format: Workflow > Export (API)."


def test_a_poll_is_no_line_in_the_log(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """A run of many looks says nothing at the level that programs show."""
    with caplog.at_level(logging.INFO):
        backend.workflow(slow(20, 0.02)).raise_for_failure()

    assert [record for record in caplog.records if record.name.startswith("backend")] == []


@pytest.mark.slow
def test_ctrl_c_says_what_became_of_the_run(comfyui: ComfyUI, tmp_path: Path) -> None:
    """It was interrupted: nothing goes on when the command is run again."""
    graph = tmp_path / "slow.json"
    graph.write_text(json.dumps(slow(2000, 0.05)))
    env = os.environ | {"COMFYUI_URL": comfyui.url, "COMFYFORM_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "invoke", "generate.workflow", str(graph), "--backend", "local"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        events = [next(line for line in running.stderr if "EmulatorSlow" in line)]
        running.send_signal(signal.SIGINT)
        events += running.stderr.readlines()

    assert running.returncode == 130
    assert "Stopped. Job " in events[-1]
    assert "was cancelled" in events[-1]
    assert not any("go on" in line for line in events)
    assert comfyui.http.get("/queue").json()["queue_pending"] == []
