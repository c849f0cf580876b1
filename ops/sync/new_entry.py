"""Make a registry entry from a source: what the source's service tells, and where the file belongs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from backend.comfyui.model_folders import ALIASES
from backend.errors import InvalidArgument, SourceMissing
from ops.models.categories import CATEGORIES
from ops.models.source_url import CivitaiSource, HfSource, LocalSource, Source, UrlSource
from ops.models.volume_layout import check_wanted_path, models_path
from ops.registry.add_model import Entry
from ops.registry.write_entries import model_name
from ops.sources.licenses import Terms, read_terms
from ops.sync.resolve_lock import Resolver


def new_entry(
    origin: Source,
    resolver: Resolver,
    *,
    path: str = "",
    name: str = "",
    used_by: Sequence[str] = (),
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> tuple[Entry, Terms]:
    """Ask a source what it is, and make its entry.

    Args:
        origin: the source.
        resolver: asks it.
        path: where the file goes under the models root; by default where its source says that it belongs.
        name: of the model; by default made from the file's name.
        used_by: verbs that need it.
        sha256: expected hash, if it is known from elsewhere than the source.
        allow_pickle: use the file although its pickled code goes beyond what weights need.

    Raises:
        InvalidArgument: the path is not usable, or not known.
        SourceMissing: there is no such file, or its source announces another sha256.
        ComfyformError: the source does not answer.
    """
    if path:
        check_wanted_path(models_path(path))
    resolved = resolver.one(str(origin), allow_pickle=allow_pickle)
    if sha256 is not None and resolved.sha256 not in (None, sha256):
        raise SourceMissing(
            f"{origin} has the sha256 {resolved.sha256}, and {sha256} is expected.",
            hint="Ask the author which of them is right; inv models.add takes what the source has.",
        )
    terms = read_terms(origin, resolver.sources)
    place = path or _place(origin, terms)
    check_wanted_path(models_path(place))
    if isinstance(origin, HfSource) and origin.revision is None:
        # What is pinned below is of this commit, and a branch moves.
        origin = replace(origin, revision=resolved.revision)
    entry = Entry(
        name=name or model_name(place),
        path=place,
        source=str(origin),
        size_bytes=resolved.size_bytes,
        sha256=sha256 or resolved.sha256,
        license=terms.license,
        gated=terms.gated,
        used_by=used_by,
        note=terms.note,
        allow_pickle=allow_pickle,
    )
    return entry, terms


def _place(source: Source, terms: Terms) -> str:
    """Find out where a file belongs."""
    file = PurePosixPath(
        source.file
        if isinstance(source, HfSource)
        else source.path
        if isinstance(source, LocalSource)
        else unquote(urlsplit(source.url).path)
        if isinstance(source, UrlSource)
        else terms.filename or ""
    )
    if isinstance(source, LocalSource):
        return str(file)
    folder = terms.folder
    for part in file.parts[:-1]:
        if part in CATEGORIES or part in ALIASES:
            folder = ALIASES.get(part, part)
    if folder is None or not file.name or (isinstance(source, CivitaiSource) and not terms.filename):
        raise InvalidArgument(
            f"Cannot tell which folder {source} belongs in.",
            hint="Pass --path, for example --path checkpoints/name.safetensors.",
        )
    return f"{folder}/{file.name}"
