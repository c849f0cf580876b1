"""What is sent to RunPod's queue with a job. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from backend.errors import InvalidArgument

LONGEST_EXECUTION_S: Final = 7 * 24 * 3600


def execution_policy(deadline_s: float) -> dict[str, int]:
    """A policy that lets the worker run for so long.

    Source: the endpoint's own default was seen to be 0 as well as 300 s, so it is always sent;
        RunPod accepts 5 s to 7 days (docs 2026-08-20, execution policies).
    """
    return {"executionTimeout": math.ceil(min(max(deadline_s, 5.0), LONGEST_EXECUTION_S) * 1000)}


def body(job_input: Mapping[str, Any], policy: Mapping[str, Any] | None, *, limit: int, way: str) -> bytes:
    """Write the body of a submission.

    Raises:
        InvalidArgument: it is over the limit.
    """
    job: dict[str, Any] = {"input": job_input}
    if policy:
        job["policy"] = policy
    written = json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode()
    if len(written) > limit:
        raise InvalidArgument(
            f"The job is {len(written) / 1e6:.1f} MB as JSON; "
            f"RunPod's {way} takes at most {limit / 1e6:.1f} MB.",
            hint="Send large files over the volume (set RUNPOD_VOLUME_ID and the RUNPOD_S3_… keys), "
            "or as https:// addresses, or make them smaller.",
        )
    return written
