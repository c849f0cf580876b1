"""Decide which of this machine's models become new registry entries, and from which source. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ops.local.scan import ScannedFile
from ops.models.source_url import HfSource, LocalSource, parse
from ops.models.volume_layout import MODELS, composed
from ops.registry.add_model import Entry
from ops.registry.load import UNRESOLVED, Registry, parse_registry
from ops.registry.write_entries import free_name, model_name
from ops.sources.find_by_hash import Match


@dataclass(frozen=True, slots=True)
class Selection:
    """This machine's files, parted into those to import and the others.

    Attributes:
        files: the registry has no file at their paths.
        present: paths that the registry already has.
        left_out: files that cannot have an entry, one sentence each.
    """

    files: tuple[ScannedFile, ...]
    present: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new entry, and the other paths that have the same bytes, here or in the registry."""

    entry: Entry
    same_bytes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import would write.

    Attributes:
        proposals: the new entries, in the order of their paths.
        present: see `Selection`.
        left_out: files without an entry, one sentence each; see `Selection`.
        undecided: files whose sources could not all be asked, one sentence each. They get no entry, so that
            the next import asks again.
    """

    proposals: tuple[Proposal, ...]
    present: tuple[str, ...]
    left_out: tuple[str, ...]
    undecided: tuple[str, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The new entries."""
        return tuple(proposal.entry for proposal in self.proposals)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        return {
            "entries": [
                asdict(proposal.entry) | {"same_bytes": list(proposal.same_bytes)}
                for proposal in self.proposals
            ],
            "present": list(self.present),
            "left_out": list(self.left_out),
            "undecided": list(self.undecided),
        }


def select(files: Sequence[ScannedFile], registry: Registry) -> Selection:
    """Find the files whose paths the registry does not have.

    Two paths that differ only in case are one path on some machines, so the second has no entry.
    """
    known = {file.key: file.path for file in registry.files(required_only=False)}
    taken = {key.casefold(): path for key, path in known.items()}
    chosen: list[ScannedFile] = []
    present: list[str] = []
    left_out: list[str] = []
    for file in files:
        key = composed(file.path)
        if key in known:
            present.append(_registry_path(file))
        elif (other := taken.get(key.casefold())) is not None:
            left_out.append(f"{file.location}: its path differs from {other} only in case or in accents")
        else:
            taken[key.casefold()] = _registry_path(file)
            chosen.append(file)
    return Selection(tuple(chosen), tuple(present), tuple(left_out))


def plan_import(
    selection: Selection,
    registry: Registry,
    matches: Mapping[str, Match],
    unanswered: Mapping[str, str],
) -> ImportPlan:
    """Propose an entry for each file.

    The source is the one that the registry has for the same bytes, else the match, else ``local:``.

    Args:
        selection: its files have their sha256, but for those that could not be read.
        registry: with its lock.
        matches: sha256 → where the bytes can be fetched.
        unanswered: sha256 → why it is not known whether some source has the bytes.
    """
    names = {model.name for model in registry.models}
    in_registry: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for model, known in registry.entries(required_only=False):
        if known.sha256 is not None:
            like = Entry(
                name=model.name,
                path=known.path,
                source=known.source,
                size_bytes=known.size_bytes,
                sha256=known.sha256,
                license=model.license,
                gated=model.gated,
                note=model.note,
            )
            in_registry[known.sha256].append((known.path, like))
    here: dict[str, list[str]] = defaultdict(list)
    for file in selection.files:
        if file.sha256 is not None:
            here[file.sha256].append(_registry_path(file))
    proposals: list[Proposal] = []
    left_out, undecided = list(selection.left_out), []
    for file in selection.files:
        path, sha256 = _registry_path(file), file.sha256
        if sha256 is None:
            continue  # the scan says why
        known_entries = [(at, entry) for at, entry in in_registry[sha256] if not _is_local(entry.source)]
        match = matches.get(sha256)
        if not known_entries and match is None and sha256 in unanswered:
            undecided.append(f"{path}: {unanswered[sha256]}")
            continue
        entry = Entry(
            name=model_name(path),
            path=path,
            source=str(LocalSource(path)) if match is None else str(match.source),
            size_bytes=file.size_bytes,
            sha256=sha256,
            license="unknown" if match is None else match.terms.license,
            gated=match is not None and match.terms.gated,
            note="" if match is None else match.terms.note,
        )
        if known_entries:
            like = known_entries[0][1]
            entry = replace(entry, source=like.source, license=like.license, gated=like.gated, note=like.note)
        problems = _problems(entry)
        if problems:
            left_out.append(f"{file.location}: {'; '.join(problems)}")
            continue
        entry = replace(entry, name=free_name(entry.name, names))
        names.add(entry.name)
        others = [at for at, _ in in_registry[sha256]] + [at for at in here[sha256] if at != path]
        proposals.append(Proposal(entry, tuple(others)))
    return ImportPlan(
        proposals=tuple(proposals),
        present=selection.present,
        left_out=tuple(left_out),
        undecided=tuple(undecided),
    )


def repositories_of(registry: Registry) -> set[str]:
    """Return the Hugging Face repositories that the registry's sources name."""
    sources = (parse(file.source) for file in registry.files(required_only=False))
    return {source.repo for source in sources if isinstance(source, HfSource)}


def hashes_of_sources(registry: Registry) -> set[str]:
    """Return the sha256 of every file that the registry can fetch from elsewhere."""
    return {
        file.sha256
        for file in registry.files(required_only=False)
        if file.sha256 is not None and not _is_local(file.source)
    }


def _registry_path(file: ScannedFile) -> str:
    return file.path.removeprefix(f"{MODELS}/")


def _is_local(source: str) -> bool:
    return isinstance(parse(source), LocalSource)


def _problems(entry: Entry) -> list[str]:
    """Say what a registry with this entry alone would have as problems."""
    text = "\n".join(["optional:", *entry.lines(2), ""])
    _, problems = parse_registry(text, Path("entry"), {}, unresolved=UNRESOLVED)
    return [problem.partition(": ")[2].rstrip(".") for problem in problems]
