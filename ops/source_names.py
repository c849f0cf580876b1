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
from urllib.parse import urlsplit

from backend.errors import InvalidArgument
from ops.layout import check_path

_HF: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?:(?P<file>.+)\Z")


@dataclass(frozen=True, slots=True)
class HfSource:
    """A file of a Hugging Face repository; ``revision`` None means its main branch."""

    repo: str
    revision: str | None
    file: str

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


def parse(text: str) -> Source:
    """Read a source.

    Raises:
        InvalidArgument: it has none of the four forms.
    """
    kind, _, rest = text.partition(":")
    if kind == "hf" and (match := _HF.match(rest)):
        check_path(match["file"])
        return HfSource(match["repo"], match["revision"], match["file"])
    if kind == "url" and urlsplit(rest).scheme in {"http", "https"} and urlsplit(rest).hostname:
        return UrlSource(rest)
    if kind == "civitai" and rest.isascii() and rest.isdigit():
        return CivitaiSource(int(rest))
    if kind == "local" and rest:
        return LocalSource(check_path(rest))
    raise InvalidArgument(
        f"{text!r} is not a source.",
        hint="Write hf:ORG/NAME@REVISION:FILE, url:https://…, civitai:VERSION_ID or local:PATH.",
    )
