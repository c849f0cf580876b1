"""What a report says, as values: `ops.report.collect` finds it out, `ops.report.page` draws it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

Section = Literal["stack", "jobs", "models", "costs"]
SECTIONS: Final[dict[Section, str]] = {
    "stack": "Stack",
    "jobs": "Recent jobs",
    "models": "Models",
    "costs": "Costs",
}
"""The parts of a report, in their order → heading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that is deployed.

    Attributes:
        kind: ``Network volume``, ``GPU endpoint``, …
        identifier: RunPod's id.
        state: one word, or empty where it has none.
        note: what else there is to say.
    """

    kind: str
    name: str
    identifier: str
    state: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file that is wanted, or there, or both.

    Attributes:
        path: from the volume root.
        state: ``in place``, ``missing``, ``wrong``, ``unverified``, ``extra``; ``unknown`` where the
            volume was not looked at.
        reason: why it is in that state.
        used_by: verbs that need it.
    """

    name: str
    path: str
    size_bytes: int | None
    state: str
    reason: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A file that a job made.

    Attributes:
        type: ``image``, ``audio``, ``video`` or anything else.
        path: where it is on this machine, or None when it is not (any more).
    """

    type: str
    name: str
    path: Path | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A generation that was run from this machine.

    Attributes:
        identifier: RunPod's or ComfyUI's id.
        summary: its prompt or text.
        state: ``succeeded``, ``failed``, ``expired``, ``cancelled``, ``running``, ``waiting`` or
            ``unknown``.
        seconds: from submission to end, or None while it runs.
    """

    identifier: str
    verb: str
    backend: str
    started_at: datetime
    state: str
    summary: str = ""
    seconds: float | None = None
    seed: int | None = None
    error: str = ""
    files: tuple[JobFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One line of what the stack costs.

    Attributes:
        basis: how it is reckoned, for example ``50 GB at $0.07``.
    """

    what: str
    basis: str
    monthly_usd: float | None = None
    hourly_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that could not be found out.

    Attributes:
        section: the part of the page that lacks it.
        sentence: what happened, to what, and what to do next.
        exit_code: that of the error behind it.
    """

    section: Section
    sentence: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything on the page.

    Attributes:
        title: the stack's name.
        made_at: UTC.
        deployed: False where no setting speaks of RunPod, so that a page without a stack lacks nothing.
        problems: what could not be found out.
    """

    title: str
    made_at: datetime
    deployed: bool = True
    resources: tuple[Resource, ...] = ()
    models: tuple[Model, ...] = ()
    jobs: tuple[Job, ...] = ()
    costs: tuple[Cost, ...] = ()
    problems: tuple[Problem, ...] = ()

    def problems_of(self, section: Section) -> tuple[Problem, ...]:
        """Return what a section lacks."""
        return tuple(problem for problem in self.problems if problem.section == section)

    @property
    def monthly_usd(self) -> float | None:
        """Storage and all else that is paid for by the month, or None where no price is known."""
        return _total([cost.monthly_usd for cost in self.costs])

    @property
    def hourly_usd(self) -> float | None:
        """What an hour costs while every worker is busy, or None where no price is known."""
        return _total([cost.hourly_usd for cost in self.costs])


def _total(amounts: list[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
