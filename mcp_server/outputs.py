"""The one folder that this server writes generated files to, and the names they have for clients."""

import contextlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from backend.errors import InvalidArgument, SourceMissing
from ops.media import mime_type

URI: Final = "comfyform://outputs/"
SUFFIXES: Final = {"portrait": ".png", "imagine": ".png", "tts": ".flac", "lipsync": ".mp4", "talk": ".mp4"}
MEDIA: Final = ("image/", "audio/", "video/")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Outputs:
    """The folder of generated files.

    Args:
        root: made when the first file is written.
        now: tells the time that made-up names begin with.
    """

    def __init__(self, root: Path, *, now: Callable[[], datetime] = _utc_now) -> None:
        self.root = root.expanduser().resolve()
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
        suffix = SUFFIXES[verb]
        if name is None:
            # The random part keeps two calls in one second apart.
            return self.root / f"{verb}-{self._now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}{suffix}"
        path = self.inside(name)
        if path == self.root:
            raise InvalidArgument("output_path names the output folder itself.", hint="Add a file name.")
        return path if path.suffix else path.with_suffix(suffix)

    def inside(self, name: str) -> Path:
        """Give the path of a name below the folder.

        Raises:
            InvalidArgument: it leads out of the folder, also by a link.
        """
        problem = f"{name!r} is outside the output folder {self.root}."
        hint = "Give a name below it, or set COMFYFORM_OUTPUT_DIR."
        if "\0" in name:
            raise InvalidArgument(problem, hint=hint)
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise InvalidArgument(problem, hint=hint)
        return path

    def uri(self, path: Path) -> str | None:
        """Give a file's resource address, or None when it lies elsewhere."""
        resolved = path.resolve()
        if not resolved.is_relative_to(self.root):
            return None
        return URI + quote(resolved.relative_to(self.root).as_posix())

    def at(self, uri: str) -> Path:
        """Give the file of a resource address.

        Raises:
            InvalidArgument: it leads out of the folder.
            SourceMissing: there is no such file (any more).
        """
        path = self.inside(unquote(uri.removeprefix(URI)))
        if not path.is_file():
            raise SourceMissing(f"There is no file {path.name!r} in {path.parent}.", path=str(path))
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
            InvalidArgument: it is a file of this machine and neither picture, sound nor film. A model
                that is talked into sending ``~/.ssh/id_ed25519`` away gets this.
        """
        if value.startswith(URI):
            return str(self.at(value))
        if "://" in value or not value:
            return value
        path = Path(value).expanduser()
        if not path.is_absolute() and not value.startswith("."):
            earlier = (self.root / value).resolve()
            if earlier.is_relative_to(self.root) and earlier.is_file():
                return str(earlier)
        if path.is_file() and not mime_type(path).startswith(MEDIA):
            raise InvalidArgument(f"{value!r} is neither a picture nor sound nor film, so it is not sent.")
        return value
