"""What ComfyUI prints: a colored tag before every line, progress bars, and why a module failed to import.

Source: ComfyUI v0.29.0, app/logger.py, nodes.py and main.py; the bars are tqdm's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from emulator.comfyui.nodes.declarations import Node

logger = logging.getLogger("comfyui")
COLORS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}
LACKING = "missing_dependency"
"""The module that a pack cannot import when the knob `missing_nodes` takes its nodes away."""


class Colored(logging.Formatter):
    """Puts the level in color before a line, also where no terminal reads it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        bold = "\x1b[1m" if record.levelno >= logging.WARNING else ""
        return f"{bold}\x1b[{COLORS[record.levelname]}m[{record.levelname}]\x1b[0m {super().format(record)}"


def start() -> None:
    """Log to stderr in ComfyUI's form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Colored("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def bar(step: int, steps: int) -> None:
    """Redraw a progress bar in its line; the last step ends the line."""
    filled = "█" * (10 * step // steps)
    end = "\n" if step == steps else ""
    sys.stderr.write(
        f"\r{100 * step // steps:3d}%|{filled:<10}| {step}/{steps} [00:04<20:09,  1.65it/s]{end}"
    )
    sys.stderr.flush()


def failed_imports(nodes: Iterable[Node]) -> None:
    """Log that the modules of these nodes could not be imported."""
    places = sorted({f"/comfyui/{node.module.replace('.', '/')}" for node in nodes})
    for place in places:
        reason = f"No module named '{LACKING}'"
        logger.warning(
            "Traceback (most recent call last):\n"
            '  File "/comfyui/nodes.py", line 2243, in load_custom_node\n'
            "    module_spec.loader.exec_module(module)\n"
            "ModuleNotFoundError: %s\n",
            reason,
        )
        logger.warning("Cannot import %s module for custom nodes: %s", place, reason)
    for place in places:
        logger.info("   0.0 seconds (IMPORT FAILED): %s", place)
