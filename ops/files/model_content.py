"""What a file's bytes are: whether they are the model that its name promises, or what came in its place.

Everything that gives a model file its name asks here first. A server's status
and media type say little: login pages, error texts, pointers of Git LFS and
half files all arrive with status 200. The verdict depends on the bytes alone.
Reading loads nothing and runs nothing; a format that is not known is not judged.

Source: the formats' own descriptions: huggingface/safetensors README, ggml docs/gguf.md, Git LFS
docs/spec.md, PyTorch's serialization notes; read 2026-11.
"""

import io
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from backend.errors import InvalidJson
from backend.validation.json_reader import as_text, error_in, read_json
from backend.validation.printable import shortened
from ops.files.pickled_code import pickle_problem
from ops.models.categories import PICKLED

SAFETENSORS: Final = frozenset({".safetensors", ".sft"})
_PAGES: Final = frozenset({".html", ".htm", ".xml", ".svg"})
_ZIP: Final = b"PK\x03\x04"
_ARCHIVES: Final = (
    (_ZIP, "a ZIP archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"BZh", "compressed with bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
)
ARCHIVE_ENDINGS: Final = frozenset({".zip", ".gz", ".tgz", ".zst", ".xz", ".bz2", ".7z", ".rar", ".tar"})
_LFS: Final = b"version https://git-lfs"
_PAGE_MARKS: Final = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error")
_GGUF: Final = b"GGUF"
_ANSWERS: Final = frozenset({"unauthorized", "forbidden", "gone", "error", "null", "none"})
# The reference implementation refuses longer ones.
_LONGEST_HEADER: Final = 100_000_000
_HEAD_BYTES: Final = 4096
_SMALL_BYTES: Final = 1024 * 1024
_SHOWN_CHARS: Final = 120
_ARCHITECTURE_KEYS: Final = ("modelspec.architecture", "ss_base_model_version", "general.architecture")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file is.

    Attributes:
        architecture: as a safetensors file names it.
        problem: what is wrong with the file, as the end of a sentence; None where nothing is.
        incomplete: it is the right kind of file and a part of it is missing or damaged, so that
            fetching it again may help.
        pickled: its problem is pickled code, which a registry can allow.
    """

    architecture: str | None = None
    problem: str | None = None
    incomplete: bool = False
    pickled: bool = False


ALLOW_PICKLE: Final = (
    "Pickled code runs when a node loads the file. Prefer a .safetensors file. If you trust the author, "
    "write allow_pickle: true beside the file's source in the registry."
)
"""The hint for a `Finding` that is ``pickled``."""


def examine(path: Path, name: str = "", *, allow_pickle: bool = False) -> Finding:
    """Look at a file.

    Args:
        path: the file.
        name: the name that it has or will have, with the ending that counts; by default its own.
        allow_pickle: accept pickled code, whatever it imports.

    Raises:
        OSError: it cannot be read.
    """
    if path.with_name(f"{path.name}.aria2").exists():
        return Finding(problem="it is not complete: aria2's control file lies beside it", incomplete=True)
    with path.open("rb") as file:
        return examine_bytes(file, path.stat().st_size, name or path.name, allow_pickle=allow_pickle)


def examine_head(head: bytes, size_bytes: int | None, name: str, *, allow_pickle: bool = False) -> Finding:
    """Look at the first bytes of a file that has not come yet.

    Args:
        head: the first bytes, 4 KiB or more where the file has that many.
        size_bytes: of the whole file, where it is known.
        name: the name that it will have.
        allow_pickle: accept pickled code, whatever it imports.
    """
    if size_bytes == len(head):
        return examine_bytes(io.BytesIO(head), size_bytes, name, allow_pickle=allow_pickle)
    return Finding(problem=_mistaken(head, name)) if head else Finding()


def examine_bytes(file: BinaryIO, size_bytes: int, name: str, *, allow_pickle: bool = False) -> Finding:
    """Look at an open file of that size, from its beginning; see `examine`."""
    ending = PurePosixPath(name).suffix.lower()
    head = file.read(_HEAD_BYTES)
    if (problem := _mistaken(head, name)) is not None:
        return Finding(problem=problem)
    if _is_model(ending) and size_bytes <= _SMALL_BYTES:
        content = head + file.read(_SMALL_BYTES)
        if (problem := _answer(content)) is not None:
            return Finding(problem=problem)
    if ending in SAFETENSORS:
        return _safetensors(file, size_bytes)
    if ending == ".gguf":
        return _gguf(head, size_bytes)
    if ending in PICKLED:
        found = _torch_archive(file) if head.startswith(_ZIP) else Finding()
        return found if found.problem is not None or allow_pickle else _pickle(file, head)
    return Finding()


def safetensors_metadata(path: Path) -> list[str]:
    """Return the texts that a safetensors file's author put into its header; other files have none.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() not in SAFETENSORS:
        return []
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > min(_LONGEST_HEADER, path.stat().st_size):
            return []
        try:
            header: Any = read_json(file.read(length), max_bytes=_LONGEST_HEADER)
        except InvalidJson:
            return []
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return [text for text in metadata.values() if isinstance(text, str)] if isinstance(metadata, dict) else []


def _pickle(file: BinaryIO, head: bytes) -> Finding:
    """Look for pickled code beyond what weights need."""
    if _is_tar(head):
        return Finding(problem="it is a TAR archive, which may hold pickled code", pickled=True)
    found = pickle_problem(file)
    if found is None:
        return Finding()
    return Finding(problem=found.sentence, incomplete=found.damaged, pickled=not found.damaged)


def _is_tar(head: bytes) -> bool:
    """Tell whether a TAR archive begins here; PyTorch's oldest form is one, and older ones have no magic."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "latin-1", "replace")
    except tarfile.HeaderError:
        return False
    return True


def _mistaken(head: bytes, name: str) -> str | None:
    """What the first bytes are instead of a model, or None."""
    ending = PurePosixPath(name).suffix.lower()
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(_LFS):
        return "it is a pointer of Git LFS; the file itself was not fetched"
    if ending not in _PAGES and start.startswith(_PAGE_MARKS):
        return "it is a web page; its source may want a login"
    if not _is_model(ending):
        return None
    for mark, what in _ARCHIVES:
        if head.startswith(mark) and not (mark == _ZIP and ending in PICKLED):
            return f"it is {what}; unpack it, and use the model file in it"
    if head.startswith(_GGUF) and ending != ".gguf":
        return "it is a GGUF file; its name must end with .gguf"
    if len(head) == _HEAD_BYTES and not any(head):
        return "it begins with zeros only: space was reserved, but the content was never written"
    return None


def _is_model(ending: str) -> bool:
    return ending in SAFETENSORS | PICKLED or ending in {".gguf", ".onnx"}


def _answer(content: bytes) -> str | None:
    """What a small file is where it is a server's answer, in JSON or in words, or None."""
    if content.lstrip()[:1] not in (b"{", b"["):
        text = content.decode("utf-8", "replace").strip()
        plain = len(content) <= _HEAD_BYTES and all(char.isprintable() or char.isspace() for char in text)
        worded = " " in text or text.lower() in _ANSWERS
        return f"it is a text, not a model: {_start(content)!r}" if plain and worded else None
    try:
        value: Any = read_json(content)
    except InvalidJson:
        return None
    message = shortened(as_text(error_in(value)), _SHOWN_CHARS) or _start(content)
    return f"it is a JSON answer, not a model: {message}"


def _start(content: bytes) -> str:
    return shortened(" ".join(content[:_SHOWN_CHARS].decode("utf-8", "replace").split()), _SHOWN_CHARS)


def _safetensors(file: BinaryIO, size_bytes: int) -> Finding:
    """Compare a safetensors file's header with its size.

    The format is a length (8 bytes, little-endian), that much JSON, and the tensors' bytes.
    """
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        return Finding(problem="it is too short for a safetensors file", incomplete=True)
    (length,) = struct.unpack("<Q", start)
    if length > min(_LONGEST_HEADER, size_bytes - 8):
        text = start + file.read(_SHOWN_CHARS)
        what = f": it begins with {_start(text)!r}" if text.isascii() and _start(text).isprintable() else ""
        return Finding(
            problem=f"it is not a safetensors file, or its end is missing{what}",
            incomplete=length <= _LONGEST_HEADER,
        )
    try:
        header: Any = read_json(file.read(length), max_bytes=_LONGEST_HEADER)
    except InvalidJson:
        return Finding(problem="its header is damaged", incomplete=True)
    if not isinstance(header, dict):
        return Finding(problem="its header is damaged", incomplete=True)
    metadata = header.pop("__metadata__", {})
    try:
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        return Finding(problem="its header is damaged", incomplete=True)
    expected = 8 + length + end
    if expected != size_bytes:
        return Finding(
            problem=f"it has {size_bytes} bytes and its header promises {expected}",
            incomplete=size_bytes < expected,
        )
    return Finding(_architecture(metadata))


def _gguf(head: bytes, size_bytes: int) -> Finding:
    """Check a GGUF file's magic and that it has more than its fixed header of 24 bytes."""
    if not head.startswith(_GGUF):
        return Finding(problem="it is not a GGUF file: it does not begin with GGUF", incomplete=not head)
    if size_bytes < 24:
        return Finding(problem="it is too short for a GGUF file", incomplete=True)
    return Finding()


def _torch_archive(file: BinaryIO) -> Finding:
    """Check that a ZIP archive is what PyTorch writes. Its directory is at its end, so a cut one has none."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return Finding(problem="it is a ZIP archive whose end is missing or damaged", incomplete=True)
    if any(PurePosixPath(name).name in {"data.pkl", "constants.pkl", "model.json"} for name in names):
        return Finding()
    return Finding(problem="it is a ZIP archive, not a PyTorch file; unpack it, and use the model file in it")


def _architecture(metadata: object) -> str | None:
    """Find the name of the architecture in free-form metadata."""
    if not isinstance(metadata, dict):
        return None
    for key in _ARCHITECTURE_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and value and value != "unknown":
            return value
    return None
