"""What a generation answers: the same for a program, for a reader, and for a model's eyes."""

import base64
from collections.abc import Mapping
from typing import Any, Final

import mcp.types as types

from backend.verbs.result import GeneratedFile, GenerationResult
from mcp_server.output_dir import Outputs
from mcp_server.tool import Answer, Schema, an_object
from ops.files.mime_type import mime_type

INLINE_LIMIT_BYTES: Final = 512 * 1024
"""A larger picture is not put into the answer: its base64 would crowd out the conversation, and clients
cut answers off at about a megabyte."""

_FILE: Final = an_object(
    {
        "type": {"type": "string", "enum": ["image", "video", "audio", "text", "file"]},
        "filename": {"type": "string"},
        "path": {"type": ["string", "null"], "description": "Where it is on this machine."},
        "uri": {"type": ["string", "null"], "description": "The resource to read it by."},
        "url": {"type": ["string", "null"], "description": "Where it can be fetched from elsewhere."},
        "mime_type": {"type": "string"},
        "size_bytes": {"type": ["integer", "null"]},
        "sha256": {"type": ["string", "null"]},
    },
    required=("type", "filename", "path", "uri", "url", "mime_type", "size_bytes", "sha256"),
)

GENERATION: Final[Schema] = an_object(
    {
        "status": {
            "type": "string",
            "enum": ["done", "running"],
            "description": "running: call the job tool with this job to wait for it.",
        },
        "job": {"type": ["string", "null"], "description": "The handle for the job tool."},
        "verb": {"type": "string"},
        "backend": {"type": "string"},
        "files": {"type": "array", "items": _FILE},
        "seed": {"type": ["integer", "null"], "description": "The seed that was used."},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
        "progress": {"type": ["string", "null"], "description": "Last reported progress."},
    },
    required=("status", "job", "verb", "backend", "files", "seed", "warnings", "timings", "progress"),
)


def done(verb: str, job: str | None, result: GenerationResult, outputs: Outputs) -> Answer:
    """Answer with a result.

    Raises:
        ComfyformError: the run failed; this is its typed error.
    """
    result.raise_for_failure()
    files = [_file(file, outputs) for file in result.files]
    structured = {
        "status": "done",
        "job": job,
        "verb": verb,
        "backend": result.backend,
        "files": files,
        "seed": result.seed,
        "warnings": list(result.warnings),
        "timings": dict(result.timings),
        "progress": None,
    }
    blocks = [block for file in result.files for block in _blocks(file, outputs)]
    return Answer(structured, _sentences(verb, result, files), tuple(blocks))


def running(verb: str, job: str, backend: str, progress: str) -> Answer:
    """Answer that the job goes on."""
    structured: dict[str, Any] = {
        "status": "running",
        "job": job,
        "verb": verb,
        "backend": backend,
        "files": [],
        "seed": None,
        "warnings": [],
        "timings": {},
        "progress": progress,
    }
    text = (
        f"The {verb} is still running on {backend}: {progress}.\n"
        f'Call job with action "wait" and job "{job}" to wait for it. Do not start it again.'
    )
    return Answer(structured, text)


def _file(file: GeneratedFile, outputs: Outputs) -> dict[str, Any]:
    path = file.local_path
    return {
        "type": file.type,
        "filename": path.name if path else file.filename,
        "path": str(path) if path else None,
        "uri": outputs.uri(path) if path else None,
        "url": file.signed_url or file.remote_url,
        "mime_type": mime_type(path or outputs.root / file.filename),
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
    }


def _sentences(
    verb: str, result: GenerationResult, files: list[Mapping[str, Any]] | list[dict[str, Any]]
) -> str:
    took = result.timings.get("total")
    lines = [
        f"The {verb} is done"
        + (f" in {took:.1f} s" if took is not None else "")
        + f" on {result.backend}"
        + (f", seed {result.seed}" if result.seed is not None else "")
        + "."
    ]
    lines += [f"{file['type']}: {file['path'] or file['url'] or file['filename']}" for file in files]
    lines += [f"Warning: {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _blocks(file: GeneratedFile, outputs: Outputs) -> list[types.ContentBlock]:
    """A picture that is small enough to be looked at, and a link to whatever can be read later."""
    path = file.local_path
    uri = outputs.uri(path) if path else None
    if path is None or uri is None:
        return []
    size = path.stat().st_size
    blocks: list[types.ContentBlock] = []
    if file.type == "image" and size <= INLINE_LIMIT_BYTES:
        data = base64.b64encode(path.read_bytes()).decode()
        blocks.append(types.ImageContent(data=data, mime_type=mime_type(path)))
    blocks.append(types.ResourceLink(uri=uri, name=path.name, mime_type=mime_type(path), size=size))
    return blocks
