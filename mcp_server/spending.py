"""What a call may spend, and the question that is put to the user before it. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backend.validation.printable import quoted, shortened

if TYPE_CHECKING:
    from backend.jobs.journal import Entry
    from backend.verbs.request import Request

MAX_ARGUMENT_CHARS: Final = 60
MAX_ARGUMENTS_CHARS: Final = 300
JOBS_SHOWN: Final = 3
"""How many earlier jobs a question speaks of."""


class Costs(Enum):
    """What a call may spend."""

    NOTHING = "nothing"
    CPU = "a fraction of a cent, for a CPU worker that reads the volume"
    GPU = "money, for a job of a paid backend"


ASKED: Final[dict[str, frozenset[Costs]]] = {
    "never": frozenset(),
    "gpu": frozenset({Costs.GPU}),
    "all": frozenset({Costs.GPU, Costs.CPU}),
}
"""Value of ``COMFYFORM_MCP_CONFIRM`` → what is asked about."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a backend charges, as far as it is known, in US dollars.

    Attributes:
        usd_per_hour: one worker, at the most expensive hardware that it may get.
        usd_per_job_max: the limit above which a job is refused.
    """

    usd_per_hour: float | None = None
    usd_per_job_max: float | None = None


@dataclass(frozen=True, slots=True)
class PastJob:
    """What an earlier job took: seconds of work, and US dollars where they are known."""

    seconds: float
    usd: float | None = None


def question(
    request: "Request",
    backend: str,
    price: Price,
    history: Sequence[PastJob],
    *,
    audio_s: float | None = None,
) -> str:
    """Return what the user reads before a job is paid for.

    Args:
        request: verb and arguments.
        backend: who runs it.
        price: what it charges.
        history: earlier jobs of the same verb there, newest first.
        audio_s: length of the request's audio in seconds, where it is known.
    """
    facts = f"{_arguments(request)}; size: {_size(request, audio_s)}."
    return f"Run {request.verb} on {backend}? {facts} {_price(price)} {_history(history)}"


def past_jobs(
    entries: "Iterable[Entry]", verb: str, backends: Collection[str], usd_per_hour: float | None
) -> list[PastJob]:
    """Pick the newest jobs of a verb on some backends that ended well.

    Args:
        entries: of the journal, newest first.
        verb, backends: which jobs.
        usd_per_hour: of a RunPod worker, which is billed by its running time.
    """
    found = []
    for entry in entries:
        timings = (entry.result or {}).get("timings")
        if entry.verb != verb or entry.backend not in backends or not isinstance(timings, dict):
            continue
        seconds = timings.get("run") or timings.get("total")
        if not isinstance(seconds, int | float):
            continue
        usd = entry.usd
        if usd is None and usd_per_hour is not None and entry.backend == "runpod":
            usd = seconds * usd_per_hour / 3600
        found.append(PastJob(float(seconds), usd))
        if len(found) == JOBS_SHOWN:
            break
    return found


def _arguments(request: "Request") -> str:
    shown = [f"{name} {_short(value)}" for name, value in request.given.items()]
    return shortened(", ".join(shown), MAX_ARGUMENTS_CHARS)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return quoted(value.name if isinstance(value, Path) else value, MAX_ARGUMENT_CHARS)


def _size(request: "Request", audio_s: float | None) -> str:
    if request.verb in ("tts", "talk"):
        return f"{len(request['text'])} characters of text"
    if request.verb == "lipsync":
        seconds = request["duration"] or audio_s
        length = "of unknown length" if seconds is None else f"of {_seconds(seconds)}"
        return f"video {length}, shorter side {request['min_resolution']} pixels"
    width, height = (request[name] or "default" for name in ("width", "height"))
    return "the model's default" if width == height == "default" else f"{width} × {height} pixels"


def _price(price: Price) -> str:
    known = []
    if price.usd_per_hour is not None:
        known.append(f"A worker at RunPod costs at most ${price.usd_per_hour:.2f} an hour.")
    if price.usd_per_job_max is not None:
        limit = f"${price.usd_per_job_max:.2f}"
        known.append(f"Hedra sets a price for each job; above {limit} (HEDRA_MAX_USD) it is refused.")
    return " ".join(known) or "Unknown price."


def _history(history: Sequence[PastJob]) -> str:
    if not history:
        return "No such job was finished before."
    seconds = _range([_seconds(job.seconds) for job in sorted(history, key=lambda job: job.seconds)])
    amounts = sorted(job.usd for job in history if job.usd is not None)
    cost = f" and cost about {_range([_dollars(usd) for usd in amounts])}" if amounts else ""
    jobs = "The last such job" if len(history) == 1 else f"The last {len(history)} such jobs"
    return f"{jobs} took {seconds}{cost}."


def _range(ascending: Sequence[str]) -> str:
    low, high = ascending[0], ascending[-1]
    return low if low == high else f"{low} to {high}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _dollars(usd: float) -> str:
    return f"${usd:.4f}" if usd < 0.01 else f"${usd:.2f}"
