"""The one folder that this server writes generated files to, and the names they have for clients."""

import contextlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from backend.errors import InvalidArgument, SourceMissing
from backend.validation.checks import MAX_ADDRESS_CHARS, path_problem
from backend.validation.printable import quoted
from backend.verbs.catalog import find

URI: Final = "comfyform://outputs/"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Outputs:
    """The folder of generated files.

    Args:
        root: made when the first file is written.
        now: tells the time that made-up names begin with.
    """

    def __init__(self, root: Path, *, now: Callable[[], datetime] = _utc_now) -> None:
        self.root = root.resolve()
        self._now = now

    def path_for(self, verb: str, name: str | None) -> Path:
        """Decide where a result goes.

        Args:
            verb: what makes it.
            name: what the caller wants, below the folder; None makes one up. Without a suffix it gets
                that of the verb.

        Raises:
            InvalidArgument: the name leaves the folder.
        """
        suffix = find(verb).suffix
        if name is None:
            # The random part keeps two calls in one second apart.
            return self.root / f"{verb}-{self._now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}{suffix}"
        path = self.inside(name)
        if path == self.root:
            raise InvalidArgument("output_path names the output folder itself.", hint="Add a file name.")
        return path if path.suffix else path.with_suffix(suffix)

    def inside(self, name: str) -> Path:
        """Return the path of a name below the folder.

        Raises:
            InvalidArgument: it leads out of the folder, also by a link.
        """
        problem = f"{quoted(name)} is outside the output folder {self.root}."
        hint = "Give a name below it, or set COMFYFORM_OUTPUT_DIR."
        relative = name.removeprefix(f"{self.root.as_posix()}/")
        climbs = relative.startswith("/") or ".." in relative.split("/")
        if not climbs and (why := path_problem(relative)) and name != ".":
            raise InvalidArgument(f"{quoted(name)} cannot name an output: {why}.", hint=hint)
        if "\0" in name or len(name) > MAX_ADDRESS_CHARS:
            raise InvalidArgument(problem, hint=hint)
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise InvalidArgument(problem, hint=hint)
        return path

    def uri(self, path: Path) -> str | None:
        """Return a file's resource address, or None when it lies elsewhere."""
        resolved = path.resolve()
        if not resolved.is_relative_to(self.root):
            return None
        return URI + quote(resolved.relative_to(self.root).as_posix())

    def at(self, uri: str) -> Path:
        """Return the file of a resource address.

        Raises:
            InvalidArgument: it leads out of the folder.
            SourceMissing: the file does not exist (any more).
        """
        path = self.inside(unquote(uri.removeprefix(URI)))
        if not path.is_file():
            raise SourceMissing(f"File {path.name!r} not found in {path.parent}.", path=str(path))
        return path

    def files(self) -> list[Path]:
        """List what is in the folder, newest first."""
        found = []
        for path in self.root.rglob("*"):
            # Somebody may tidy up meanwhile; what is written aside begins with a dot.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):
                    found.append((-path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    def source(self, value: str) -> str:
        """Find what an input means: an earlier result by its name or address, else what it says.

        Raises:
            InvalidArgument: it is a file of this machine and neither picture, sound nor video. A model
                that is talked into sending ``~/.ssh/id_ed25519`` away gets this.
        """
        if value.startswith(URI):
            return self._checked(self.at(value), value)
        if value[:5].lower() == "data:":
            raise InvalidArgument(
                f"{quoted(value, 60)} is a data: URI; expected a file.",
                hint="Save it to a file on this machine and pass its path.",
            )
        # Before any look at the disk: a path of megabytes takes seconds of the server's loop.
        if len(value) > MAX_ADDRESS_CHARS or "\0" in value:
            raise InvalidArgument(f"{quoted(value, 60)} is not a path or a URL.")
        if "://" in value or not value:
            return value
        path = (
            Path(value).expanduser() if not value.startswith("~") or value[1:2] in ("", "/") else Path(value)
        )
        if not path.is_absolute() and not value.startswith("."):
            earlier = (self.root / value).resolve()
            if earlier.is_relative_to(self.root) and _exists(earlier):
                return self._checked(earlier, value)
        return self._checked(path, value) if _exists(path) else value

    def _checked(self, path: Path, value: str) -> str:
        """Return a file's path when it holds a picture, sound or video.

        Raises:
            InvalidArgument: its content is something else, it is not a regular file, or a link leads out of
                the folder that it is named in.
        """
        real = path.resolve()
        folder = path.parent.resolve()
        if not real.is_relative_to(folder):
            raise InvalidArgument(
                f"{quoted(value)} is a link that leads out of its folder, so it is not sent."
            )
        if not real.is_file() or not _holds_media(real):
            raise InvalidArgument(f"{quoted(value)} is not an image, audio or video file, so it is not sent.")
        return str(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long for the file system
        return False


def _holds_media(path: Path) -> bool:
    """Tell whether a file begins as a picture, sound or video does, whatever its name says."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    if head.startswith(_SIGNATURES) or head[4:8] == b"ftyp":
        return True
    riff = head[:4] in (b"RIFF", b"RF64", b"FORM") and head[8:12] in (
        b"WAVE", b"WEBP", b"AVI ", b"AIFF", b"AIFC",
    )  # fmt: skip
    # Frames of MPEG audio and ADTS: eleven bits, then a version and a layer that exist.
    frame = len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08
    return riff or (frame and head[2] & 0xF0 != 0xF0 and path.suffix.lower() in (".mp3", ".aac", ".mp2"))


_SIGNATURES: Final = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"fLaC", b"OggS",
    b"ID3", b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"FLV\1",
)  # fmt: skip
"""Beginnings of PNG, JPEG, GIF, TIFF, FLAC, Ogg, ID3, Matroska and WebM, MPEG, ASF and FLV."""
