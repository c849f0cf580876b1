"""`./inv conform`, against the stand-in: the same checks as against a real ComfyUI, in seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from backend import InvalidArgument
from backend.errors import Unavailable
from tests.support.studio_models import complete_comfyui
from tools.conformance.checks import CHECKS
from tools.conformance.command import conform
from tools.conformance.server import Server


@pytest.mark.slow
def test_the_stand_in_conforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check holds, or says what the stand-in lacks."""
    with complete_comfyui(tmp_path) as comfyui:
        comfyui.emulate(step_s=0.004)
        code = conform(comfyui_url=comfyui.url, mutated=80, json=True)

    output = json.loads(capsys.readouterr().out)
    verdicts: dict[str, Any] = {row["check"]: row["verdict"] for row in output["checks"]}
    assert [row for row in output["checks"] if row["verdict"] == "failed"] == []
    assert (code, list(verdicts)) == (0, list(CHECKS))
    assert {name for name, verdict in verdicts.items() if verdict == "skipped"} <= {
        "output: animated WebP",
        "output: animated PNG",
        "output: WebM",
        "output: VHS MP4",
        "output: VHS GIF",
        "output: latent",
        "kill -9 and restart",
    }


@pytest.mark.slow
def test_a_fault_is_a_row_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ComfyUI whose saving node fails does not pass."""
    with complete_comfyui(tmp_path) as comfyui:
        comfyui.emulate(raise_in="SaveImage")
        code = conform(comfyui_url=comfyui.url, only="output: png")

    assert code == 1
    assert "failed  output: PNG" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --comfyui-url or --comfyui-dir"),
        ({"comfyui_url": "http://x", "comfyui_dir": "y"}, "either --comfyui-url or --comfyui-dir"),
        ({"comfyui_dir": "nowhere"}, "has no main.py"),
        ({"comfyui_url": "http://x", "only": "zzz"}, "No check is named like 'zzz'"),
    ],
)
def test_what_is_asked_must_make_sense(options: dict[str, str], message: str) -> None:
    """Said before anything starts."""
    with pytest.raises(InvalidArgument, match=message):
        conform(**options)  # type: ignore[arg-type]  # from a table


def test_a_comfyui_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    """Its log is gone with the run's folder, so the message holds the end of it."""
    (tmp_path / "main.py").write_text("print('\\x1b[31mno frontend here\\x1b[0m'); raise SystemExit(1)")
    (tmp_path / "comfy").mkdir()
    server = Server(tmp_path, sys.executable, tmp_path, ["--cpu"])

    with pytest.raises(Unavailable, match=r"did not start. Its last lines: no frontend here"):
        server.start()
