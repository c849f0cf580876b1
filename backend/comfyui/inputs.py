"""Bring the files that a verb works on to a ComfyUI, and learn what its graph needs to know of them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from backend.errors import InvalidArgument, NotFound, NotSupported
from backend.flow import Download, Downloaded, Flow, download, work
from backend.validation.checks import data_address_bytes, is_address, media_suffix
from backend.verbs import transcripts
from backend.verbs.params import InputLike
from backend.verbs.result import GeneratedFile

SUBFOLDER: Final = "comfyform"
"""Where uploads go under ComfyUI's input folder."""
MAX_NAME_CHARS: Final = 50
"""Characters that an upload keeps of a file's own name, from its end: they have at most 200 bytes."""


class Holder(Protocol):
    """What holds the files that a job works on."""

    @property
    def origin(self) -> str:
        """Its name as the holder of files; see ``GeneratedFile.origin``."""

    def has(self, name: str, size_bytes: int) -> Flow[bool]:
        """Tell whether an upload is there already."""

    def upload(self, source: Path, name: str, *, subfolder: str = "") -> Flow[str]:
        """Put a file among the inputs and return the name by which jobs know it."""


class Target(Holder, Protocol):
    """What a graph is made for: a `backend.comfyui.api.ComfyUI`, or a server that has one behind it."""

    @property
    def url(self) -> str:
        """Its address."""

    def object_info(self, class_type: str = "") -> Flow[Mapping[str, Any]]:
        """Return the definition of a node; {} where they are not shown."""

    def metadata(self, folder: str, filename: str) -> Flow[Mapping[str, str]]:
        """Return the metadata of a model file; {} where they are not shown."""

    def read(self, name: str) -> Flow[bytes | None]:
        """Read a small file; None if the file does not exist or files are not shown."""

    def fetch(self, name: str, to: Path) -> Flow[Downloaded]:
        """Write a file to disk; raises NotFound, or NotSupported where files are not shown."""


def bring(holder: Holder, value: InputLike) -> Flow[str]:
    """Make a file be among the inputs, and return the name by which LoadImage and LoadAudio know it.

    Uploads are named by their content, so that the same bytes travel once.
    """
    if isinstance(value, GeneratedFile):
        if value.origin == holder.origin and value.origin_path:
            return value.origin_path
        if value.local_path is not None and value.local_path.is_file():
            return (yield from _upload(holder, value.local_path))
        address = value.signed_url or value.remote_url
        if not address:
            raise InvalidArgument(
                f"{value.filename} is at {value.origin or 'an unknown place'} and not on this machine.",
                hint="Pass output_path to the call that generates it.",
            )
        return (yield from _upload_from_url(holder, address, value.filename))
    if isinstance(value, Path):
        return (yield from _upload(holder, value))
    name = str(value)
    if name[:5].lower() == "data:":
        with scratch() as folder:
            media_type, content = data_address_bytes(name)
            path = folder / f"input{media_suffix(media_type)}"
            yield from work(lambda: path.write_bytes(content))
            return (yield from _upload(holder, path))
    if is_address(name):
        filename = unquote(urlsplit(name).path.rpartition("/")[2]) or "input"
        return (yield from _upload_from_url(holder, name, filename))
    return name


def _upload(holder: Holder, path: Path) -> Flow[str]:
    sha256, size = yield from work(lambda: _digest(path))
    name = f"{sha256[:16]}_{clean_name(path.name)}"
    if (yield from holder.has(f"{SUBFOLDER}/{name}", size)):
        return f"{SUBFOLDER}/{name}"
    return (yield from holder.upload(path, name, subfolder=SUBFOLDER))


def _upload_from_url(holder: Holder, url: str, filename: str) -> Flow[str]:
    with scratch() as folder:
        path = folder / clean_name(filename)
        yield from download(Download(url=url, to=path, what=filename))
        return (yield from _upload(holder, path))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a moment."""
    import tempfile  # slow to load, and rarely needed

    with tempfile.TemporaryDirectory(prefix="comfyform-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def clean_name(name: str) -> str:
    """Return a file name that means nothing to a shell, a URL or ComfyUI; letters of all scripts stay."""
    return re.sub(r"[^\w.-]", "_", name)[-MAX_NAME_CHARS:]


def _digest(path: Path) -> tuple[str, int]:
    import hashlib  # slow to load

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def audio_duration_s(comfyui: Target, value: InputLike, name: str) -> Flow[float | None]:
    """Measure an audio input; None where `backend.files.audio_duration` cannot read it.

    Args:
        value: as the caller gave it.
        name: as ComfyUI knows it.

    Raises:
        InvalidArgument: ComfyUI has no such file.
    """
    from backend.files.audio_duration import duration_s

    local = value.local_path if isinstance(value, GeneratedFile) else value
    if isinstance(local, Path) and local.is_file():
        return (yield from work(lambda: duration_s(local)))
    with scratch() as folder:
        path = folder / "audio"
        try:
            yield from comfyui.fetch(name, path)
        except NotFound:
            raise _not_among_inputs(comfyui, name) from None
        except NotSupported:
            return None
        return (yield from work(lambda: duration_s(path)))


def transcript(comfyui: Target, value: InputLike, name: str) -> Flow[str]:
    """Read what a voice recording says from the ``.txt`` file of the same stem beside it; "" without one."""
    if isinstance(value, Path):
        return (yield from work(lambda: transcripts.read_beside(value)))
    if isinstance(value, GeneratedFile) or name.startswith(f"{SUBFOLDER}/"):
        return ""
    return transcripts.decoded((yield from comfyui.read(transcripts.file_name(name))))


def _not_among_inputs(comfyui: Target, name: str) -> InvalidArgument:
    return InvalidArgument(
        f"Input {name!r} not found on this machine or in the input folder of ComfyUI at {comfyui.url}.",
        hint="Check the path, or put the file into ComfyUI's input folder.",
    )
