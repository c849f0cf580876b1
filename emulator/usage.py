"""What the account uses: the seconds of every worker, with and without a job, and of every volume.

The billing routes price it; nothing here is a constant of a test. It survives a restart of the emulator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emulator.control.clock import Clock

Span = tuple[float, float]
"""A begin and an end, in seconds since the epoch."""


@dataclass(slots=True)
class Run:
    """A worker's process from its start to its stop.

    Attributes:
        gpus, gpu_type: None and 0 for a CPU worker.
        vcpus: 0 for a GPU worker.
        ended_at: None while it runs.
        busy: when it had a job; several jobs at a time overlap.
    """

    endpoint_id: str
    worker_id: str
    gpu_type: str | None
    gpus: int
    cpu: str | None
    vcpus: int
    disk_gb: int
    started_at: float
    ended_at: float | None = None
    busy: list[Span] = field(default_factory=list)

    def executed(self) -> Iterator[Span]:
        """Spans with at least one job, in order and apart."""
        begin = end = None
        for one, other in sorted(self.busy):
            if begin is None or end is None:
                begin, end = one, other
            elif one <= end:
                end = max(end, other)
            else:
                yield begin, end
                begin, end = one, other
        if begin is not None and end is not None:
            yield begin, end


@dataclass(slots=True)
class Storage:
    """A volume for as long as its size stays the same; `ended_at` is None while it does."""

    volume_id: str
    tier: str
    size_gb: int
    started_at: float
    ended_at: float | None = None


class Ledger:
    """Everything that was used, in the order in which it began.

    Args:
        path: where it is kept.
        clock: the emulator's, so that skipped time is used time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self.runs: list[Run] = []
        self.storage: list[Storage] = []
        if path.exists():
            known = json.loads(path.read_text())
            self.runs = [Run(**{**run, "busy": [*map(tuple, run["busy"])]}) for run in known["runs"]]
            self.storage = [Storage(**volume) for volume in known["storage"]]
            for run in self.runs:
                if run.ended_at is None:  # its worker died with the emulator that ran it
                    run.ended_at = max(known["saved_at"], run.started_at)

    def start(self, run: Run) -> None:
        """Begin a worker's run."""
        self.runs.append(run)
        self._save()

    def end(self, worker_id: str) -> None:
        """End the run of a worker whose process has ended."""
        for run in self.runs:
            if run.worker_id == worker_id and run.ended_at is None:
                run.ended_at = self._clock.now()
                self._save()

    def executed(self, worker_id: str, begin: float, end: float) -> None:
        """Take down when a worker had a job."""
        # Also for a process that has just ended: a job that it lost is found after that.
        runs = [run for run in self.runs if run.worker_id == worker_id and run.started_at < end]
        for run in runs[-1:]:
            last = end if run.ended_at is None else min(end, run.ended_at)
            run.busy.append((max(begin, run.started_at), last))
            self._save()

    def keep(self, volume_id: str, tier: str, size_gb: int) -> None:
        """Begin to count a volume, or count it with another size from now on."""
        self.drop(volume_id)
        self.storage.append(Storage(volume_id, tier, size_gb, self._clock.now()))
        self._save()

    def drop(self, volume_id: str) -> None:
        """End the count of a volume."""
        for storage in self.storage:
            if storage.volume_id == volume_id and storage.ended_at is None:
                storage.ended_at = self._clock.now()
                self._save()

    def clear(self) -> None:
        """Forget everything."""
        self.runs, self.storage = [], []
        self._save()

    def shown(self) -> list[dict[str, Any]]:
        """List every run with its seconds, for `GET /_emulator/state`."""
        now = self._clock.now()
        found = []
        for run in self.runs:
            whole = (run.ended_at or now) - run.started_at
            busy = sum(end - begin for begin, end in run.executed())
            names = {"endpointId": run.endpoint_id, "workerId": run.worker_id}
            found.append({**names, "executedSeconds": busy, "idleSeconds": max(0.0, whole - busy)})
        return found

    def _save(self) -> None:
        partial = self._path.with_suffix(".partial")
        document = {
            "saved_at": self._clock.now(),
            "runs": [asdict(run) for run in self.runs],
            "storage": [asdict(volume) for volume in self.storage],
        }
        partial.write_text(json.dumps(document))
        partial.replace(self._path)
