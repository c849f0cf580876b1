"""The contract between a client and the worker: one JSON job in, one JSON object out.

Standard library only, because the worker, the client and the ops toolkit all
start with it; the verbs are loaded when their names are asked for. A change that
an older peer would misread raises ``CONTRACT``.

Paths of model files in these shapes are relative to the *volume root*, POSIX
(``models/checkpoints/x.safetensors``); paths of inputs and outputs are
relative to the folder that their key names.
"""

from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, Required, TypeAlias, TypedDict

CONTRACT: Final = 2
"""The version, in every job and every answer. A worker takes jobs of its own version and of earlier ones.

- 2: a job carries the key of its journal entry as ``journal_key``. A worker of version 1 would refuse it as
  an unknown argument; because of the version it says instead that its image must be updated.
- 1: the first.
"""

ModelAction = Literal["inventory", "provision", "verify", "remove"]
RuntimeAction = Literal["install", "build_environment", "runtime", "runtime_prune"]
Verb: TypeAlias = str
"""The name of a module of `backend.verbs`; ``VERBS`` lists all."""
Action: TypeAlias = str
"""What a job asks for; ``ACTIONS`` lists all."""
MODEL_ACTIONS: Final = ("inventory", "provision", "verify", "remove")
RUNTIME_ACTIONS: Final = ("install", "build_environment", "runtime", "runtime_prune")
"""What keeps the worker's own code and Python environments on the volume."""
_OTHER_ACTIONS: Final = ("health", "debug", *MODEL_ACTIONS, *RUNTIME_ACTIONS)

if TYPE_CHECKING:
    VERBS: tuple[str, ...]
    ACTIONS: tuple[str, ...]


