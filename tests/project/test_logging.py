"""`./inv -v`: the log is on stderr, tells what a report needs, leaves --json alone, and holds no secret."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from backend.settings import SECRETS
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.pulumi_project import STACK, project

ROOT = Path(__file__).resolve().parents[2]
MARKS = {name: f"MARK{hashlib.sha256(name.encode()).hexdigest()[:24]}" for name in sorted(SECRETS)}
MARKS["RUNPOD_S3_ACCESS_KEY_ID"] = "MARKS3ACCESS"
REGISTRY = """\
required:
  whisper:
    used_by: [lipsync]
    license: apache-2.0
    files:
      - path: whisper/config.json
        source: hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:config.json
optional: {}
"""

pytestmark = pytest.mark.slow


def inv(*words: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops.commands.inv", "--search-root", str(ROOT), *words]
    return subprocess.run(
        command, env=dict(variables), cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S
    )


def secrets_in(*runs: subprocess.CompletedProcess[str], more: str) -> list[str]:
    text = "".join(each.stdout + each.stderr for each in runs)
    return [mark for mark in (*MARKS.values(), more) if mark in text]


def test_v_stands_before_or_after_the_task_and_json_stays_alone(tmp_path: Path) -> None:
    variables = {**os.environ, "COMFYFORM_STATE_DIR": str(tmp_path)}
    after = inv("jobs.list", "--json", "-v", variables=variables)
    before = inv("-v", "jobs.list", "--json", variables=variables)
    silent = inv("jobs.list", "--json", variables=variables)
    wrong = inv("jobs.list", variables={**variables, "COMFYFORM_LOG": "all"})

    assert json.loads(after.stdout) == json.loads(before.stdout) == json.loads(silent.stdout) == []
    assert "Variables that are set: " in after.stderr
    assert "Variables that are set: " in before.stderr
    assert silent.stderr == ""
    assert wrong.returncode == 2
    assert wrong.stderr == "error: COMFYFORM_LOG: must be one of off, info, debug (got 'all')\n"


def test_no_command_logs_a_secret(emu: Emulator, tmp_path: Path) -> None:
    """With every secret set, requests, Pulumi commands, transfers and their failures show none of them."""
    registry = tmp_path / "models-registry.yaml"
    registry.write_text(REGISTRY)
    with project(tmp_path / "project", emu) as created:
        (created.root / "models-registry.yaml").write_text(REGISTRY)
        key = created.env["RUNPOD_API_KEY"]
        variables = {
            **created.env,
            **MARKS,
            **emu.env,
            "RUNPOD_API_KEY": key,
            "COMFYFORM_PROJECT": str(created.root),
        }
        variables |= {"COMFYFORM_STATE_DIR": str(tmp_path / "state"), "HEDRA_API_URL": "http://127.0.0.1:9"}
        created.pulumi("config", "set", "--secret", "comfyform:hf_token", MARKS["HF_TOKEN"])
        doctor = inv("doctor", "-v", "--json", variables=variables)
        lock = inv("models.lock", "-v", "--registry", str(registry), variables=variables)
        up = inv("stack.up", "-v", "--yes", "--stack", STACK, variables=variables)
        job = inv("generate.imagine", "a cat", "-v", "--backend", "hedra", variables=variables)

    assert json.loads(doctor.stdout)
    assert f"GET {emu.url('rest')}/" in doctor.stderr
    assert lock.returncode == 0, lock.stderr
    assert "GET " in lock.stderr
    assert "does not accept the token in HF_TOKEN" in up.stdout + up.stderr  # it is not one of the emulator's
    assert "DEBUG   infra.engine.pulumi_cli: pulumi up --yes: exit code 1 in " in up.stderr
    assert "Configuration of stack test: from " in up.stderr
    assert "POST " in up.stdout + up.stderr  # of a provider process
    assert "POST http://127.0.0.1:9/" in job.stderr or "GET http://127.0.0.1:9/" in job.stderr
    assert secrets_in(doctor, lock, up, job, more=key) == []
