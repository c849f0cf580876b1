"""The emulator's knobs: how strict, how slow and how big this RunPod is.

Plain values with RunPod's own numbers as defaults.
Tests turn them through `PATCH /_emulator/knobs`; a name that is not here is refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Limits:
    """What can be turned while the emulator runs; the unit is in the name.

    Source: RunPod docs 2026-08-20 (payloads, retention, rate limits), REST v2 openapi (quota words).
    """

    # job plane
    run_body_bytes: int = 10_000_000
    """Largest body of `/run`."""
    runsync_body_bytes: int = 20_000_000
    """Largest body of `/runsync`."""
    output_body_bytes: int = 20_000_000
    """Largest report of a worker; over it the result is lost."""
    run_retention_s: float = 1800.0
    """How long a job of `/run` can be asked for after its end."""
    runsync_retention_s: float = 60.0
    """The same for `/runsync`, or as long as its wait."""
    propagation_delay_s: float = 0.0
    """How long `/status` answers 404 after `/run` said yes."""
    unpause_delay_s: float = 0.0
    """How long an endpoint stays ENDPOINT_PAUSED after its `workers.max` is above 0 again."""
    redispatch_limit: int = 1
    """How often a job whose worker was lost is dispatched again before it fails."""
    timeout_status: str = "TIMED_OUT"
    """How a job ends that ran longer than its executionTimeout; the service also shows FAILED."""
    webhook_retry_s: float = 10.0
    """Between two tries to deliver a webhook."""
    job_take_hold_s: float = 20.0
    """How long a worker's job-take is held open when there is no job."""
    job_rate_per_10s: dict[str, int] = field(default_factory=dict)
    """Operation of the job plane (`run`, `status`, …) → requests in 10 s for each endpoint; others are not
    limited, or as `job_rates_as_documented` says."""
    job_rates_as_documented: bool = False
    """Whether RunPod's documented rates and numbers of requests at a time hold for each endpoint."""
    stream_chunk_bytes: int = 1_000_000
    """Largest chunk of `/stream`: a longer string that a worker yields is split."""

    # workers
    cold_start_s: float = 0.0
    """Added before a worker's process starts."""
    worker_lost_s: float = 30.0
    """A worker that holds a job and sends no ping for so long is taken for dead."""
    worker_grace_s: float = 10.0
    """Between SIGTERM and SIGKILL when a worker is stopped."""
    worker_stuck_s: float = 30.0
    """A worker that holds on to a job which was cancelled or has timed out is killed after so long."""
    idle_timeout_scale: float = 1.0
    """Multiplies every endpoint's `idleTimeout`: RunPod's least is one second."""
    shortage: list[str] = field(default_factory=list)
    """GPU types, pools, CPU flavors or data centers without a free machine: workers there stay THROTTLED."""

    # control plane
    worker_quota: int = 10
    """Sum of `workers.max` over all endpoints."""
    rate_limit_per_minute: int = 0
    """REST requests per minute before 429; 0: exempt, and without the headers."""
    api_key_rights: str = "all"
    """What the API key may do: `all`, or `read` (REST reads; everything else is 403)."""
    listing_delay_s: float = 0.0
    """How long a new resource is missing from the lists; by its id it is there at once."""
    endpoint_timeout_default_ms: int = 300_000
    """An endpoint's `timeout` when the create leaves it out; the service was seen to take 0."""
    bill_idle: bool = True
    """Whether a worker is billed from its start to its stop, or only while it has a job."""
    billing_lag_s: float = 0.0
    """How long it takes until what was used shows in the billing routes; RunPod's lag by days."""
    high_performance_usd_per_gb_month: float = 0.14
    """Price of a HIGH_PERFORMANCE volume; RunPod's depends on the data center."""
    volume_delete_checks_use: bool = True
    """Whether a volume that an endpoint uses cannot be deleted."""
    volume_release_s: float = 0.0
    """How long a volume still counts as in use after its endpoint is deleted."""
    template_delete_checks_use: bool = False
    """Whether a template cannot be deleted while an endpoint that was made from it exists."""
    missing_images: list[str] = field(default_factory=list)
    """Images that their registry does not have: refused with 422."""

    # Hedra
    hedra_job_s: float = 0.2
    """How long a job takes besides the work itself."""
    hedra_balance_usd: float = 10.0
    """What the wallet held at first."""
    hedra_rate_per_minute: int = 60
    """Requests per minute before 429."""
    hedra_outcome: str = "COMPLETED"
    """How jobs end: COMPLETED, ITEM_FAILED (completed with a failed output), FAILED, another error code, or
    REFUSED at once by moderation."""

    # S3
    s3_part_bytes: int = 500_000_000
    """Largest PutObject body and UploadPart part."""
    s3_first_listing_s: float = 0.0
    """How long the first listing of a bucket takes; RunPod's is slow for many or large files."""
    s3_repeat_token: bool = False
    """Whether a listing gives out the continuation token that it was asked with, again and again."""
    s3_volume_bytes: int = 0
    """Room on every volume for what comes over S3; 0: not limited."""

    def update(self, changes: dict[str, Any]) -> list[str]:
        """Apply changes by name and return the problems; with any problem nothing is applied."""
        problems = []
        for name, value in changes.items():
            if name not in self.__dataclass_fields__:
                problems.append(f"unknown knob {name!r}")
                continue
            current = getattr(self, name)
            required = (int, float) if isinstance(current, float) else type(current)
            if not isinstance(value, required) or (isinstance(value, bool) and not isinstance(current, bool)):
                problems.append(f"knob {name!r} takes a {type(current).__name__}, not {value!r}")
        if not problems:
            for name, value in changes.items():
                setattr(self, name, value)
        return problems

    def reset(self) -> None:
        """Turn every knob back."""
        self.update(Limits().to_json())

    def to_json(self) -> dict[str, Any]:
        """Return every knob and its value."""
        return dataclasses.asdict(self)
