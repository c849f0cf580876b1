"""Wrong input, as a user gives it: a process, one clear line or a list of problems, exit code 2 or more."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio

ROOT = Path(__file__).resolve().parents[2]
SHA = "ab" * 32
NOWHERE = {"COMFYUI_URL": "http://127.0.0.1:1"}
WHISPER = "hf:openai/whisper-tiny:model.safetensors"
THREE_MISTAKES = """\
required:
  sonic:
    files:
      - path: ../escape.bin
        source: hf:openai/whisper-tiny:config.json
      - path: vae/x.bin
        source: ftp://nowhere/x
optional:
  svd:
    fils: []
"""


def inv(*words: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line as `./inv` does, without anybody to answer its questions."""
    return subprocess.run(
        [sys.executable, "-m", "ops.commands.inv", "--search-root", str(ROOT), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        timeout=HANG_S,
        check=False,
    )


def refusal(*words: str, code: int = 2, lines: int = 1, variables: Mapping[str, str] | None = None) -> str:
    """Return what a command says that refuses: on stderr, in so many lines, with this exit code."""
    done = inv(*words, variables=variables)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, len(done.stderr.splitlines())) == (code, lines), done.stderr
    return done.stderr


def account(emu: Emulator, studio: Studio, tmp_path: Path) -> dict[str, str]:
    """Return the environment of somebody who has a volume and an ops endpoint."""
    return {
        **emu.env,
        "RUNPOD_OPS_ENDPOINT_ID": studio.endpoint_id,
        "RUNPOD_VOLUME_ID": studio.volume_id,
        "COMFYFORM_STATE_DIR": str(tmp_path / "state"),
        "COMFYUI_MODELS_DIR": str(tmp_path),
    }


def registry(tmp_path: Path, source: str, sha256: str = "") -> str:
    """Write a registry that wants one file, and give its name."""
    path = tmp_path / "registry.yaml"
    pin = f", sha256: '{sha256}'" if sha256 else ""
    path.write_text(f"required: {{model: {{files: [{{path: vae/x.json, source: '{source}'{pin}}}]}}}}\n")
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "models.compare",
        "models.sync --yes",
        "models.verify",
        "generate.portrait odin",
        "backend.health",
        "jobs.show nobody",
        "jobs.wait nobody",
        "jobs.cancel nobody",
        "stack.up --yes",
        "stack.preview",
        "stack.refresh --yes",
        "stack.down --yes",
        "stack.cost",
    ],
)
def test_no_api_key(words: str, tmp_path: Path):
    """Every group of commands names the variable that is missing, before anything else happens."""
    variables = {"COMFY_BACKEND": "runpod", "COMFYFORM_STATE_DIR": str(tmp_path)}

    assert refusal(*words.split(), variables=variables).startswith("error: RUNPOD_API_KEY is not set")


@pytest.mark.slow
def test_three_mistakes_in_a_registry_are_three_lines(tmp_path: Path):
    """All of them are named, each with its line."""
    path = tmp_path / "three.yaml"
    path.write_text(THREE_MISTAKES)

    message = refusal("models.compare", "--registry", str(path), lines=5)

    assert [line.split(": ")[0].strip() for line in message.splitlines()[1:]] == [
        "three.yaml:4",
        "three.yaml:7",
        "three.yaml:9",
        "three.yaml:10",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Registry "),
        (b"\x00\xff\xfe\x89PNG", "is not text in UTF-8"),
        (b"required:\n  caf\xe9: {}\n", "is not text in UTF-8"),
    ],
)
def test_a_registry_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str):
    """A file that is not there, or no text, is one line."""
    path = tmp_path / "registry.yaml"
    if content is not None:
        path.write_bytes(content)

    assert message in refusal("models.compare", "--registry", str(path))


@pytest.mark.slow
def test_a_folder_is_no_registry(tmp_path: Path):
    """What the system says of it is said."""
    assert "cannot be read: Is a directory." in refusal("models.compare", "--registry", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COMFYUI_URL", "localhost:8188", "must start with http:// or https://"),
        ("COMFYUI_URL", "http://", "has no host"),
        ("COMFYUI_URL", "http://[::1", "is not a valid URL: Invalid IPv6 URL"),
        ("COMFYUI_URL", "http://127.0.0.1:99999", "is not a valid URL: Port out of range"),
        ("COMFYUI_URL", "http://two words/", "has no host"),
        ("RUNPOD_S3_URL", "http://", "has no host"),
        ("COMFYFORM_TIMEOUT_S", "soon", "expected a number, got 'soon'"),
        ("COMFYFORM_TIMEOUT_S", "nan", "must be a non-negative number"),
        ("COMFYFORM_TIMEOUT_S", "-5", "must be a non-negative number"),
        ("COMFY_BACKEND", "nope", "Unknown backend 'nope'"),
    ],
)
def test_settings_that_mean_nothing(name: str, value: str, message: str):
    """A setting is read before anything is sent, and named with what is wrong."""
    assert message in refusal("backend.health", variables={name: value})


