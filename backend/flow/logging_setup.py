"""Write the log of comfyform's packages to stderr, where the user asks for it with ``COMFYFORM_LOG``.

Each module logs to ``logging.getLogger(__name__)``. Decisions (a retry, a transfer that resumes, a plan's
action) are INFO, single requests and commands are DEBUG. No handler is installed unless the user asks, and
none where the program has configured logging itself.
"""

import logging
import sys
from typing import Any, Final

from backend.settings import Settings, variables_set
from backend.validation.printable import visible

logger = logging.getLogger(__name__)

PACKAGES: Final = ("backend", "ops", "infra", "worker", "mcp_server")
"""Top-level packages, which are the parents of all loggers."""


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what ``sys.stderr`` is at the time of the record."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Formatter(logging.Formatter):
    """A line with time, level and module; control characters from outside are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


_handler: Final = _Stderr()
_handler.setFormatter(
    _Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
)


def start_logging(level: str) -> None:
    """Show the packages' records from a level on; calling it again changes only the level.

    A program that has configured logging gets the records in its own handlers instead.

    Args:
        level: ``off``, ``info`` or ``debug``, as `backend.settings.Settings.comfyform_log` has it.
    """
    if level == "off":
        return
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        if not logging.getLogger().handlers:
            logger.addHandler(_handler)
            logger.propagate = False


def start_logging_from_env() -> None:
    """Read ``COMFYFORM_LOG`` of this process and act on it, whatever other settings are.

    Raises:
        ConfigError: its value is unknown.
    """
    level = Settings.from_env(only=["comfyform_log"]).comfyform_log
    if level != "off":
        start_logging(level)
        logger.info("Variables that are set: %s", ", ".join(variables_set()))
