"""Reads from ComfyUI's log which node packs and core extras failed to import, and why. Pure.

Source: ComfyUI v0.29.0 and v0.33.0, nodes.py: a failed import logs its traceback, then "Cannot import …
module for custom nodes: …"; a second list names each module again with "IMPORT FAILED".
"""

import re
from typing import Final

_CANNOT: Final = re.compile(r"Cannot import (?P<path>.+) module for custom nodes: (?P<reason>.*)")
_ENTRYPOINT: Final = re.compile(r"Error while calling comfy_entrypoint in (?P<path>.+?): (?P<reason>.*)")
_LISTED: Final = re.compile(r"\bIMPORT FAILED\)?: (?P<path>.+)")
_EXCEPTION: Final = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?\Z")
NO_REASON: Final = "ComfyUI's log says why"


class ImportFailures:
    """Collects them line by line, from the start of one ComfyUI on.

    Attributes:
        found: name of a pack's folder or an extra's module → last line of its traceback.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._last = ""

    def read(self, line: str) -> None:
        """Take the next line, without control sequences."""
        if match := _CANNOT.search(line) or _ENTRYPOINT.search(line):
            reason = match["reason"].strip()
            # The traceback's last line names the exception's type, too.
            last = self._last if _EXCEPTION.match(self._last) and reason in self._last else reason
            self.found[_name(match["path"])] = last or NO_REASON
        elif match := _LISTED.search(line):
            self.found.setdefault(_name(match["path"]), NO_REASON)
        if line.strip():
            self._last = line.strip()


def _name(path: str) -> str:
    """Name a module by the last part of its path: a pack's folder, or a file without ``.py``."""
    return path.strip().rstrip("/").rpartition("/")[2].removesuffix(".py")
