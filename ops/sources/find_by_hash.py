"""Find where a file with a known sha256 can be fetched: CivitAI by its hash, Hugging Face by repository.

CivitAI has a lookup by hash. Hugging Face has none, so its repositories have to be named; the list of a
repository's files holds the sha256 of each file that is kept in LFS.

Source: CivitAI's ``GET /api/v1/model-versions/by-hash/{hash}`` and Hugging Face's
``GET /api/models/{repo}?blobs=true`` (facts: models.md 10.5 and 11.1).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

from backend.errors import ApiError, ComfyformError, InvalidArgument, SourceMissing
from backend.validation.json_reader import as_object
from ops.models.record import SHA256
from ops.models.source_url import CivitaiSource, HfSource, parse
from ops.sources.civitai import announced_sha256, chosen_file, files_of
from ops.sources.licenses import Terms, repository_terms, version_terms
from ops.sources.origins import REDIRECTS, Sources
from ops.sources.ssrf_guard import redirected, same_server
from ops.threads.ordered_pool import Crew

_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+\Z", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
_ADDRESS: Final = re.compile(r"\bhttps?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", re.ASCII)
_NOT_MODELS: Final = frozenset({"api", "blog", "collections", "datasets", "docs", "papers", "spaces"})
_RENAMES: Final = 3
_THREADS: Final = 8

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Match:
    """A source that announces a file with the wanted sha256, and its terms."""

    source: HfSource | CivitaiSource
    terms: Terms


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search for several files found.

    Attributes:
        matches: sha256 → where the bytes can be fetched.
        unanswered: sha256 → why it is not known whether a source has the bytes, a sentence.
        warnings: repositories that could not be compared, one sentence each.
    """

    matches: Mapping[str, Match]
    unanswered: Mapping[str, str]
    warnings: tuple[str, ...]


def search(wanted: Sequence[str], repositories: Sequence[str], sources: Sources) -> Findings:
    """Look for files in some Hugging Face repositories, and for those that are in none of them at CivitAI.

    A lookup that fails stops no other one. Where a gated repository and another source have the same
    bytes, the other source is the match, as it needs no license to be accepted.

    Args:
        wanted: sha256 of each file.
        repositories: of several that have a file, the first counts.
        sources: the services to ask.
    """
    if not wanted:
        return Findings({}, {}, ())
    lists, unlisted = _each(repositories, lambda repo: repository_files(repo, sources))
    matches: dict[str, Match] = {}
    for gated in (False, True):
        for files in lists.values():
            for sha256 in wanted:
                if sha256 in files and files[sha256].terms.gated is gated:
                    matches.setdefault(sha256, files[sha256])
    warnings = [f"{repo} is not compared: {error.message}" for repo, error in unlisted.items()]
    busy = next(
        (text for text, error in zip(warnings, unlisted.values(), strict=True) if _passing(error)), ""
    )
    rest = [sha256 for sha256 in wanted if sha256 not in matches or matches[sha256].terms.gated]
    answers, failed = _each(rest, lambda sha256: civitai_file(sha256, sources))
    matches |= {sha256: match for sha256, match in answers.items() if match is not None}
    unanswered = dict.fromkeys(rest, busy) if busy else {}
    unanswered |= {sha256: error.message for sha256, error in failed.items()}
    return Findings(matches, unanswered, tuple(warnings))


def _each(tasks: Sequence[str], ask: Callable[[str], R]) -> tuple[dict[str, R], dict[str, ComfyformError]]:
    """Do some lookups, a few at a time; return the answers and the errors."""
    answers: dict[str, R] = {}
    errors: dict[str, ComfyformError] = {}

    def work(_: Crew[str, R], task: str) -> R:
        return ask(task)

    with Crew(work, tasks, threads=min(_THREADS, len(tasks)), ahead=len(tasks)) as crew:
        for task in tasks:
            try:
                answers[task] = crew.take()
            except ComfyformError as error:
                errors[task] = error
    return answers, errors


def _passing(error: ComfyformError) -> bool:
    return isinstance(error, ApiError) and error.retryable


def check_repository(name: str) -> str:
    """Return the name of a Hugging Face repository.

    Raises:
        InvalidArgument: it is not ``ORG/NAME``.
    """
    if not _REPOSITORY.match(name):
        raise InvalidArgument(
            f"{name!r} is not a Hugging Face repository: expected ORG/NAME.",
            hint="For example --hf-repos Comfy-Org/z_image_turbo,me/my-loras",
        )
    return name


def repositories_in(texts: Iterable[str]) -> set[str]:
    """Return the Hugging Face repositories whose addresses occur in texts."""
    found = (match[1].rstrip(".") for text in texts for match in _ADDRESS.finditer(text))
    return {name for name in found if name.partition("/")[0] not in _NOT_MODELS and _REPOSITORY.match(name)}


def repository_files(repo: str, sources: Sources) -> dict[str, Match]:
    """List the files of a Hugging Face repository that are kept in LFS, by sha256, at its newest commit.

    Raises:
        SourceMissing: there is no such repository, or it may not be read.
        ApiError: the service does not answer.
    """
    url = f"{sources.hf_endpoint}/api/models/{quote(repo)}?blobs=true"
    reply = sources.get(url, sources.hf_token)
    for _ in range(_RENAMES):
        if reply.status not in REDIRECTS:
            break
        target = redirected(url, reply.headers.get("location", ""))
        if not same_server(target, url):
            break
        # A renamed repository: the redirect drops the query.
        url = target if "blobs=" in target else f"{target}?blobs=true"
        reply = sources.get(url, sources.hf_token)
    if not reply.ok:
        raise sources.refusal(HfSource(repo, None, ""), reply)
    info = reply.object()
    name, commit = info.get("id"), info.get("sha")
    revision = commit if isinstance(commit, str) and _COMMIT.match(commit) else None
    terms = repository_terms(info)
    found: dict[str, Match] = {}
    listed = info.get("siblings")
    for sibling in listed if isinstance(listed, list) else []:
        file = as_object(sibling)
        sha256, path = as_object(file.get("lfs")).get("sha256"), file.get("rfilename")
        if not (isinstance(path, str) and isinstance(sha256, str) and SHA256.match(sha256)):
            continue
        source = HfSource(name if isinstance(name, str) else repo, revision, path)
        try:
            parse(str(source))
        except InvalidArgument:  # a name that cannot be written as a source
            continue
        found.setdefault(sha256, Match(source, terms))
    return found


def civitai_file(sha256: str, sources: Sources) -> Match | None:
    """Ask CivitAI for a file with this sha256; None where it has none, or its version is not published.

    Raises:
        SourceMissing: CivitAI refuses to say.
        ApiError: CivitAI does not answer.
    """
    reply = sources.get(
        f"{sources.civitai_url}/api/v1/model-versions/by-hash/{sha256.upper()}", sources.civitai_token
    )
    if reply.status == 404:
        return None
    if not reply.ok:
        raise SourceMissing(f"CivitAI does not look up the sha256 {sha256}: status {reply.status}.")
    version = reply.object()
    number = version.get("id")
    file = next((file for file in files_of(version) if announced_sha256(file) == sha256), None)
    if file is None or not isinstance(number, int):
        return None
    source = CivitaiSource(number)
    if chosen_file(version, source) is not file:
        chosen = file.get("id")
        if not isinstance(chosen, int):
            return None
        source = CivitaiSource(number, chosen)
    return Match(source, version_terms(source, version))
