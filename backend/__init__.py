"""The runtime client: the same calls on a local ComfyUI and on RunPod.

Every public name is here and is loaded on first use, so that ``import backend``
takes no time; in particular httpx comes with the first request.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from backend.client.async_client import AsyncBackend, AsyncJob
    from backend.client.factory import fallback, get_async_backend, get_backend, register_backend
    from backend.client.protocol import BackendFlows
    from backend.client.sync_client import Backend, Job
    from backend.comfyui.validate import validate
    from backend.errors import (
        ApiError,
        AuthError,
        ComfyformError,
        ConfigError,
        Conflict,
        Forbidden,
        HashMismatch,
        InvalidArgument,
        InvalidRequest,
        JobCancelled,
        JobError,
        JobExpired,
        JobFailed,
        MissingSetting,
        NotFound,
        NotSupported,
        PartialApply,
        RateLimited,
        RegistryError,
        SourceMissing,
        TransferError,
        Unavailable,
        VolumeFull,
        WaitTimeout,
    )
    from backend.jobs.status import JobStatus
    from backend.settings import Secret, Settings
    from backend.verbs.graph_structure import Problem
    from backend.verbs.request import Request
    from backend.verbs.result import GeneratedFile, GenerationResult, Health

_HOMES: dict[str, tuple[str, ...]] = {
    "client.factory": ("fallback", "get_async_backend", "get_backend", "register_backend"),
    "errors": (
        "ApiError", "AuthError", "ComfyformError", "ConfigError", "Conflict", "Forbidden", "HashMismatch",
        "InvalidArgument", "InvalidRequest", "JobCancelled", "JobError", "JobExpired", "JobFailed",
        "MissingSetting", "NotFound", "NotSupported", "PartialApply", "RateLimited", "RegistryError",
        "SourceMissing", "TransferError", "Unavailable", "VolumeFull", "WaitTimeout",
    ),
    "client.async_client": ("AsyncBackend", "AsyncJob"),
    "client.sync_client": ("Backend", "Job"),
    "client.protocol": ("BackendFlows",),
    "jobs.status": ("JobStatus",),
    "verbs.request": ("Request",),
    "verbs.result": ("GeneratedFile", "GenerationResult", "Health"),
    "settings": ("Secret", "Settings"),
    "comfyui.validate": ("validate",),
    "verbs.graph_structure": ("Problem",),
}  # fmt: skip

__all__ = [
    "ApiError",
    "AsyncBackend",
    "AsyncJob",
    "AuthError",
    "Backend",
    "BackendFlows",
    "ComfyformError",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "GeneratedFile",
    "GenerationResult",
    "HashMismatch",
    "Health",
    "InvalidArgument",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobStatus",
    "MissingSetting",
    "NotFound",
    "NotSupported",
    "PartialApply",
    "Problem",
    "RateLimited",
    "RegistryError",
    "Request",
    "Secret",
    "Settings",
    "SourceMissing",
    "TransferError",
    "Unavailable",
    "VolumeFull",
    "WaitTimeout",
    "fallback",
    "get_async_backend",
    "get_backend",
    "register_backend",
    "validate",
]

# verbs: written by `./inv docs` from backend/verbs

if typing.TYPE_CHECKING:
    from backend.verbs.imagine import ImagineParams
    from backend.verbs.lipsync import LipSyncParams
    from backend.verbs.portrait import PortraitParams
    from backend.verbs.talk import TalkParams
    from backend.verbs.tts import TTSParams
    from backend.verbs.workflow import WorkflowParams

_HOMES |= {
    "verbs.imagine": ("ImagineParams",),
    "verbs.lipsync": ("LipSyncParams",),
    "verbs.portrait": ("PortraitParams",),
    "verbs.talk": ("TalkParams",),
    "verbs.tts": ("TTSParams",),
    "verbs.workflow": ("WorkflowParams",),
}

__all__ += ["ImagineParams", "LipSyncParams", "PortraitParams", "TTSParams", "TalkParams", "WorkflowParams"]

# /verbs


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"backend.{home}"), name)
            value.__module__ = "backend"  # tracebacks and help() show the name that users import
            globals()[name] = value
            return value
    raise AttributeError(f"module 'backend' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
