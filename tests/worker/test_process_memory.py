"""Node packs run beside the worker as the same user: the worker's keys are out of their reach."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from backend.settings import SECRETS, VARIABLES, Settings
from worker import configuration

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker's containers are Linux")

KEYS = {
    "RUNPOD_API_KEY": "a-key-of-runpod",
    "BUCKET_ENDPOINT_URL": "http://127.0.0.1:1",
    "BUCKET_ACCESS_KEY_ID": "an-id-of-a-key",
    "BUCKET_SECRET_ACCESS_KEY": "a-key-of-the-bucket",
    "CIVITAI_TOKEN": "a-token-of-civitai",
    "HF_TOKEN": "a-token-of-hugging-face",
    "COMFY_API_KEY": "a-key-of-comfy",
    "SAME_AS_HF_TOKEN": "a-token-of-hugging-face",
}
NODE_PACK = """
import json, os, socket, sys
worker = int(os.environ["WORKER"]) if "WORKER" in os.environ else os.getppid()
ways = {}
for name in ("environ", "mem", "maps", "root", "cwd", "fd", "syscall"):
    try:
        place = f"/proc/{worker}/{name}"
        if name in ("root", "cwd"):
            os.readlink(place)
        elif name == "fd":
            [os.readlink(f"{place}/{number}") for number in os.listdir(place)]
        else:
            open(place, "rb").read(1)
        ways[name] = "open"
    except OSError as error:
        ways[name] = error.strerror
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(json.dumps({"own": dict(os.environ), "ways": ways}).encode())
sys.stdin.read()
"""


@pytest.fixture
def report(tmp_path: Path) -> Iterator[Any]:
    """Start a real worker whose ComfyUI is a curious program, and read what that program found."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(60)

        def run(*before: str) -> dict[str, Any]:
            main = tmp_path / "main.py"
            main.write_text(NODE_PACK)
            (tmp_path / "volume").mkdir()
            environment = KEYS | {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "COMFYUI_COMMAND": f"'{sys.executable}' '{main}' {listener.getsockname()[1]}",
                "RUNPOD_VOLUME_PATH": str(tmp_path / "volume"),
                "RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take/$ID",
            }
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "worker"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert process.stderr
            stack.callback(process.wait)
            stack.enter_context(process.stderr)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                return dict(json.loads(stream.read())) | {"log": process.stderr}

        yield run


@pytest.mark.slow
def test_a_node_pack_reads_no_key(report: Any):
    """Not in its own environment, under whatever name, and not in the worker's, nor in its memory."""
    found = report()

    assert {name: value for name, value in found["own"].items() if value in KEYS.values()} == {}
    assert set(found["ways"].values()) <= {"Permission denied", "Operation not permitted"}, found["ways"]


@pytest.mark.slow
def test_a_program_above_the_worker_that_shows_the_keys_is_named(report: Any):
    """A shell that stays above the worker keeps the same environment; the worker cannot close that."""
    log = report("sh", "-c", '"$@"; exit', "sh")["log"]

    line = next((line for line in log if "which started the worker" in line), "")
    assert "(sh), which started the worker, has BUCKET_SECRET_ACCESS_KEY and CIVITAI_TOKEN" in line


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_every_secret_setting_is_withheld(name: str):
    """By the setting's type: a new secret is withheld without a word about it here."""
    config = configuration.read({name: "a-secret-value", "ALIAS": "a-secret-value", "PATH": "/bin"})

    assert "a-secret-value" not in config.comfyui_environment().values()


def test_secrets_are_known_by_their_type():
    """The table says which they are."""
    assert {VARIABLES[spec.name] for spec in fields(Settings) if "Secret" in str(spec.type)} == SECRETS
