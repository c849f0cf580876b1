"""The journal while several processes, and several clients of one process, use it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backend.jobs.journal import Journal

READ = """
import sys
from pathlib import Path
from backend.jobs.journal import Journal
print([entry.state for entry in Journal(Path(sys.argv[1])).entries()])
"""


def states_elsewhere(folder: Path) -> str:
    """The states of all entries as another process reads them, which ends afterwards."""
    command = [sys.executable, "-c", READ, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_process_that_ends_takes_no_later_entry_with_it(tmp_path: Path) -> None:
    """Two clients of this process have the journal open, so the end of another process must not drop its log.

    To close a second file descriptor of the database would release the locks of this process, and the other
    process would take itself for the last one and delete the write-ahead log.
    """
    first, second = Journal(tmp_path), Journal(tmp_path)
    entry = first.begin("portrait", "e1", seed=None, output_path=None, params={})
    assert second.find(entry.key) == entry

    before = states_elsewhere(tmp_path)
    first.write(entry, state="COMPLETED")

    assert (before, states_elsewhere(tmp_path)) == ("['SUBMITTING']", "['COMPLETED']")
