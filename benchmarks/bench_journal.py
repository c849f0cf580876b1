"""A journal of 50,000 jobs: write, find, list and prune.

Run as ``python -m benchmarks.bench_journal [ENTRIES]``. The peers hold the same entries; they are in
``benchmarks/requirements.txt``:

- one JSON file each, in a folder: what comfyform had before, and what many job runners do; found by reading.
- diskcache 5: an index in SQLite with a pickle a row, found by its key only; it has no second index, so a job
  is kept under its id, and has no order of its own to list the newest by but that of insertion.
- tinydb 4: one JSON document, read whole with every question.

Prints JSON: milliseconds, the best of several, and what a first job costs that finds 50,000 old entries.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.jobs.journal import Entry, Journal

FIND, MISSING = "job-7-u1", "job-nothing-u1"
LISTED = 20


def entries(count: int) -> list[dict[str, Any]]:
    """Entries as a busy studio has them: half ended and fetched, half never fetched."""
    found = []
    for number in range(count):
        done = number % 2 == 0
        entry = Entry(
            key=f"202611{1 + 20 * number // count:02d}T{number:012d}-{number:08x}",
            verb="portrait",
            endpoint_id="ep1",
            job_id=f"job-{number}-u1",
            state="COMPLETED" if done else "IN_PROGRESS",
            submitted_at="2999-01-01T00:00:00.000Z",
            params={"prompt": "a lighthouse at dusk, " * 10, "seed": number},
            result={"success": True, "backend": "runpod", "files": []} if done else None,
        )
        found.append(entry.to_json())
    return found


def best_ms(act: Callable[[], object], times: int = 5) -> float:
    def once() -> float:
        start = time.perf_counter()
        act()
        return time.perf_counter() - start

    return round(1000 * min(once() for _ in range(times)), 3)


def written(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write the entries as comfyform did before: one file each."""
    for row in rows:
        (folder / f"{row['key']}.json").write_text(json.dumps(row))


def ours(rows: list[dict[str, Any]], folder: Path) -> dict[str, float]:
    written(rows, folder)
    taken_in = best_ms(lambda: Journal(folder).find(FIND), 1)
    journal = Journal(folder)
    assert journal.find(FIND) is not None
    assert journal.find(MISSING) is None
    env = {**os.environ, "COMFYFORM_STATE_DIR": str(folder.parent)}
    program = [sys.executable, "-c", "from ops.commands.jobs import list_jobs; list_jobs()"]
    entry = journal.entries(1)[0]

    def begin() -> None:
        journal.begin("tts", "ep1", seed=None, output_path=None, params={})

    return {
        "find": best_ms(lambda: journal.find(FIND), 50),
        "find what is not there": best_ms(lambda: journal.find(MISSING), 50),
        "open and find": best_ms(lambda: Journal(folder).find(FIND)),
        "list the newest 20": best_ms(lambda: journal.entries(LISTED), 20),
        "list all": best_ms(journal.entries, 3),
        "jobs.list, the whole program": best_ms(
            lambda: subprocess.run(program, env=env, check=True, capture_output=True), 3
        ),
        "write": best_ms(lambda: journal.write(entry, state="IN_QUEUE"), 50),
        "begin, which prunes the half that has ended": best_ms(begin, 1),
        "begin after that": best_ms(begin, 20),
        "files of the version before, taken in once": taken_in,
    }


def files(rows: list[dict[str, Any]], folder: Path) -> dict[str, float]:
    written(rows, folder)

    def every() -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"), reverse=True)]

    def find(job_id: str) -> dict[str, Any] | None:
        return next((row for row in every() if row["job_id"] == job_id), None)

    return {
        "find": best_ms(lambda: find(FIND), 2),
        "find what is not there": best_ms(lambda: find(MISSING), 2),
        "list the newest 20": best_ms(lambda: every()[:LISTED], 2),
        "list all": best_ms(every, 2),
    }


def diskcache(rows: list[dict[str, Any]], folder: Path) -> dict[str, float] | str:
    if importlib.util.find_spec("diskcache") is None:
        return "not installed"
    index = importlib.import_module("diskcache").Index(str(folder))
    with index.transact():
        for row in rows:
            index[row["job_id"]] = row
    newest = lambda: [index[key] for key, _ in zip(reversed(index), range(LISTED), strict=False)]  # noqa: E731
    return {
        "find": best_ms(lambda: index.get(FIND), 50),
        "find what is not there": best_ms(lambda: index.get(MISSING), 50),
        "list the newest 20": best_ms(newest, 20),
        "list all": best_ms(lambda: list(index.values()), 2),
        "write": best_ms(lambda: index.__setitem__(FIND, rows[7]), 50),
    }


def tinydb(rows: list[dict[str, Any]], folder: Path) -> dict[str, float] | str:
    if importlib.util.find_spec("tinydb") is None:
        return "not installed"
    library = importlib.import_module("tinydb")
    where = library.where
    with library.TinyDB(folder / "jobs.json") as database:
        database.insert_multiple(rows)
        return {
            "find": best_ms(lambda: database.get(where("job_id") == FIND), 2),
            "find what is not there": best_ms(lambda: database.get(where("job_id") == MISSING), 2),
            "list the newest 20": best_ms(lambda: database.all()[-LISTED:], 2),
            "list all": best_ms(database.all, 2),
            "write": best_ms(lambda: database.update({"state": "IN_QUEUE"}, doc_ids=[7]), 2),
        }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rows = entries(count)
    report: dict[str, Any] = {"entries": count}
    peers = {"ours": ours, "one file each": files, "diskcache": diskcache, "tinydb": tinydb}
    for name, measure in peers.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "jobs"
            place.mkdir()
            report[name] = measure(rows, place)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
