"""Invoke's own program, but for how it takes a command line that it cannot read.

Invoke exits with 1, which is what a failed command gives. Wrong input is 2 with
us, as with other programs, and a mistyped name is answered with the nearest.
"""

import difflib
import os
import re
from importlib.metadata import version

from invoke import Argument, Exit, ParseError, Program

from backend.errors import ConfigError
from backend.settings import Settings
from ops.console import broken_pipe

_UNKNOWN = re.compile(r"No idea what '(?P<word>.*)' is!")
_VALUELESS = re.compile(r"Flag <Argument: (?P<name>[\w-]+).* needed value")


_VERBOSE = "Log every request, retry and Pulumi command to stderr, as COMFYFORM_LOG=debug does."
_HELP = frozenset({"-h", "--help"})


class Inv(Program):
    """The program behind ``./inv``."""

    def core_args(self) -> list[Argument]:
        """List the options that may stand before a task or after it."""
        names = ("verbose", "v")
        return [*super().core_args(), Argument(names=names, kind=bool, default=False, help=_VERBOSE)]

    def execute(self) -> None:
        """Start the log where it is wanted, and run the tasks."""
        if self.args.verbose.value:
            # Written, not read: Pulumi's program and providers inherit it.
            os.environ["COMFYFORM_LOG"] = "debug"  # noqa: TID251
        try:
            if Settings.from_env(only=["comfyform_log"]).comfyform_log != "off":
                from backend.flow.logging_setup import start_logging_from_env  # most runs do not need it

                start_logging_from_env()
        except ConfigError as error:
            raise Exit(f"error: {error}", code=ConfigError.exit_code) from error
        super().execute()

    def parse_core(self, argv: list[str] | None) -> None:
        """Read what stands before the tasks."""
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise Exit(f"error: {error}", code=ConfigError.exit_code) from error

    def parse_tasks(self) -> None:
        """Read the tasks and their options. A help flag anywhere after a task asks for that task's help."""
        words = self.core.unparsed
        if _HELP.intersection(words[1:]):
            self.args.help.value = words[0]
            self.core.unparsed = []
        try:
            super().parse_tasks()
        except ParseError as error:
            raise Exit(f"error: {self._said(error)}", code=ConfigError.exit_code) from error

    def parse_cleanup(self) -> None:
        """Show help or lists, where they were asked for."""
        try:
            super().parse_cleanup()
        except ParseError as error:
            raise Exit(f"error: {self._said(error)}", code=ConfigError.exit_code) from error

    def _said(self, error: ParseError) -> str:
        """Say what is wrong with a task or an option, and what may have been meant."""
        valueless = _VALUELESS.match(str(error))
        if valueless:
            return f"--{valueless['name'].replace('_', '-')} needs a value."
        unknown = _UNKNOWN.fullmatch(str(error))
        if unknown is None:
            return str(error)
        word = unknown["word"]
        if word.startswith("-"):
            return f"Unknown option {word}. `./inv --help TASK` lists a task's options."
        close = difflib.get_close_matches(word, self.collection.task_names, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        return f"Unknown task {word!r}.{meant} `./inv --list` lists all tasks."


def main() -> None:
    """Run the tasks that the command line names."""
    with broken_pipe.ends_quietly():
        Inv(name="comfyform", binary="inv", version=version("comfyform")).run()


if __name__ == "__main__":
    main()
