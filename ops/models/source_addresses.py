"""The source that an address means copied from a browser, or an AIR name. Pure.

Pages are told from files: a page's bytes are a web page, whatever its name says.
Source: the addresses of huggingface.co, civitai.com, github.com and drive.google.com, read 2026-11.
"""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit, urlunsplit

from backend.errors import InvalidArgument
from backend.validation.printable import quoted, shown
from ops.models.source_url import CivitaiSource, HfSource, Source, parse

_AIR: Final = re.compile(
    r"(?:urn:)?air:[^:]*:[^:]*:(?P<service>civitai|huggingface):(?P<rest>.+)\Z", re.IGNORECASE
)
_HF_HOSTS: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_HF_FILE: Final = re.compile(
    r"/(?P<repo>[\w.-]+(?:/[\w.-]+)?)/(?:resolve|blob|raw)/(?P<revision>[^/]+)/(?P<file>.+)"
)
_CIVITAI_HOSTS: Final = frozenset({"civitai.com", "www.civitai.com", "civitai.red", "www.civitai.red"})
_CIVITAI_DOWNLOAD: Final = re.compile(r"/api/download/models/(\d+)/?")
_GITHUB_FILE: Final = re.compile(r"/([^/]+/[^/]+)/blob/(.+)")
_DRIVE_FILE: Final = re.compile(r"/file/d/([\w-]+)(?:/.*)?")


def read_source(text: str) -> Source:
    """Read a source, or the address or AIR name that means one.

    Raises:
        InvalidArgument: it is neither, or the address of a page that holds no single file.
    """
    text = text.strip()
    if match := _AIR.match(text):
        return _air(match["service"].lower(), match["rest"], text)
    rest = text.removeprefix("url:")
    if not rest.startswith(("https://", "http://")):
        return parse(text)
    try:
        address = urlsplit(rest)
    except ValueError:
        return parse(f"url:{rest}")
    return _meant(address) or parse(f"url:{rest}")


def meant_by(text: str) -> str:
    """Say which source to write instead of an address; empty for what is not the address of a file."""
    if not text.startswith(("https://", "http://", "urn:air:", "air:")):
        return ""
    try:
        return f"Write {read_source(text)}."
    except InvalidArgument as error:
        return str(error)


def _air(service: str, rest: str, text: str) -> Source:
    """Read an AIR name: ``urn:air:sdxl:lora:civitai:827184@2514310``. Source: developer.civitai.com, air."""
    version = re.search(r"@(\d+)", rest)
    if service == "civitai" and version:
        return CivitaiSource(int(version[1]))
    raise InvalidArgument(
        f"{quoted(text)} names no file: an AIR name needs the version after @.",
        hint="For example urn:air:sdxl:lora:civitai:827184@2514310",
    )


def _meant(address: SplitResult) -> Source | None:
    """Turn an address of a service that has pages into the file that it shows; None for any other address.

    Raises:
        InvalidArgument: it is a page that shows no single file.
    """
    host = (address.hostname or "").lower()
    if host in _HF_HOSTS:
        return _hugging_face(address)
    if host in _CIVITAI_HOSTS:
        return _civitai(address)
    if host == "github.com" and (match := _GITHUB_FILE.fullmatch(address.path)):
        return parse(f"url:https://github.com/{match[1]}/raw/{match[2]}")
    if host == "drive.google.com" and (match := _DRIVE_FILE.fullmatch(address.path)):
        # The answer for a large file at the usual address is a page that asks for a click.
        query = urlencode({"id": match[1], "export": "download", "confirm": "t"})
        return parse(f"url:https://drive.usercontent.google.com/download?{query}")
    if host in {"www.dropbox.com", "dropbox.com"}:
        query = urlencode({**{k: v[0] for k, v in parse_qs(address.query).items()}, "dl": "1"})
        return parse(f"url:{urlunsplit(address._replace(query=query))}")
    return None


def _hugging_face(address: SplitResult) -> Source:
    match = _HF_FILE.fullmatch(address.path)
    if match is None or match["repo"].startswith(("datasets/", "spaces/")):
        parts = [part for part in address.path.split("/") if part][:2]
        raise InvalidArgument(
            f"{shown(address.geturl())} is a page of Hugging Face, not a file.",
            hint=f"Name the file: hf:{'/'.join(parts) or 'ORG/NAME'}:FILE, or copy the address of its page.",
        )
    revision = unquote(match["revision"])
    pin = "" if revision == "main" else f"@{revision}"
    source = parse(f"hf:{match['repo']}{pin}:{unquote(match['file'])}")
    return source if isinstance(source, HfSource) else parse(address.geturl())


def _civitai(address: SplitResult) -> Source:
    query = parse_qs(address.query)
    download = _CIVITAI_DOWNLOAD.fullmatch(address.path)
    version = download[1] if download else (query.get("modelVersionId") or [""])[0]
    if not version.isdigit():
        raise InvalidArgument(
            f"{shown(address.geturl())} is a page of CivitAI that shows several versions.",
            hint="Choose a version there and copy the address, which then ends with modelVersionId=….",
        )
    file_id = (query.get("fileId") or [""])[0]
    if file_id.isdigit():
        return CivitaiSource(int(version), int(file_id))
    chosen = tuple((key, query[key][0]) for key in CivitaiSource.CHOICES if key in query and download)
    return CivitaiSource(int(version), None, chosen)
