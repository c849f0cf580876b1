"""What people and programs see: data on stdout, talk on stderr, a bar only on a terminal."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TextIO, TypeAlias

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from backend.contract import ProvisionProgress
from backend.errors import ComfyformError, ConfigError
from backend.settings import Settings
from backend.validation.printable import shortened, visible
from ops.files.amounts import amount
from ops.stores.model_store import OnProgress

Mode = Literal["human", "json", "quiet"]
Cell: TypeAlias = str | Text
INTERRUPTED: Final = 130
"""What a shell expects after Ctrl-C."""
MAX_ERROR_CHARS: Final = 20_000
"""A registry with its problems spelled out fits; an answer of megabytes does not."""
_UNBOUNDED: Final = 100_000
"""Characters that no row has."""


class Printer(RichConsole):
    """Rich's console, which leaves it to the program how to end when its reader has gone."""

    def on_broken_pipe(self) -> None:
        """Be as any other way to print; by default rich ends the program, with a status of its own."""
        raise BrokenPipeError


class Console:
    """The one sink of a command.

    Args:
        mode: ``human`` prints tables and talk; ``json`` one JSON value on stdout and no talk;
            ``quiet`` only failures.
        out, err: where to; by default the process's own.
    """

    def __init__(self, mode: Mode = "human", *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.mode = mode
        self._out = out or sys.stdout
        # On a terminal a table fits its width; elsewhere a row is a line, for grep and its kin.
        width = None if self._out.isatty() else _UNBOUNDED
        self._data = Printer(file=self._out, width=width, highlight=False)
        self._talk = Printer(file=err or sys.stderr, soft_wrap=True, highlight=False)

    def say(self, sentence: str) -> None:
        """Tell people something that is not the answer."""
        if self.mode == "human":
            self._talk.print(Text(visible(sentence)))

    def warn(self, sentence: str) -> None:
        """Tell people what they should know, in every mode but quiet."""
        if self.mode != "quiet":
            self._talk.print(Text(f"warning: {visible(sentence)}", style="yellow"))

    def data(self, value: Any) -> None:
        """Return the answer as JSON, in json mode."""
        if self.mode == "json":
            json.dump(value, self._out, indent=2, ensure_ascii=True)
            self._out.write("\n")
            self._out.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = "") -> None:
        """Return the answer as a table, in human mode. A column named with a final ``>`` is right-aligned."""
        if self.mode != "human":
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            right = column.endswith(">")
            table.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(
                *(cell if isinstance(cell, Text) else Text(visible(cell, lines=False)) for cell in row)
            )
        self._data.print(table)

    def text(self, text: str) -> None:
        """Return the answer as text, in human mode."""
        if self.mode == "human":
            self._data.print(Text(visible(text)), soft_wrap=True)

    def ask(self, question: str) -> bool:
        """Ask for a yes; without one, say that nothing is done.

        Raises:
            ConfigError: stdin is not a terminal, or the output is JSON.
        """
        if self.mode != "human":
            raise ConfigError(f"{question} Cannot prompt with --json.", hint="Pass --yes to confirm.")
        if not sys.stdin.isatty():
            raise ConfigError(
                f"{question} Cannot prompt: stdin is not a terminal.", hint="Pass --yes to confirm."
            )
        self._talk.print(Text(f"{question} [y/N] "), end="")
        agreed = sys.stdin.readline().strip().lower() in {"y", "yes"}
        if not agreed:
            self.say("Nothing was changed.")
        return agreed

    @contextlib.contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """Show how far files are, within a ``with``: bars on a terminal, else a line now and then."""
        if self.mode == "human" and self._talk.is_terminal:
            with Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._talk,
                transient=True,
            ) as bars:
                yield _Bars(bars)
        else:
            yield _Lines(self)

    @contextlib.contextmanager
    def steps(self) -> Iterator[Callable[[str, float, float], None] | None]:
        """Yield what shows a step of so many on a bar, within a ``with``; None without a terminal."""
        if self.mode != "human" or not self._talk.is_terminal:
            yield None
            return
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._talk,
            transient=True,
        ) as bars:
            tasks: dict[str, TaskID] = {}

            def show(name: str, step: float, of: float) -> None:
                for other, task in tasks.items():
                    bars.update(task, visible=other == name)
                if name not in tasks:
                    tasks[name] = bars.add_task(visible(name, lines=False))
                bars.update(tasks[name], completed=step, total=of)

            yield show

    def fail(self, error: BaseException) -> int:
        """Say what went wrong, in one line where one is enough, and return the exit code."""
        if isinstance(error, KeyboardInterrupt):
            self._talk.print(Text("Interrupted. Run the same command again to go on.", style="yellow"))
            return INTERRUPTED
        self._talk.print(Text(f"error: {visible(shortened(str(error), MAX_ERROR_CHARS))}", style="red"))
        return error.exit_code if isinstance(error, ComfyformError) else 1


class _Bars:
    """One bar a file that moves."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, progress: ProvisionProgress, /) -> None:
        path, done, total = progress["path"], progress["done_bytes"], progress["total_bytes"]
        with self._lock:
            if path not in self._tasks:
                self._tasks[path] = self._bars.add_task(visible(path, lines=False), total=total)
            task = self._tasks[path]
        self._bars.update(task, completed=done, total=total, visible=total is None or done < total)


class _Lines:
    """A line a file at every tenth of it, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenths: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, progress: ProvisionProgress, /) -> None:
        path, done, total = progress["path"], progress["done_bytes"], progress["total_bytes"]
        if not total:
            return
        tenth = 10 * done // total
        with self._lock:
            if tenth <= self._tenths.get(path, 0):
                return
            self._tenths[path] = tenth
        self._console.say(f"{path}: {amount(done)} of {amount(total)}")


def fail(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code."""
    return Console().fail(error)


def opened(settings: Settings | None, *, json: bool) -> tuple[Settings, Console]:
    """Return a command's settings, by default those of the environment, and the console that it asks for."""
    return settings or Settings.from_env(), Console("json" if json else "human")
