"""What a verb gives back: values, frozen, JSON in and out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from backend.errors import ComfyformError, JobFailed, TransferError
from backend.validation.json_reader import (
    as_count,
    as_list,
    as_number,
    as_object,
    as_sha256,
    as_text,
    as_texts,
)

Kind = Literal["image", "video", "audio", "text", "file"]
KINDS: Final = ("image", "video", "audio", "text", "file")
MEDIA: Final = ("image", "video", "audio")
"""Kinds of files that are never empty, and never a web page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedFile:
    """A file that was made. It can be handed to the next verb as an input.

    Attributes:
        type: image, video, audio, text or file.
        filename: the name that ComfyUI gave it, not where it was put.
        local_path: where it is on this machine, complete; None when it was left where it lies.
        remote_url, signed_url: where it can be fetched, if anywhere.
        sha256: of its bytes, lower-case hex; None if not computed.
        text: what it says, where a node gave a text and not a file.
        origin: the backend that holds it, and which one: ``local http://…`` or ``runpod <endpoint id>``.
        origin_path: its name there, as that backend takes it for an input; None where it keeps none.
    """

    type: Kind
    filename: str
    local_path: Path | None = None
    remote_url: str | None = None
    signed_url: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    text: str | None = None
    origin: str = ""
    origin_path: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, with a path that another process understands."""
        return {
            **asdict(self),
            "local_path": None if self.local_path is None else str(self.local_path.absolute()),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GeneratedFile":
        """Read what `to_json` gave. A field of another type counts as not there."""
        kind, path = value.get("type"), as_text(value.get("local_path"))
        names = ("remote_url", "signed_url", "text", "origin_path")
        texts = {name: value[name] for name in names if isinstance(value.get(name), str)}
        return cls(
            type=kind if kind in KINDS else "file",
            filename=as_text(value.get("filename")) or "output",
            local_path=Path(path) if path and "\0" not in path else None,
            size_bytes=as_count(value.get("size_bytes")),
            sha256=as_sha256(value.get("sha256")),
            origin=as_text(value.get("origin")),
            **texts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """How a verb ended.

    Attributes:
        success: False when the run failed; then `error` says why.
        files: what was made, in ComfyUI's order.
        seed: the one that was really used, or None where the graph is the caller's own.
        prompt_id: ComfyUI's name for the run.
        job_id: RunPod's name for it.
        backend: "local", "runpod", …
        error: one or more sentences.
        exception: the typed error behind it.
        warnings: sentences about what was not quite as asked.
        timings: seconds by phase, for example ``{"queue": 1.2, "run": 8.0, "total": 9.5}``.
    """

    success: bool
    backend: str
    files: tuple[GeneratedFile, ...] = ()
    seed: int | None = None
    prompt_id: str | None = None
    job_id: str | None = None
    error: str | None = None
    exception: ComfyformError | None = field(default=None, repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The one file of this result on this machine.

        Raises:
            ComfyformError: the run failed; as `raise_for_failure`.
            TransferError: there is not exactly one file, or it is not on this machine.
        """
        self.raise_for_failure()
        paths = [file.local_path for file in self.files]
        if len(paths) == 1 and paths[0] is not None:
            return paths[0]
        if len(paths) == 1:
            raise TransferError(
                f"{self.files[0].filename} was not downloaded to this machine.",
                hint="Its remote_url or signed_url, where set, says where it is.",
            )
        raise TransferError(
            f"Expected exactly one file, got {len(paths)}.", hint="Read result.files instead of result.path."
        )

    def raise_for_failure(self) -> "GenerationResult":
        """Return the result back, or raise its error.

        Raises:
            ComfyformError: the typed error of a failed run.
        """
        if self.success:
            return self
        raise self.exception or JobFailed(self.error or "The run failed.", job_id=self.job_id)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without the exception."""
        return {
            "success": self.success,
            "backend": self.backend,
            "files": [file.to_json() for file in self.files],
            "seed": self.seed,
            "prompt_id": self.prompt_id,
            "job_id": self.job_id,
            "error": self.error,
            "warnings": list(self.warnings),
            "timings": dict(self.timings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GenerationResult":
        """Read what `to_json` gave, without the exception. A field of another type counts as not there."""
        timings = {name: as_number(item) for name, item in as_object(value.get("timings")).items()}
        return cls(
            success=value.get("success") is True,
            backend=as_text(value.get("backend")),
            files=tuple(GeneratedFile.from_json(as_object(file)) for file in as_list(value.get("files"))),
            seed=as_count(value.get("seed")),
            prompt_id=as_text(value.get("prompt_id")) or None,
            job_id=as_text(value.get("job_id")) or None,
            error=as_text(value.get("error")) or None,
            warnings=tuple(as_texts(value.get("warnings"))),
            timings={name: seconds for name, seconds in timings.items() if seconds is not None},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether a backend would take a job now.

    Attributes:
        healthy: True when it would.
        version: ComfyUI's, if known without starting a worker.
        error: why not, a sentence.
        details: what the backend said: devices, or counts of workers and jobs.
    """

    backend: str
    healthy: bool
    version: str | None = None
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)
