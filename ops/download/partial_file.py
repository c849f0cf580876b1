"""A file on its way: its bytes, and a journal of which of them are here.

The file is cut into pieces of one size; the journal holds, for each piece, how
many of its bytes are written from its start. Both are plain files, and a write
of bytes always comes before the write of their number, so a process that is
killed loses at most what was in its hands. Pieces that a failed flush may have
lost are counted out again. After a power cut the journal may promise more than
the disk kept; the hash over the whole file finds that.

The journal is a header, one line of JSON padded to `HEADER_BYTES`, then one
unsigned 32-bit little-endian number a piece.
"""

import errno
import hashlib
import json
import os
import struct
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from backend.errors import TransferError
from ops.files.background_fsync import Flusher

HEADER_BYTES: Final = 512
_COUNT: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which bytes these are, so that a later run may go on with them.

    Attributes:
        source: a digest of how a registry writes it, so that its length does not matter.
        size_bytes: of the whole file.
        sha256: of the whole file, where it is known already.
        version: a digest of what the server calls this version; None where it does not say.
        piece_bytes: size of a piece; the last may be shorter.
    """

    source: str
    size_bytes: int
    sha256: str | None
    version: str | None
    piece_bytes: int

    @classmethod
    def of(
        cls, source: str, *, size_bytes: int, sha256: str | None, version: str | None, piece_bytes: int
    ) -> Self:
        """An identity of a source and a version as they are written."""
        return cls(
            source=_digest(source),
            size_bytes=size_bytes,
            sha256=sha256,
            version=None if version is None else _digest(version),
            piece_bytes=piece_bytes,
        )

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-self.size_bytes // self.piece_bytes)

    def length(self, index: int) -> int:
        """Bytes of a piece."""
        return min(self.piece_bytes, self.size_bytes - index * self.piece_bytes)

    def offset(self, index: int) -> int:
        """Where a piece begins."""
        return index * self.piece_bytes

    def is_version(self, version: str | None) -> bool:
        """Tell whether a server's name for a version is this one's."""
        return version is not None and self.version == _digest(version)

    def continues(self, earlier: "Identity") -> bool:
        """Tell whether bytes kept under the earlier identity can be used for this one.

        Where the sha256 of the whole is known, it decides in the end, so bytes of a file of the same
        size can be used whatever server and version they came from. Where it is not, nothing but the
        same source and version will do.
        """
        if (self.size_bytes, self.piece_bytes) != (earlier.size_bytes, earlier.piece_bytes):
            return False
        if self.sha256 is not None and earlier.sha256 in (None, self.sha256):
            return True
        return self.source == earlier.source and self.version is not None and self.version == earlier.version


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Partial:
    """The bytes and the journal of one file. Pieces may be written from several threads.

    Args:
        path: where the bytes are; the journal lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal_path = path.with_name(f"{path.name}.journal")
        self._file: int | None = None
        self._journal: int | None = None
        self._flusher: Flusher | None = None
        self._gate = threading.Lock()
        self._done: list[int] = []
        self.identity: Identity | None = None
        self._load()

    def _load(self) -> None:
        """Read what an earlier run left; anything odd counts as nothing."""
        try:
            content = self._journal_path.read_bytes()
            size = self._path.stat().st_size
            identity = Identity(**json.loads(content[:HEADER_BYTES]))
            counts = [count for (count,) in _COUNT.iter_unpack(content[HEADER_BYTES:])]
        except (OSError, ValueError, TypeError, struct.error):
            return
        if identity.size_bytes <= 0 or identity.piece_bytes <= 0 or len(counts) != identity.pieces:
            return
        for index, count in enumerate(counts):
            if count > identity.length(index) or identity.offset(index) + count > size:
                counts[index] = 0
        self.identity, self._done = identity, counts

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self._path

    def held_bytes(self, identity: Identity) -> int:
        """Count the bytes that are here of this identity."""
        return sum(self._done) if self._continues(identity) else 0

    def _continues(self, identity: Identity) -> bool:
        return self.identity is not None and identity.continues(self.identity)

    def begin(self, identity: Identity) -> bool:
        """Open for writing: go on where the kept bytes are of this identity, else from nothing.

        Args:
            identity: which bytes will be here.

        Returns:
            True when kept bytes are gone on with.

        Raises:
            OSError: the disk refuses. What is open then, `close` closes.
        """
        kept = self._continues(identity)
        self.close()
        if not kept:
            self.discard()
            self._done = [0] * identity.pieces
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        self._journal = os.open(self._journal_path, os.O_RDWR | os.O_CREAT, 0o644)
        self.identity = identity
        header = json.dumps(asdict(identity)).encode().ljust(HEADER_BYTES - 1) + b"\n"
        self._write(self._journal, header + b"".join(map(_COUNT.pack, self._done)), 0)
        held = [index for index, done in enumerate(self._done) if done]
        self._flusher = Flusher(self._file, held)
        if held:
            self._flusher.flush()
        return kept

    def plain(self) -> BinaryIO:
        """Open the bytes for writing from nothing, without a journal: they cannot be gone on with."""
        self.discard()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("wb")

    def done(self, index: int) -> int:
        """Bytes of a piece that are here, from its start."""
        return self._done[index]

    def write(self, index: int, data: bytes | memoryview, at: int) -> None:
        """Write bytes of a piece. Only one thread may write one piece.

        Args:
            index: the piece.
            data: the bytes.
            at: where they begin in the piece; up to there it is here already.

        Raises:
            OSError: the disk refuses.
            TransferError: the file was closed meanwhile: a straggler of a transfer that has ended.
        """
        with self._gate:
            if self.identity is None or self._file is None:
                raise TransferError("The transfer has ended.", path=str(self._path))
            self._write(self._file, data, self.identity.offset(index) + at)
            self._note(index, max(self._done[index], at + len(data)))
            if self._flusher is not None:
                self._flusher.wrote(index, len(data))

    def read(self, index: int, into: memoryview) -> int:
        """Read the bytes of a piece that are here; returns how many these are.

        Raises:
            OSError: the disk does not give them back.
        """
        if self.identity is None or self._file is None:
            raise TransferError("The transfer has ended.", path=str(self._path))
        at, start = 0, self.identity.offset(index)
        while at < self._done[index]:
            count = os.preadv(self._file, [into[at : self._done[index]]], start + at)
            if not count:
                raise OSError(errno.EIO, "bytes that were kept are gone", str(self._path))
            at += count
        return at

    def finish(self) -> None:
        """Wait until all bytes are on the disk.

        Raises:
            OSError: the disk refuses, or refused some of them earlier.
        """
        if self._flusher is not None:
            self._flusher.finish()

    def forget(self, index: int) -> None:
        """Count a piece as not here."""
        with self._gate:
            self._note(index, 0)

    def _note(self, index: int, done: int) -> None:
        """Write into the journal how much of a piece is here."""
        if self._journal is not None:
            self._write(self._journal, _COUNT.pack(done), HEADER_BYTES + index * _COUNT.size)
        self._done[index] = done

    def close(self) -> None:
        """Close the files; what is here stays for a later run."""
        with self._gate:
            if self._flusher is not None:
                self._flusher.stop()
                for index in self._flusher.lost:
                    self._note(index, 0)
            for descriptor in (self._file, self._journal):
                if descriptor is not None:
                    os.close(descriptor)
            self._file = self._journal = self._flusher = None

    def discard(self) -> None:
        """Delete the bytes and the journal."""
        self.close()
        self._journal_path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self.identity, self._done = None, []

    @staticmethod
    def _write(descriptor: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of it; the system may take less at a time."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
