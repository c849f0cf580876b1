"""Reads from ComfyUI's log how long each node pack took to import. Pure.

Source: ComfyUI v0.29.0 and v0.33.0, nodes.py: after all imports it lists "   1.2 seconds: <folder>".
"""

import re
from typing import Final

_TIME: Final = re.compile(r"(?P<seconds>\d+\.\d+) seconds(?: \([^)]*\))?: (?P<path>.+)")


class ImportTimes:
    """Collects them line by line, from the start of one ComfyUI on.

    Attributes:
        found: name of a pack's folder → seconds.
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def read(self, line: str) -> None:
        """Take the next line, without control sequences."""
        if match := _TIME.search(line):
            name = match["path"].strip().rstrip("/").rpartition("/")[2].removesuffix(".py")
            self.found[name] = float(match["seconds"])
