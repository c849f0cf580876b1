"""The sources that a registry may name, as text and as values. Pure.

::

    hf:ORG/NAME@REVISION:path/in/repo      Hugging Face; without @REVISION its main branch; old ones lack ORG/
    url:https://host/file                  anything public
    civitai:VERSION_ID                     CivitAI, the version's primary file
    civitai:VERSION_ID/FILE_ID             one file of the version
    civitai:VERSION_ID?format=…&fp=…       the version's file of that type, format, size or precision
    local:CATEGORY/NAME                    only on this machine, in one of its ComfyUI's folders
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from backend.errors import InvalidArgument
from backend.validation.checks import check_contained
from backend.validation.printable import quoted

_HF: Final = re.compile(
    r"(?P<repo>(?:[\w.-]+/)?[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?:(?P<file>.+)\Z", re.DOTALL
)
_CIVITAI: Final = re.compile(r"(?P<version>[0-9]{1,18})(?:/(?P<file>[0-9]{1,18}))?(?:\?(?P<query>.*))?\Z")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
# What services call a key or a signature in a query: Amazon's, Google's and Azure's signed addresses too.
_SECRET: Final = re.compile(
    r"(?:access|api|auth|client|refresh|id|private|session)?[-_]?(?:token|secret|password|passwd|pwd)"
    r"|api[-_]?key|access[-_]?key|auth|authorization|jwt|sig|signature|policy|awsaccesskeyid"
    r"|x-(?:amz|goog)-(?:signature|credential|security-token)",
    re.IGNORECASE,
)


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
    """A file of a CivitAI model version: by its id or its properties, else the primary one."""

    CHOICES: ClassVar = ("type", "format", "size", "fp")
    """What a file can be chosen by."""

    version_id: int
    file_id: int | None = None
    chosen: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        file = "" if self.file_id is None else f"/{self.file_id}"
        query = f"?{urlencode(self.chosen)}" if self.chosen else ""
        return f"civitai:{self.version_id}{file}{query}"


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
        for part in (match["repo"], match["revision"] or "main", match["file"]):
            check_contained(part)
        return HfSource(match["repo"], match["revision"], match["file"])
    if kind == "url" and rest.isprintable() and (address := _address(rest)) is not None:
        _refuse_secrets(address)
        return UrlSource(rest)
    if kind == "civitai" and (match := _CIVITAI.match(rest)) and (source := _civitai(match)) is not None:
        return source
    if kind == "local" and rest:
        return LocalSource(check_contained(rest))
    raise InvalidArgument(
        f"{quoted(text)} is not a source.",
        hint="inv models.add takes addresses, and writes the source that is meant."
        if _address(text) is not None
        else "Write hf:ORG/NAME@REVISION:FILE, url:https://…, civitai:VERSION_ID or local:PATH.",
    )


def _civitai(match: re.Match[str]) -> CivitaiSource | None:
    """Read what follows ``civitai:``; None where it chooses by something that files do not have."""
    chosen = tuple(parse_qsl(match["query"] or "", keep_blank_values=True))
    if any(key not in CivitaiSource.CHOICES or not value for key, value in chosen):
        return None
    if match["query"] is not None and not chosen:
        return None
    return CivitaiSource(int(match["version"]), int(match["file"]) if match["file"] else None, chosen)


def _refuse_secrets(address: SplitResult) -> None:
    """Refuse an address that holds a key, a password or a signature.

    Raises:
        InvalidArgument: it does; the secret is not repeated.
    """
    names = [name for name, value in parse_qsl(address.query) if value and _SECRET.fullmatch(name)]
    if "@" not in address.netloc and not names:
        return
    what = f"a secret in {', '.join(names)}" if names else "a password"
    raise InvalidArgument(
        f"The address of {address.hostname} in a source holds {what}.",
        hint="A registry is checked in and shown, and signed addresses expire: name an address that needs "
        "none, or fetch the file and name it local:CATEGORY/NAME.",
    )


def _address(text: str) -> SplitResult | None:
    """Read a web address; None if it is something else."""
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None
