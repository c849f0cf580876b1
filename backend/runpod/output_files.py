"""The files of a job's answer: our own form, and the forms that other workers use. Pure; raises nothing.

What a worker answers is any JSON value. A part of it that is not understood is
left out here; `backend.runpod.outputs` says so where nothing is left.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from backend.validation.checks import is_address, media_suffix
from backend.validation.json_reader import as_count, as_object, as_sha256, as_text, as_texts
from backend.validation.printable import shortened, visible
from backend.verbs.media_kind import kind_of
from backend.verbs.result import KINDS, Kind

_LISTS: Final = (
    "files", "images", "image", "videos", "video", "audios", "audio", "gifs", "outputs", "output", "result",
)  # fmt: skip
"""Keys under which workers put their files, a list of them or one."""
_NAMES: Final = ("filename", "name", "file_name")
_BYTES: Final = ("data", "base64", "content", "image", "video", "audio")
_ADDRESSES: Final = ("url", "image_url", "video_url", "audio_url", "s3_url", "file_url")
_KIND_SUFFIX: Final[Mapping[str, str]] = {"image": "png", "video": "mp4", "audio": "wav", "text": "txt"}
_MIME: Final = re.compile(r"data:((?:image|video|audio)/[\w.+-]+)[;,]", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]{32,}={0,2}\s*")
MAX_FILES: Final = 10_000
MAX_NESTING: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A file of an answer: its bytes as base64 or data: URI, or where they are."""

    filename: str
    type: Kind
    size_bytes: int | None = None
    sha256: str | None = None
    data: str | None = field(default=None, repr=False)
    url: str | None = None
    signed_url: str | None = None
    volume_path: str | None = None


def arrived(output: Any) -> list[Arrived]:
    """List the files of an answer.

    Besides our own form, reads that of the origin's handlers (``size``, ``encoding``), of RunPod's
    worker-comfyui (``images: [{filename, type: base64 | s3_url, data}]``), and lists or single values of
    addresses, data: URIs and base64 under the usual names.
    """
    found: list[Arrived] = []
    for file in _files(output, "", MAX_NESTING):
        if len(found) == MAX_FILES:
            break
        if file not in found[-50:]:
            found.append(file)
    return found


def _files(value: Any, key: str, nesting: int) -> Iterator[Arrived]:
    if isinstance(value, str):
        yield from _of_text(value, key)
    elif isinstance(value, list):
        for item in value:
            yield from _files(item, key, nesting)
    elif isinstance(value, Mapping) and nesting:
        # The answer as a whole is a file only where it names no other place of one.
        whole = nesting == MAX_NESTING and any(name in value for name in _LISTS)
        if not whole and (own := _of_object(value, key)) is not None:
            yield own
            return
        for name in _LISTS:
            if name in value:
                yield from _files(value[name], name, nesting - 1)


def _of_text(value: str, key: str) -> Iterator[Arrived]:
    """A file that is an address, a data: URI or base64 alone."""
    kind = _kind_of_key(key)
    if is_address(value):
        name = unquote(_path_of(value).rpartition("/")[2])
        yield Arrived(filename=name or _default_name(kind), type=kind_of(name) if name else kind, url=value)
    elif found := _MIME.match(value):
        name = f"output{media_suffix(found[1])}"
        yield Arrived(filename=name, type=kind_of(name), data=value)
    elif kind != "file" and _BASE64.fullmatch(value):
        yield Arrived(filename=_default_name(kind), type=kind, data=value)


def _of_object(file: Mapping[str, Any], key: str) -> Arrived | None:
    """A file that is an object of its own; None where the object names no bytes and no place of any."""
    given = next((text for name in _NAMES if (text := as_text(file.get(name)))), "")
    told = file.get("type")
    data = next((value for name in _BYTES if isinstance(value := file.get(name), str)), None)
    url = next((value for name in _ADDRESSES if isinstance(value := file.get(name), str) and value), None)
    if url is None and data is not None and is_address(data):
        data, url = None, data
    signed, place = (_text_of(file, name) for name in ("signed_url", "volume_path"))
    nowhere = data is None and url is None and signed is None and place is None
    if nowhere and not (given and key):
        return None
    kind = told if told in KINDS else kind_of(given) if given else _kind_of_key(key)
    return Arrived(
        filename=given or _default_name(kind),
        type=kind,
        size_bytes=as_count(file.get("size_bytes", file.get("size"))),
        sha256=as_sha256(file.get("sha256")),
        data=data,
        url=url,
        signed_url=signed,
        volume_path=place,
    )


def _text_of(file: Mapping[str, Any], name: str) -> str | None:
    value = file.get(name)
    return value if isinstance(value, str) and value else None


def _kind_of_key(key: str) -> Kind:
    if key.startswith(("image", "gif")):
        return "image"
    return "video" if key.startswith("video") else "audio" if key.startswith("audio") else "file"


def _default_name(kind: Kind) -> str:
    return f"output.{_KIND_SUFFIX.get(kind, 'bin')}"


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def warnings_of(output: Any) -> list[str]:
    """What a worker warns of in an answer that has files; an error beside them is one more warning."""
    answer = as_object(output)
    errors = [text for name in ("error", "errors") for text in as_texts(answer.get(name))]
    found = [*as_texts(answer.get("warnings")), *(f"The worker reports an error: {text}" for text in errors)]
    return [shortened(visible(text)) for text in found]
