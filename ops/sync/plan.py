"""Compare what is wanted with what is there, and say what to do about each file. Pure.

A plan is a value: it is shown before it is applied, goes to JSON and back, and
names the reason for every file, also for those that stay.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

from backend.contract import FileRecord, WantedFile
from backend.errors import InvalidArgument
from ops.models.categories import may_hold_pickle
from ops.models.inventory import Inventory, bytes_at
from ops.models.other_places import Moves
from ops.models.record import Standing, judge
from ops.models.volume_layout import REPLACED, blob_repository, canonical_path, volume_path
from ops.registry.load import Model, ModelFile, Registry
from ops.runpod.pricing import volume_usd_per_month

Kind = Literal["keep", "fetch", "upload", "replace", "remove", "unknown", "move"]
"""``unknown``: it is there, but its hash is unknown; it is read where it lies, then kept or replaced.
``move``: it lies in another place on the volume; it is read there, and moved or fetched."""

CHANGES: Final[frozenset[Kind]] = frozenset({"fetch", "upload", "replace", "remove", "unknown", "move"})

BYTES_PER_S: Final = 200_000_000
"""What a volume takes, cautiously. Source: docs.runpod.io, network volumes, 200 to 400 MB/s, 2026-08-20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What happens to one file.

    Attributes:
        path: from the volume root.
        kind: what is done.
        reason: why, a sentence without its full stop.
        model: which model of the registry it belongs to; empty for a file that nothing refers to.
        size_bytes: bytes to move, or of the file that stays or goes; None when unknown.
        here: how the file on this machine stands, or None where this machine was not looked at.
        there: how the file on the volume stands; ``extra`` when nothing refers to it.
        lies_at: the other place on the volume that it can be moved from.
        bytes_at: where its bytes lie, where that is not ``path``: it is a link.
        names: how many names must be removed before its bytes are freed.
        allow_pickle: the registry accepts pickled code in it.
    """

    path: str
    kind: Kind
    reason: str
    model: str = ""
    required: bool = False
    gated: bool = False
    license: str = ""
    source: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    here: Standing | None = None
    there: Standing | Literal["extra"] = "absent"
    lies_at: str = ""
    bytes_at: str = ""
    names: int = 1
    allow_pickle: bool = False

    def wanted(self) -> WantedFile:
        """Return the job contract's form of the wanted file."""
        wanted = WantedFile(
            path=self.path, source=self.source, size_bytes=self.size_bytes, sha256=self.sha256
        )
        if self.lies_at:
            wanted["lies_at"] = self.lies_at
        if self.allow_pickle:
            wanted["allow_pickle"] = True
        return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A plan in numbers. Paths are from the volume root, sorted.

    Attributes:
        unknown_size: files to be looked after whose size is unknown.
        pickled: files to be put on the volume that may hold pickled code, by their endings.
        elsewhere: model files in other places of a pod that nothing in the registry matches.
        bytes: to be moved; files of unknown size are not in it.
        freed_bytes: what the removals free; a link to a file that stays frees nothing.
        lacking_bytes: what the volume has too little room for, where its room is known.
        seconds: that may take, at `BYTES_PER_S`.
        dollars_per_month: for storing all wanted files, by RunPod's steps (`ops.runpod.pricing`).
    """

    missing_on_remote: tuple[str, ...] = ()
    missing_locally: tuple[str, ...] = ()
    wrong_size: tuple[str, ...] = ()
    wrong_hash: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    extra_on_remote: tuple[str, ...] = ()
    unknown_size: tuple[str, ...] = ()
    pickled: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    bytes: int = 0
    freed_bytes: int = 0
    lacking_bytes: int = 0
    seconds: float = 0.0
    dollars_per_month: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One action a file, sorted by path.

    Attributes:
        free_bytes: room on the volume before the first action, where it is known.
        elsewhere: see `Summary`.
    """

    actions: tuple[Action, ...] = ()
    free_bytes: int | None = None
    elsewhere: tuple[str, ...] = ()
    summary: Summary = field(default_factory=Summary)

    @property
    def changes(self) -> tuple[Action, ...]:
        """The actions that do something."""
        return tuple(action for action in self.actions if action.kind in CHANGES)

    def only(self, names: set[str]) -> "Plan":
        """Keep the actions of some models, or of some paths in any spelling.

        Raises:
            InvalidArgument: a name is neither.
        """
        keys = {name: canonical_path(volume_path(name)) for name in names}
        models = {action.model for action in self.actions}
        places = {canonical_path(action.path) for action in self.actions}
        unknown = sorted(name for name, key in keys.items() if name not in models and key not in places)
        if unknown:
            raise InvalidArgument(
                f"Not in this plan: {', '.join(unknown)}.",
                hint=f"Models: {', '.join(sorted({a.model for a in self.actions if a.model})) or 'none'}.",
            )
        chosen = tuple(a for a in self.actions if a.model in names or canonical_path(a.path) in keys.values())
        return _plan(chosen, self.free_bytes, self.elsewhere)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        return {
            "actions": [asdict(action) for action in self.actions],
            "free_bytes": self.free_bytes,
            "elsewhere": list(self.elsewhere),
            "summary": {
                name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.summary).items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Plan":
        """Read what `to_json` gives; the summary is computed again.

        Raises:
            InvalidArgument: it is something else.
        """
        try:
            actions = tuple(Action(**entry) for entry in value["actions"])
        except (KeyError, TypeError) as error:
            raise InvalidArgument(f"This is not a plan: {error}.") from error
        if any(action.kind not in get_args(Kind) for action in actions):
            raise InvalidArgument("This is not a plan: it has an action of an unknown kind.")
        return _plan(actions, value.get("free_bytes"), tuple(value.get("elsewhere") or ()))


def compare(
    registry: Registry,
    remote: Inventory,
    local: Inventory | None = None,
    *,
    optional: bool = False,
    prune: bool = False,
) -> Plan:
    """Decide what must change on the volume to match the registry.

    Same inputs, same plan. A folder may go by an alias (``clip``, ``unet``): a
    file that is there under the other name is there.

    Args:
        registry: what is wanted.
        remote: what the volume holds.
        local: what this machine holds, for the third way, or None.
        optional: also fetch optional models that are missing.
        prune: remove what nothing in the registry refers to.
    """
    there, here = _by_name(remote.files), _by_name(local.files) if local is not None else None
    moves = Moves(remote.elsewhere)
    actions: list[Action] = []
    claimed: set[str] = set()
    for model, file in registry.entries(required_only=False):
        key = file.key
        held = remote.files.get(file.volume_path) or there.get(key)
        claimed.update({file.volume_path} | ({held["path"]} if held else set()))
        if held is None and not (model.required or optional):
            continue
        action = _action(model, file, held)
        if action.kind == "fetch" and (found := moves.take(file.key, file.size_bytes)):
            reason = f"it lies at {found['path']}, where no endpoint reads it"
            action = replace(action, kind="move", lies_at=found["path"], reason=reason)
        if here is not None:
            action = replace(action, here=judge(file.wanted(), here.get(key))[0])
        actions.append(action)
    names = remote.names_of()
    # A link that stays needs the file that it leads to.
    needed = {bytes_at(remote.files[path]): path for path in claimed if path in remote.files}
    for path, extra in remote.files.items():
        if path not in claimed:
            actions.append(_extra(extra, prune, needed.get(path), names[bytes_at(extra)]))
    ordered = tuple(sorted(actions, key=lambda action: action.path))
    return _plan(ordered, remote.free_bytes, moves.rest)


def _action(model: Model, file: ModelFile, held: FileRecord | None) -> Action:
    """Decide about one wanted file."""
    standing, reason = judge(file.wanted(), held)
    only_here = file.source.startswith("local:")
    kind: Kind
    match standing:
        case "right":
            kind = "keep"
        case "unverified":
            kind = "unknown"
        case "absent":
            kind = "upload" if only_here else "fetch"
        case _:
            kind = "upload" if only_here else "replace"
    if held is not None and held["path"] != file.volume_path:
        reason = f"{reason}, as {held['path']}"
    size_bytes = file.size_bytes
    if size_bytes is None and held is not None and kind == "keep":
        # Only of a file that stays: the size of a wrong one would be demanded of what replaces it.
        size_bytes = held["size_bytes"]
    return Action(
        path=file.volume_path,
        kind=kind,
        reason=reason,
        model=model.name,
        required=model.required,
        gated=model.gated,
        license=model.license,
        source=file.source,
        size_bytes=size_bytes,
        sha256=file.sha256,
        there=standing,
        allow_pickle=file.allow_pickle,
    )


def _extra(held: FileRecord, prune: bool, needed_by: str | None, names: int) -> Action:
    """Decide about a file that nothing refers to, but perhaps a link that stays."""
    reason = "nothing in the registry refers to it"
    if blob_repository(held["path"]):
        reason = "no snapshot of its repository refers to it"
    elif held["path"].startswith(f"{REPLACED}/"):
        reason = "a wanted file replaced it; this tool did not bring it"
    if needed_by is not None:
        prune, reason = False, f"{needed_by} is a link to it"
    elif not prune:
        reason = f"{reason}, and it was not asked to be removed"
    return Action(
        path=held["path"],
        kind="remove" if prune else "keep",
        reason=reason,
        size_bytes=held["size_bytes"],
        bytes_at=held.get("link") or "",
        names=names,
        sha256=held["sha256"],
        source=held.get("source") or "",
        there="extra",
    )


def _freed(actions: tuple[Action, ...]) -> int:
    """Add up what removals free: bytes whose every name goes."""
    groups: dict[str, list[Action]] = {}
    for action in actions:
        if action.kind == "remove":
            groups.setdefault(action.bytes_at or action.path, []).append(action)
    return sum(
        group[0].size_bytes or 0 for group in groups.values() if len(group) >= max(one.names for one in group)
    )


def _plan(actions: tuple[Action, ...], free_bytes: int | None, elsewhere: tuple[str, ...]) -> Plan:
    """Add the summary."""

    def paths(standing: str) -> tuple[str, ...]:
        return tuple(action.path for action in actions if action.there == standing)

    def size(*kinds: Kind) -> int:
        return sum(action.size_bytes or 0 for action in actions if action.kind in kinds)

    moved = size("fetch", "upload", "replace")
    # A file that is replaced makes room for the next one, once it is.
    aside = max((action.size_bytes or 0 for action in actions if action.kind == "replace"), default=0)
    freed = _freed(actions)
    needed = size("fetch", "upload") + aside - freed
    stored = sum(a.size_bytes or 0 for a in actions if a.kind != "remove")
    return Plan(
        actions=actions,
        free_bytes=free_bytes,
        elsewhere=elsewhere,
        summary=Summary(
            missing_on_remote=paths("absent"),
            missing_locally=tuple(action.path for action in actions if action.here == "absent"),
            wrong_size=paths("wrong_size"),
            wrong_hash=paths("wrong_hash"),
            unverified=paths("unverified"),
            extra_on_remote=paths("extra"),
            unknown_size=tuple(a.path for a in actions if a.size_bytes is None and a.kind in CHANGES),
            pickled=tuple(
                a.path for a in actions if a.kind in CHANGES - {"remove"} and may_hold_pickle(a.path)
            ),
            elsewhere=elsewhere,
            bytes=moved,
            freed_bytes=freed,
            lacking_bytes=0 if free_bytes is None else max(0, needed - free_bytes),
            seconds=round(moved / BYTES_PER_S, 1),
            dollars_per_month=round(volume_usd_per_month(stored / 1e9), 2),
        ),
    )


def _by_name(files: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
    """Index files by their one name."""
    return {canonical_path(path): record for path, record in files.items()}
