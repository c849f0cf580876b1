"""Where this machine's models are: where the settings say, where its ComfyUI says, or the usual place."""

import ipaddress
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from backend.errors import ApiError, SourceMissing, Unavailable
from backend.flow import Send
from backend.flow.http_driver import Http
from backend.settings import Settings
from backend.validation.user_paths import user_path
from ops.local.comfyui_paths import find, read_answer
from ops.local.scan import Root
from ops.models.source_url import LocalSource

USUAL: Final = "~/Documents/ComfyUI/models"
"""Where ComfyUI's desktop program keeps them."""
WAYS: Final = (
    "Set COMFYUI_MODELS_DIR to your ComfyUI's models folder, or leave it unset and start ComfyUI, "
    "which reports its folders, or pass the folder: inv models.scan --models-dir FOLDER"
)
_PATIENCE_S: Final = 3.0
_ANSWER_BYTES: Final = 1024 * 1024
"""Of a real answer there are some thousands."""

# /internal/folder_paths tells it too, but by its README is for ComfyUI's own frontend and may change at any
# time. This one is for whoever shows models, and what is read of it is the same in both recorded versions.
# It leaves `configs` out, which is in the models folder that the others give away.
# Source: ComfyUI, api_server/routes/internal/README.md and app/model_manager.py; recordings get_endpoints.
_ROUTE: Final = "/experiment/models"


@dataclass(frozen=True, slots=True)
class LocalModels:
    """The folders of this machine's models.

    Attributes:
        roots: in the order in which ComfyUI looks into them.
        how: what named them, and where that was not the first that could, why.
    """

    roots: tuple[Root, ...]
    how: str

    @property
    def there(self) -> bool:
        """Tell whether there is a models folder."""
        return any(root.category is None and _is_folder(root.folder) for root in self.roots)

    def need(self, source: LocalSource, *, path: str | None = None) -> Path:
        """Return the file of this machine that a source names.

        Args:
            source: its path is ``<category>/<name>``; see `ops.local.comfyui_paths.find`.
            path: what the file is wanted as, for the error.

        Raises:
            SourceMissing: no folder has it.
        """
        file = find(self.roots, source.path)
        if file is None:
            raise SourceMissing(
                f"{source} is not among this machine's models: {self}.",
                path=path,
                hint="Set COMFYUI_MODELS_DIR to the folder that has it, or correct the registry.",
            )
        return file

    def __str__(self) -> str:
        """Name the folders, and how they were found."""
        return f"{', '.join(str(root.folder) for root in self.roots)} ({self.how})"


Locate = Callable[[], LocalModels]
"""Finds this machine's models on first use, so that ComfyUI is asked only when they are needed."""


def local_models(settings: Settings, *, patience_s: float = _PATIENCE_S) -> LocalModels:
    """Find this machine's models: as set, else as ComfyUI says, else in the usual place, there or not.

    Args:
        settings: they may name the folder; else the ComfyUI to ask.
        patience_s: how long a ComfyUI may take.
    """
    if settings.comfyui_models_dir is not None:
        folder = user_path(settings.comfyui_models_dir, "COMFYUI_MODELS_DIR")
        return LocalModels((Root(folder),), "COMFYUI_MODELS_DIR")
    try:
        roots = _asked(settings.comfyui_url, patience_s)
    except _NotTold as error:
        return LocalModels((Root(user_path(USUAL, "The usual models folder")),), f"the usual place; {error}")
    return LocalModels(roots, f"told by ComfyUI at {settings.comfyui_url}")


class _NotTold(Exception):
    """Why the location of the models is unknown, a sentence without its period."""


def _asked(url: str, patience_s: float) -> tuple[Root, ...]:
    """Ask a ComfyUI which folders it reads models from.

    Raises:
        _NotTold: it does not say, or not of this machine.
    """
    if not _is_this_machine(urlsplit(url).hostname or ""):
        # A path of another machine may well be one here too.
        raise _NotTold(f"ComfyUI at {url} is on another machine")
    try:
        content = _fetched(url, patience_s)
    except ApiError as error:
        sent = isinstance(error, Unavailable) and error.sent
        raise _NotTold(f"ComfyUI at {url} {'did not answer' if sent else 'cannot be reached'}") from None
    try:
        roots = read_answer(json.loads(content))
    except (ValueError, RecursionError):
        raise _NotTold(f"the server at {url} does not report its folders as ComfyUI does") from None
    models = next(root.folder for root in roots if root.category is None)
    if not _is_folder(models):
        # It is in a container, or behind a tunnel.
        raise _NotTold(f"ComfyUI at {url} reads {models}, which is not a folder on this machine")
    return tuple(root for root in roots if _is_folder(root.folder))


def _fetched(url: str, patience_s: float) -> bytes:
    """Fetch the answer, with an end to its time and size: anything may listen at that address.

    Raises:
        ApiError: none came.
        _NotTold: it is not ComfyUI's.
    """
    content, end = bytearray(), time.monotonic() + patience_s
    with Http() as http, http.stream(Send("GET", url + _ROUTE, timeout_s=patience_s)) as reply:
        if reply.status != 200:
            raise _NotTold(f"the server at {url} answered {reply.status} when asked for its folders")
        for chunk in reply.iter_bytes(None):
            content += chunk
            if len(content) > _ANSWER_BYTES or time.monotonic() > end:
                raise _NotTold(f"the server at {url} sends too much or too slowly")
    return bytes(content)


def _is_folder(path: Path) -> bool:
    """Tell whether a folder is there; one that this user may not even look for is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine, without looking up its address."""
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    try:
        address = ipaddress.ip_address(host)
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as probe:
            probe.bind((host, 0))  # only an address of this machine can be bound to
    except (ValueError, OSError):
        return False
    return True
