"""The sources that a registry may name, as text and as values. Pure.

::

    hf:ORG/NAME@REVISION:path/in/repo      Hugging Face; without @REVISION its main branch
    url:https://host/file                  anything public
    civitai:VERSION_ID                     CivitAI, the version's primary file
    local:CATEGORY/NAME                    only on this machine, in one of its ComfyUI's folders
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from backend.checks import check_path
from backend.errors import InvalidArgument

# How a source is written where it is copied from: the address of a file, or of a model's page.
_HF_PAGE: Final = re.compile(r"/([\w.-]+/[\w.-]+)/(?:resolve|blob|raw)/([^/]+)/(.+)")
_CIVITAI_PAGE: Final = re.compile(r"(?:modelVersionId=|/api/download/models/)(\d+)")
_HF: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?:(?P<file>.+)\Z")


_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
_PASSWORD: Final = re.compile(r"//[^/?#]*@")


@dataclass(frozen=True, slots=True)
class HfSource:
    """A file of a Hugging Face repository; ``revision`` None means its main branch."""

    repo: str
    revision: str | None
    file: str

    @property
    def pinned(self) -> bool:
        """True when its revision is a commit, which never moves."""
        return self.revision is not None and _COMMIT.match(self.revision) is not None

    def __str__(self) -> str:
        return f"hf:{self.repo}{f'@{self.revision}' if self.revision else ''}:{self.file}"


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file anywhere on the public internet."""

    url: str

    def __str__(self) -> str:
        return f"url:{self.url}"


@dataclass(frozen=True, slots=True)
class CivitaiSource:
    """The primary file of a CivitAI model version."""

    version_id: int

    def __str__(self) -> str:
        return f"civitai:{self.version_id}"


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file that exists only on this machine; the path is its category and its name in that."""

    path: str

    def __str__(self) -> str:
        return f"local:{self.path}"


Source = HfSource | UrlSource | CivitaiSource | LocalSource


def file_name(source: Source) -> str:
    """The name of a source's file, as far as the source says it; a CivitAI version has none."""
    match source:
        case HfSource():
            return source.file.rpartition("/")[2]
        case UrlSource():
            return unquote(urlsplit(source.url).path).rpartition("/")[2]
        case LocalSource():
            return source.path.rpartition("/")[2]
    return ""


def parse(text: str) -> Source:
    """Read a source.

    Raises:
        InvalidArgument: it has none of the four forms, or its address holds a password.
    """
    kind, _, rest = text.partition(":")
    if kind == "hf" and (match := _HF.match(rest)):
        check_path(match["file"])
        return HfSource(match["repo"], match["revision"], match["file"])
    if kind == "url" and rest.isprintable() and (address := _address(rest)) is not None:
        if "@" in address.netloc:
            raise InvalidArgument(
                f"The address of {address.hostname} in a source holds a password.",
                hint="A registry is checked in and shown: name an address that needs none.",
            )
        return UrlSource(rest)
    if kind == "civitai" and rest.isascii() and rest.isdigit():
        return CivitaiSource(int(rest))
    if kind == "local" and rest:
        return LocalSource(check_path(rest))
    meant = _meant(text)
    raise InvalidArgument(
        f"{_PASSWORD.sub('//…@', text)!r} is not a source.",
        hint=f"Write {meant}."
        if meant
        else "Write hf:ORG/NAME@REVISION:FILE, url:https://…, civitai:VERSION_ID or local:PATH.",
    )


def _address(text: str) -> SplitResult | None:
    """Read an address of the web; None where it is none."""
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None


def _meant(text: str) -> str | None:
    """Turn an address as it is copied from a browser into the source that is meant."""
    address = _address(text)
    if address is None or "@" in address.netloc:
        return None
    if address.hostname in {"huggingface.co", "hf.co"} and (match := _HF_PAGE.fullmatch(address.path)):
        repo, revision, file = match.groups()
        return f"hf:{repo}{'' if revision == 'main' else f'@{revision}'}:{unquote(file)}"
    if (address.hostname or "").startswith("civitai.") and (match := _CIVITAI_PAGE.search(text)):
        return f"civitai:{match[1]}"
    return f"url:{text}"