@pytest.mark.slow
def test_a_password_in_an_address_is_refused_and_not_shown():
    """Addresses stand in messages, so none may hold a secret."""
    message = refusal("backend.health", variables={"COMFYUI_URL": "http://odin:hunter2@127.0.0.1:1"})

    assert "COMFYUI_URL: it contains a user name or a password" in message
    assert "hunter2" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("models.snyc", "Unknown task 'models.snyc'. Did you mean models.sync?"),
        ("models.compare --registri x", "Unknown option --registri."),
        ("models.compare --registry", "--registry needs a value."),
        ("generate.portrait", "did not receive required positional arguments: 'prompt'"),
        ("generate.portrait odin --backend nope", "Unknown backend 'nope'"),
        ("generate.portrait odin --width -64", "width must be from 64 to 8192, got -64"),
        ("generate.portrait odin --width 1e3", "width must be a whole number, got '1e3'"),
        ("generate.portrait odin --seed 99999999999999999999999", "got 99999999999999999999999"),
        ("generate.portrait odin --timeout soon", "must be a number, got 'soon'"),
        ("generate.portrait odin --timeout nan", "timeout_s must be a positive number of seconds, got nan"),
        ("generate.portrait odin --timeout -1", "timeout_s must be a positive number of seconds, got -1"),
        ("generate.lipsync /no/face.png /no/voice.wav", "not found on this machine"),
        ("generate.workflow /no/graph.json", "cannot be read: No such file or directory."),
        ("models.check-workflow /no/graph.json", "cannot be read: No such file or directory."),
        ("models.add nope", "is not a source"),
        ("models.scan --models-dir /no/models --json", "Models folder not found: /no/models"),
    ],
)
def test_command_lines_that_mean_nothing(words: str, message: str):
    """A task, an option, a number or a file that is not there is named."""
    assert message in refusal(*words.split(), variables=NOWHERE)


@pytest.mark.slow
def test_a_comfyui_that_is_not_running():
    """Both who generates and who asks are told where it was looked for."""
    words = "ComfyUI at http://127.0.0.1:1 cannot be reached. Start it, or set COMFYUI_URL"

    assert words in refusal("generate.portrait", "odin", code=3, variables=NOWHERE)
    requested = inv("backend.health", variables=NOWHERE)
    assert (requested.returncode, words in requested.stdout) == (3, True)


@pytest.mark.slow
def test_a_page_that_cannot_be_written(tmp_path: Path):
    """An output that is a folder is one line, not a traceback."""
    (tmp_path / "page.html").mkdir()

    assert "page.html: Is a directory." in refusal("report", "--output", str(tmp_path / "page.html"))


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
@pytest.mark.parametrize(
    ("source", "sha256", "message"),
    [
        ("hf:openai/whisper-tiny:gone.bin", "", "has no file 'gone.bin' at main"),
        ("hf:nobody/nothing:x.bin", "", "Repository nobody/nothing not found"),
        ("civitai:999999999", "", "CivitAI has no model version 999999999"),
        (WHISPER, SHA, f"instead of {SHA}"),
    ],
    ids=["renamed", "no repository", "no version", "other bytes"],
)
def test_a_source_that_does_not_give_what_is_wanted(
    emu: Emulator, tmp_path: Path, transport: str, source: str, sha256: str, message: str
):
    """It is said in the last line, and the file that was there before is untouched."""
    studio = Studio(emu, "comfyform/ops")
    old = studio.volume / "models/vae/x.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"the old bytes")
    variables = account(emu, studio, tmp_path)
    required = registry(tmp_path, source, sha256 or SHA)

    done = inv("models.sync", "--yes", "--registry", required, "--transport", transport, variables=variables)

    assert (done.returncode, "Traceback" in done.stderr) == ({"job": 4, "s3": 5}[transport], False)
    assert message in done.stderr.splitlines()[-1]
    assert old.read_bytes() == b"the old bytes"


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
def test_the_size_of_a_wrong_file_is_not_taken_for_the_wanted_one(
    emu: Emulator, tmp_path: Path, transport: str
):
    """A pin of the hash alone is enough to mend a file of another size."""
    studio = Studio(emu, "comfyform/ops")
    old = studio.volume / "models/vae/x.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"the old bytes")
    right = httpx.get(
        f"{emu.url('hub')}/openai/whisper-tiny/resolve/main/model.safetensors", follow_redirects=True
    )
    required = registry(tmp_path, WHISPER, hashlib.sha256(right.content).hexdigest())
    words = ["models.sync", "--yes", "--registry", required, "--transport", transport]

    done = inv(*words, variables=account(emu, studio, tmp_path))

    assert done.returncode == 0, done.stderr
    assert old.read_bytes() == right.content


@pytest.mark.slow
def test_a_stack_of_a_name_that_none_has():
    """It is said, and what would make it."""
    assert "Stack 'two words' of project 'comfyform' does not exist" in refusal(
        "stack.outputs", "--stack", "two words"
    )
