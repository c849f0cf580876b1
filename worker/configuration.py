"""What the worker is told by its container: one value, made once by ``__main__``."""

import importlib.metadata
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backend.errors import ConfigError
from backend.settings import SECRETS, Secret, Settings
from backend.verbs import transcripts
from ops.models.volume_layout import HF_HOME

BUCKET_SECRET: Final = "BUCKET_SECRET_ACCESS_KEY"  # noqa: S105 - a variable's name
SECRET_VARIABLES: Final = SECRETS | {
    BUCKET_SECRET,
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RUNPOD_AI_API_KEY",
}
"""Variables that are secret: of the settings, and what RunPod's SDK and upload helper and boto3 read."""
LEAST_SECRET: Final = 8
"""Characters of a value that is recognized under another name; a shorter one may be an ordinary word."""
_WORKERS_OWN: Final = ("RUNPOD_", "BUCKET_", "AWS_", "CIVITAI_", "COMFYFORM_")
"""Beginnings of variables that only the worker needs, secret or not: ids of keys, addresses of callbacks."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket for outputs, by the variables that RunPod's own upload helper reads."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: Secret
    name: str | None
    """None: the helper's own choice, one bucket a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker needs to know.

    Attributes:
        settings: addresses, tokens and allowed hosts, as everywhere.
        volume: root of the network volume, whether or not one is mounted there.
        volume_bytes: its size, or None if not given; the mount shows that of the whole file system.
        comfyui_command: argument list that starts ComfyUI; empty in an image that has none.
        environment: what ComfyUI inherits.
        bucket: where outputs go, or None.
        warmup: workflow file that is run once ComfyUI is ready, or None.
        jobs_at_once: how many jobs the worker takes at the same time.
        can_report: RunPod gave an address for results, so progress can be sent.
        version: of this program, with the build that the image was made from.
    """

    settings: Settings
    volume: Path
    volume_bytes: int | None
    comfyui_command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    bucket: Bucket | None
    warmup: Path | None
    jobs_at_once: int
    can_report: bool
    version: str

    def comfyui_environment(self) -> dict[str, str]:
        """ComfyUI's variables: the container's, without secrets and without what only the worker needs.

        Node packs are other people's code. A secret is withheld under whatever name it is there; see
        `worker.process_memory` for the other ways to it.
        """
        secrets = {value for name, value in self.environment.items() if name in SECRET_VARIABLES}
        secrets = {value for value in secrets if len(value) >= LEAST_SECRET}
        result = {
            name: value
            for name, value in self.environment.items()
            if name not in SECRET_VARIABLES and not name.startswith(_WORKERS_OWN) and value not in secrets
        }
        # F5-TTS and vocos are read only from a Hugging Face cache. Offline, because a file that is not on
        # the volume must be an error that names it, not gigabytes fetched on a GPU that is paid for.
        result.setdefault("HF_HOME", str(self.volume / HF_HOME))
        result.setdefault("HF_HUB_OFFLINE", "1")
        if transcripts.is_online(result) and (token := self.environment.get("HF_TOKEN")):
            result["HF_TOKEN"] = token
        result.setdefault("PYTHONUNBUFFERED", "1")
        return result

    def recognizes_speech(self) -> bool:
        """Tell whether F5-TTS can load its speech recognizer: from the Hugging Face cache, or by download."""
        environment = self.comfyui_environment()
        hub = Path(environment.get("HF_HUB_CACHE") or Path(environment["HF_HOME"]) / "hub")
        return transcripts.is_online(environment) or (hub / transcripts.RECOGNIZER_REF).is_file()

    @property
    def comfyui_home(self) -> Path | None:
        """ComfyUI's own folder, where the command names its ``main.py``."""
        for argument in self.comfyui_command:
            if _is_comfyui(argument):
                return Path(argument).parent
        return None

    @property
    def has_comfyui(self) -> bool:
        """The image has the program that the command names; the ops image has none."""
        path = self.environment.get("PATH")
        return bool(self.comfyui_command) and shutil.which(self.comfyui_command[0], path=path) is not None

    def doubts(self) -> list[str]:
        """Say what may not be meant, one sentence each."""
        if self.comfyui_command and not self.has_comfyui:
            return [f"COMFYUI_COMMAND starts {self.comfyui_command[0]}, which this image does not have."]
        return []


