"""What a backend is: one class of flows.

Who writes one starts here, and at docs/add-a-backend.md.
"""

from pathlib import Path
from typing import Protocol

from backend.errors import NotSupported
from backend.flow import Flow
from backend.jobs.status import JobStatus
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult, Health


class BackendFlows(Protocol):
    """A backend.

    With an attribute ``talks`` that is true it does ``talk`` in one job of its own; without one it is never
    asked to, and ``talk`` is its ``tts`` and its ``lipsync``.
    """

    name: str

    def health_check(self) -> Flow[Health]:
        """Tell whether it would take a job now; raises nothing."""

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb to its end; a failure is raised."""


class ResumableFlows(BackendFlows, Protocol):
    """A backend whose jobs live on without the caller."""

    def submit(self, request: Request, *, deadline_s: float) -> Flow[str]:
        """Submit a job and return its id."""

    def resume(
        self, job_id: str, *, deadline_s: float, output_path: Path | None = None
    ) -> Flow[GenerationResult]:
        """Wait for a job and fetch its result."""

    def status(self, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is."""

    def cancel(self, job_id: str) -> Flow[bool]:
        """Cancel a job; False where it is not known (any more)."""


def can_resume(flows: BackendFlows) -> bool:
    """Tell whether a backend's jobs live on without the caller."""
    return hasattr(flows, "resume")


def resumable(flows: BackendFlows) -> ResumableFlows:
    """Return a backend as one whose jobs live on.

    Raises:
        NotSupported: it keeps none.
    """
    if not can_resume(flows):
        raise NotSupported(
            f"The {flows.name} backend keeps no jobs: they end with the call that started them."
        )
    return flows  # type: ignore[return-value]  # it has what the protocol asks for
