"""A file on its way: its bytes, and a journal of which of them are here.

The file is cut into pieces of one size; the journal holds, for each piece, how
many of its bytes are written from its start. Both are plain files, and a write
of bytes always comes before the write of their number, so a process that is
killed loses at most what was in its hands. Pieces that a failed flush may have
lost are counted out again. After a power cut the journal may promise more than
the disk kept; the hash over the whole file finds that.

A file that goes on to another place is not kept whole: the last pieces are,
in a ring, and a piece takes the room of the one that went on before it.

The journal is a header, one line of JSON padded to `HEADER_BYTES`, then one
unsigned 32-bit little-endian number a piece.
"""

import json
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from backend.errors import TransferError
from ops.flusher import Flusher

HEADER_BYTES: Final = 2048
_COUNT: Final = struct.Struct("<I")
_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which bytes these are, so that a later run may go on with them.

    Attributes:
        source: as a registry writes it.
        size_bytes: of the whole file.
        sha256: of the whole file, when known beforehand.
        etag: what the server called this version, strong ones only.
        piece_bytes: size of a piece; the last may be shorter.
        window: how many pieces are kept at a time; None keeps all of them.
    """

    source: str
    size_bytes: int
    sha256: str | None
    etag: str | None
    piece_bytes: int
    window: int | None = None

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-self.size_bytes // self.piece_bytes)

    def length(self, index: int) -> int:
        """Bytes of a piece."""
        return min(self.piece_bytes, self.size_bytes - index * self.piece_bytes)

    def offset(self, index: int) -> int:
        """Where a piece lies in the partial file."""
        return (index if self.window is None else index % self.window) * self.piece_bytes

    def continues(self, earlier: "Identity") -> bool:
        """Tell whether bytes kept under the earlier identity are bytes of this one."""
        shape, before = ((one.size_bytes, one.piece_bytes, one.window) for one in (self, earlier))
        if shape != before:
            return False
        if self.source == earlier.source and self.etag is not None and earlier.etag is not None:
            return self.etag == earlier.etag and earlier.sha256 in (None, self.sha256)
        return self.sha256 is not None and self.sha256 == earlier.sha256


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

    def begin(self, identity: Identity, *, passing: bool = False) -> bool:
        """Open for writing: go on where the kept bytes are of this identity, else from nothing.

        Args:
            identity: which bytes will be here.
            passing: they go on to another place, so no disk need be done with them.

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
        if len(header) != HEADER_BYTES:
            raise TransferError(f"The source of {self._path.name} has too long a name.", path=str(self._path))
        self._write(self._journal, header + b"".join(map(_COUNT.pack, self._done)), 0)
        if not passing:
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

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Append to a piece. Only one thread may write one piece.

        Raises:
            OSError: the disk refuses.
            TransferError: the file was closed meanwhile: a straggler of a transfer that has ended.
        """
        with self._gate:
            if self.identity is None or self._file is None or self._journal is None:
                raise TransferError("The transfer has ended.", path=str(self._path))
            done, window = self._done[index], self.identity.window
            if window is not None and index >= window and self._done[index - window]:
                self._note(index - window, 0)
            self._write(self._file, data, self.identity.offset(index) + done)
            self._note(index, done + len(data))
            if self._flusher is not None:
                self._flusher.wrote(index, len(data))

    def read(self, index: int) -> Iterator[bytes]:
        """Give the bytes of a piece that are here."""
        if self.identity is None or self._file is None:
            raise TransferError("The transfer has ended.", path=str(self._path))
        start = self.identity.offset(index)
        end = start + self._done[index]
        while start < end:
            data = os.pread(self._file, min(_READ_BYTES, end - start), start)
            if not data:
                raise TransferError("Bytes that were kept are gone.", path=str(self._path))
            yield data
            start += len(data)

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