def read(environ: Mapping[str, str]) -> WorkerConfig:
    """Make the configuration from the container's variables.

    ``COMFYUI_COMMAND`` starts ComfyUI (the generation image sets it; without it this worker has no ComfyUI),
    ``COMFYFORM_WARMUP`` names a workflow in API format to run first, ``COMFYFORM_JOBS_AT_ONCE``
    is how many jobs are taken at once (default: 1 with ComfyUI, else 4), ``COMFYFORM_VOLUME_GB``
    is the volume's size, and ``BUCKET_ENDPOINT_URL``, ``BUCKET_ACCESS_KEY_ID``,
    ``BUCKET_SECRET_ACCESS_KEY``, ``BUCKET_NAME`` name a bucket for outputs.

    Raises:
        ConfigError: a variable cannot be read, or the bucket is named in part.
    """
    settings = Settings.from_env(environ)
    command = _comfyui_command(environ)
    warmup = environ.get("COMFYFORM_WARMUP", "").strip()
    return WorkerConfig(
        settings=settings,
        volume=Path(settings.runpod_volume_path),
        volume_bytes=_volume_bytes(environ),
        comfyui_command=command,
        environment=dict(environ),
        bucket=_bucket(environ),
        warmup=Path(warmup) if warmup else None,
        jobs_at_once=_jobs_at_once(environ, default=1 if command else 4),
        can_report=bool(environ.get("RUNPOD_WEBHOOK_POST_OUTPUT")),
        version=_version(environ.get("COMFYFORM_BUILD", "").strip()),
    )


def _comfyui_command(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command that starts ComfyUI; the generation image sets it, the ops image does not."""
    try:
        arguments = shlex.split(environ.get("COMFYUI_COMMAND", ""))
    except ValueError as error:
        raise ConfigError(f"COMFYUI_COMMAND: {error}", hint="Quote it as for a shell.") from error
    # It runs in its own folder, from where a relative path would lead elsewhere.
    return tuple(str(Path(item).resolve()) if _is_comfyui(item) else item for item in arguments)


def _is_comfyui(argument: str) -> bool:
    """Tell whether an argument is ComfyUI's program."""
    return Path(argument).name == "main.py" and Path(argument).is_file()


def _jobs_at_once(environ: Mapping[str, str], *, default: int) -> int:
    """Return how many jobs are taken at once, 1 to 32."""
    text = environ.get("COMFYFORM_JOBS_AT_ONCE", "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 32:
        raise ConfigError(f"COMFYFORM_JOBS_AT_ONCE must be a number from 1 to 32, got {text!r}.")
    return int(text)


def _volume_bytes(environ: Mapping[str, str]) -> int | None:
    """Return the volume's size, which its stack knows in GB."""
    text = environ.get("COMFYFORM_VOLUME_GB", "").strip()
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"COMFYFORM_VOLUME_GB must be a whole number of GB, got {text!r}.")
    return int(text) * 10**9


def _bucket(environ: Mapping[str, str]) -> Bucket | None:
    """Return the bucket for outputs; a half-named one is a mistake, not "none"."""
    names = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", BUCKET_SECRET)
    values = {name: environ.get(name, "").strip() for name in names}
    if not any(values.values()):
        return None
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ConfigError(
            f"A bucket for outputs is named, but not {' and '.join(missing)}.",
            hint="Set all three, or none: then outputs go inline or to the volume.",
        )
    return Bucket(
        endpoint_url=values[names[0]],
        access_key_id=values[names[1]],
        secret_access_key=Secret(values[names[2]]),
        name=environ.get("BUCKET_NAME", "").strip() or None,
    )


def _version(build: str) -> str:
    """Return the program's version, with the build where the image names one: ``0.1.0+1a2b3c4``."""
    try:
        number = importlib.metadata.version("comfyform")
    except importlib.metadata.PackageNotFoundError:
        number = "0"
    return f"{number}+{build}" if build else number
