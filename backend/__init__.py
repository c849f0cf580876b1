"""The runtime client: the same calls on a local ComfyUI and on RunPod.

Every public name is here and is loaded on first use, so that ``import backend``
takes no time; in particular httpx comes with the first request.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from backend.async_face import AsyncBackend, AsyncJob
    from backend.backends import fallback, get_async_backend, get_backend, register_backend
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
    from backend.face import Backend, Job
    from backend.graph_check import validate
    from backend.graph_structure import Problem
    from backend.interface import BackendFlows
    from backend.job_status import JobStatus
    from backend.params import (
        ImagineParams,
        LipSyncParams,
        PortraitParams,
        TalkParams,
        TTSParams,
        WorkflowParams,
    )
    from backend.request import Request
    from backend.result import GeneratedFile, GenerationResult, Health
    from backend.settings import Secret, Settings

_HOMES = {
    "backends": ("fallback", "get_async_backend", "get_backend", "register_backend"),
    "errors": (
        "ApiError", "AuthError", "ComfyformError", "ConfigError", "Conflict", "Forbidden", "HashMismatch",
        "InvalidArgument", "InvalidRequest", "JobCancelled", "JobError", "JobExpired", "JobFailed",
        "MissingSetting", "NotFound", "NotSupported", "PartialApply", "RateLimited", "RegistryError",
        "SourceMissing", "TransferError", "Unavailable", "VolumeFull", "WaitTimeout",
    ),
    "async_face": ("AsyncBackend", "AsyncJob"),
    "face": ("Backend", "Job"),
    "interface": ("BackendFlows",),
    "job_status": ("JobStatus",),
    "params": (
        "ImagineParams", "LipSyncParams", "PortraitParams", "TTSParams", "TalkParams", "WorkflowParams",
    ),
    "request": ("Request",),
    "result": ("GeneratedFile", "GenerationResult", "Health"),
    "settings": ("Secret", "Settings"),
    "graph_check": ("validate",),
    "graph_structure": ("Problem",),
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
    "ImagineParams",
    "InvalidArgument",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobStatus",
    "LipSyncParams",
    "MissingSetting",
    "NotFound",
    "NotSupported",
    "PartialApply",
    "PortraitParams",
    "Problem",
    "RateLimited",
    "RegistryError",
    "Request",
    "Secret",
    "Settings",
    "SourceMissing",
    "TTSParams",
    "TalkParams",
    "TransferError",
    "Unavailable",
    "VolumeFull",
    "WaitTimeout",
    "WorkflowParams",
    "fallback",
    "get_async_backend",
    "get_backend",
    "register_backend",
    "validate",
]


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