def __getattr__(name: str) -> tuple[str, ...]:
    """Return the names of the verbs, or of all actions: they follow from the verbs' own modules."""
    if name not in ("VERBS", "ACTIONS"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from backend.verbs.catalog import verbs

    return tuple(verbs()) if name == "VERBS" else (*verbs(), *_OTHER_ACTIONS)


# RunPod's limits on a job's payload. Source: docs.runpod.io,
# serverless/endpoints/send-requests, read 2026-08-20.
RUN_LIMIT_BYTES: Final = 10_000_000
RUNSYNC_LIMIT_BYTES: Final = 20_000_000
# A worker's answer larger than this is refused at job-done and the paid job is lost
# (runpod-workers/worker-comfyui#129), so larger files travel over the volume.
INLINE_LIMIT_BYTES: Final = 6 * 1024 * 1024

OUTPUTS_FOLDER: Final = "outputs"
"""Where a worker leaves files that are too large to send inline, relative to the volume root."""
INPUTS_FOLDER: Final = "inputs"
"""Where a client leaves inputs that are too large to send inline, relative to the volume root."""
SHARED_INPUTS: Final = ("avatars", "voices")
"""Folders of the volume that every job sees under ComfyUI's inputs: ``avatars/odin.png``."""


class InputFile(TypedDict):
    """A file that a job brings along: exactly one of data, url and volume_path."""

    name: str
    sha256: NotRequired[str]
    data: NotRequired[str]
    """base64"""
    url: NotRequired[str]
    volume_path: NotRequired[str]


class OutputFile(TypedDict):
    """A file that a job made: exactly one of data, url and volume_path says where its bytes are."""

    type: Literal["image", "video", "audio", "text", "file"]
    filename: str
    size_bytes: int
    sha256: str
    data: NotRequired[str]
    """base64"""
    encoding: NotRequired[Literal["base64"]]
    """beside data, for clients of older workers, which look for it"""
    url: NotRequired[str]
    signed_url: NotRequired[str]
    volume_path: NotRequired[str]


class JobOutput(TypedDict):
    """What every action answers with; the model actions and debug add keys of their own."""

    contract: int
    worker_version: str
    action: str
    status: Literal["success"]
    files: NotRequired[list[OutputFile]]
    seed: NotRequired[int | None]
    prompt_id: NotRequired[str]
    warnings: NotRequired[list[str]]
    timings: NotRequired[dict[str, float]]
    """seconds, by phase"""


class WantedFile(TypedDict):
    """A model file that should be on the volume."""

    path: str
    source: str
    """``hf:ORG/NAME@REVISION:FILE``, ``url:https://…`` or ``civitai:VERSION_ID``"""
    size_bytes: NotRequired[int | None]
    sha256: NotRequired[str | None]
    lies_at: NotRequired[str]
    """another place on the volume that may hold these bytes; they are read, and moved from there if right"""
    allow_pickle: NotRequired[bool]
    """use the file although its pickled code goes beyond what weights need. A worker from before this key
    ignores it and looks at no pickle, so it takes the file in any case."""


class FileRecord(TypedDict):
    """A model file that is on the volume."""

    path: str
    size_bytes: int
    sha256: str | None
    how: Literal["recorded", "hashed", "unknown"]
    """recorded: in the sidecar when the file was written; hashed: just now; unknown: not recorded"""
    source: NotRequired[str | None]
    link: NotRequired[str]
    """where its bytes lie, where its path is only another name for them: a path from the volume root, or an
    absolute one off the volume"""


class InventoryInput(TypedDict):
    """``{"action": "inventory"}``: list every model file; with ``hash`` read them all."""

    action: Literal["inventory"]
    hash: NotRequired[bool]


class InventoryOutput(JobOutput):
    """The answer: files sorted by path, and the room on the volume where it is known."""

    inventory: list[FileRecord]
    elsewhere: NotRequired[list[FileRecord]]
    """model files in the other usual places of a pod, which no endpoint reads"""
    total_bytes: int | None
    free_bytes: int | None


class ProvisionInput(TypedDict):
    """``{"action": "provision", "models": […]}``: make these files be there. Idempotent and resumable."""

    action: Literal["provision"]
    models: list[WantedFile]


class ProvisionedFile(TypedDict):
    """What became of one wanted file."""

    path: str
    status: Literal["kept", "fetched"]
    size_bytes: int
    sha256: str
    fetched_bytes: int
    """bytes that came over the network this time"""
    set_aside: NotRequired[str]
    """where a file of other hands now lies that this one replaced"""
    moved_from: NotRequired[str]
    """where on the volume its bytes were"""


class ProvisionOutput(JobOutput):
    """The answer: one entry a wanted file. A file that failed makes the whole job fail, after the others."""

    models: list[ProvisionedFile]


class ProvisionProgress(TypedDict):
    """A progress update of a provision job."""

    progress: Literal["provision"]
    path: str
    done_bytes: int
    total_bytes: int | None


class RunProgress(TypedDict, total=False):
    """A progress update of a generation, the same from a worker (at most two a second) and a ComfyUI here."""

    progress: Required[Literal["run"]]
    state: Required[Literal["queued", "running"]]
    prompt_id: str
    job_id: str
    position: int
    """in ComfyUI's queue, 1 for the next"""
    node: str
    """id of the node that works now; known where ComfyUI's websocket was heard"""
    class_type: str
    value: int
    """step of the node"""
    max: int
    """steps that the node has"""
    percent: int
    """share of the node's steps that is done"""


class VerifyInput(TypedDict):
    """``{"action": "verify", "models": […]}``: compare with what is there; ``deep`` hashes again."""

    action: Literal["verify"]
    models: list[WantedFile]
    deep: NotRequired[bool]


class VerifiedFile(TypedDict):
    """What one file is."""

    path: str
    ok: bool
    reason: str
    size_bytes: int | None
    sha256: str | None


class VerifyOutput(JobOutput):
    """The answer: one entry a wanted file, also where something is wrong."""

    models: list[VerifiedFile]


class RemoveInput(TypedDict):
    """``{"action": "remove", "paths": […]}``: delete these model files and their records."""

    action: Literal["remove"]
    paths: list[str]


class RemoveOutput(JobOutput):
    """The answer: what was deleted, and what was not there."""

    removed: list[str]
    missing: list[str]


JobInput = dict[str, Any]
"""A whole job input, as it came: the worker validates it by its action.

``journal_key`` names the client's entry about the job. The worker ignores it; by it a job is found at RunPod
whose id never reached the client.
"""


class EnvironmentRecord(TypedDict):
    """A Python environment on the volume, as its builder recorded it."""

    key: Required[str]
    """What it was built from, see `ops.runtime.environment_key`."""
    kind: Required[Literal["ops", "generation"]]
    sha256: Required[str]
    """Of the archive."""
    archive: Required[str]
    """The archive's file name."""
    size: Required[int]
    """Bytes of the archive."""
    base: Required[str]
    """The base image that it was built for."""
    python: Required[str]
    """Major and minor version, such as ``3.12``: another Python can't use it."""
    platform: Required[str]
    torch: Required[str | None]
    """torch's version in it, or None."""
    packages: Required[dict[str, str]]
    built_at: Required[str]
    """ISO 8601, UTC."""
    seconds: Required[float]
    """How long the build took."""
