"""RunPod's control plane, REST v2: create, read, change and delete, without ever making a thing twice.

RunPod has no idempotency keys, so a create whose answer was lost is never
simply repeated: its object is looked for by its name. An object that was there
before the create is taken over only where the name proves who made it.
Everything else is safe to repeat and is, while it fails for a passing reason.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from backend.errors import ApiError, ComfyformError, Conflict, InvalidRequest, NotFound, Unavailable
from backend.flow import RETRY, Flow, Retry, Send, T, ask, check, persist, send
from backend.flow.polling import PauseAfter, poll
from backend.flow.retry import was_not_taken
from backend.settings import Secret
from ops.runpod import quota
from ops.runpod.names import TAKE_OVER, only, taken
from ops.runpod.serialize import changes, creation, patch, reading
from ops.runpod.specs import (
    EndpointSpec,
    NetworkVolumeSpec,
    RegistryCredentialSpec,
    Spec,
    TemplateSpec,
    wires,
)

if TYPE_CHECKING:
    from backend.flow.http_driver import Http

S = TypeVar("S", bound=Spec)
S_co = TypeVar("S_co", bound=Spec, covariant=True)

CALL_TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 15.0
"""How long a resource may take to show in a listing after its create.

Source: "reads may be briefly stale after REST writes", seen in the field (facts/runpod.md §2).
"""
IN_USE_S: Final = 180.0
"""How long a delete waits for what still holds a resource: a worker that ends needs about two minutes.

Source: RunPod's GraphQL documentation, deleteTemplate, as collected in facts/runpod.md §1b.
"""


@dataclass(frozen=True, slots=True)
class Kind(Generic[S_co]):
    """A kind of resource on the control plane.

    Attributes:
        path: of the collection.
        listed: the key of the list in the collection's answer.
    """

    spec: type[S_co]
    path: str
    listed: str

    @property
    def noun(self) -> str:
        """What people call it."""
        return self.spec.noun


NETWORK_VOLUMES: Final = Kind(NetworkVolumeSpec, "network-volumes", "networkVolumes")
TEMPLATES: Final = Kind(TemplateSpec, "templates", "templates")
ENDPOINTS: Final = Kind(EndpointSpec, "serverless", "endpoints")
REGISTRY_CREDENTIALS: Final = Kind(RegistryCredentialSpec, "registries", "registries")


@dataclass(frozen=True, slots=True)
class Live(Generic[S_co]):
    """A resource as RunPod shows it.

    Attributes:
        values: its fields, in the names of its spec; what RunPod never shows is missing.
        body: RunPod's own JSON, for what is not declared (``requestUrls``, ``createdAt``).
    """

    kind: Kind[S_co]
    id: str
    values: Mapping[str, Any]
    body: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Its name; RunPod does not promise that it is unique."""
        return str(self.values.get("name", ""))


class RunPodApi:
    """Calls on REST v2. Safe to share between threads.

    Args:
        http: the driver.
        base_url: ends in ``/v2``.
        api_key: sent with each call.
        retry: how often a call that may be repeated is.
        timeout_s: of one call.
        settle_s: how long a create whose answer was lost is looked for.
        in_use_s: how long a delete waits while the resource is in use.
    """

    def __init__(
        self,
        http: "Http",
        base_url: str,
        api_key: Secret,
        *,
        retry: Retry = RETRY,
        timeout_s: float = CALL_TIMEOUT_S,
        settle_s: float = SETTLE_S,
        in_use_s: float = IN_USE_S,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._key = api_key
        self._retry = retry
        self._timeout_s = timeout_s
        self._settle_s = settle_s
        self._in_use_s = in_use_s

    def list_all(self, kind: Kind[S]) -> tuple[Live[S], ...]:
        """List the account's resources of a kind. A failed listing raises; it never looks empty."""
        return self._http.run(self._list(kind))

    def get(self, kind: Kind[S], id_: str) -> Live[S]:
        """Read one resource.

        Raises:
            NotFound: the id is unknown.
        """
        step = self._step("GET", f"{kind.path}/{id_}")
        reply = self._http.run(ask(step, f"Read {kind.noun} {id_}", retry=self._retry))
        return _live(kind, reply.object())

    def create(
        self, kind: Kind[S], values: Mapping[str, Any], *, held: Collection[str] = (), own_name: bool = False
    ) -> Live[S]:
        """Create one resource.

        Args:
            values: its fields.
            held: ids that are already managed; an object with one of them is never taken over.
            own_name: the name is one that only this creation can have. An object of this name is then what
                an earlier attempt at it left, and is brought to the wanted values.

        Raises:
            Conflict: an object of this name exists and is not known to be of this creation; several have
                the name; or one that cannot be changed into what is wanted.
            Unavailable: the answer was lost and nothing of the name shows up; nothing was repeated.
        """
        flow = self._create(kind, values, frozenset(held), own_name=own_name)
        return self._http.run(self._explained(kind, values, flow))

    def adopt(self, kind: Kind[S], id_: str, values: Mapping[str, Any]) -> Live[S]:
        """Take over an existing resource and bring it to the wanted values.

        Raises:
            NotFound: the id is unknown.
            Conflict: a field that cannot be changed differs.
        """
        step = self._step("GET", f"{kind.path}/{id_}")
        reply = self._http.run(ask(step, f"Adopt {kind.noun} {id_}", retry=self._retry))
        return self._http.run(self._bring(_live(kind, reply.object()), values))

    def update(self, kind: Kind[S], id_: str, values: Mapping[str, Any], changed: list[str]) -> Live[S]:
        """Change fields in place.

        Args:
            values: all declared fields.
            changed: the names of those to change; their groups are sent whole.
        """
        return self._http.run(self._explained(kind, values, self._update(kind, id_, values, changed)))

    def delete(self, kind: Kind[S], id_: str) -> None:
        """Delete a resource; one that is gone already is deleted. Waits while it is in use.

        Raises:
            ApiError: RunPod still refuses after the wait, in its words.
        """
        self._http.run(self._delete(kind, id_))

    def catalog(self, name: str, **query: str) -> list[Mapping[str, Any]]:
        """Read a part of the catalog: ``gpus``, ``cpus`` or ``datacenters``; see ``ops.runpod.catalog``."""
        step = self._step("GET", f"catalog/{name}", query=query)
        body = self._http.run(ask(step, f"Read RunPod's catalog of {name}", retry=self._retry)).object()
        lists = [value for value in body.values() if isinstance(value, list)]
        return lists[0] if lists else []

    def _explained(self, kind: Kind[S], values: Mapping[str, Any], flow: Flow[Live[S]]) -> Flow[Live[S]]:
        """Add to a refusal over the worker quota who has the workers."""
        try:
            return (yield from flow)
        except InvalidRequest as error:
            if kind.spec is EndpointSpec:
                with contextlib.suppress(ApiError):
                    listed = yield from self._list(ENDPOINTS)
                    others = {e.name: e.values["workers_max"] for e in listed if e.name != values["name"]}
                    error.hint = quota.hint(error.message, values["workers_max"], others) or error.hint
            raise

    def _list(self, kind: Kind[S]) -> Flow[tuple[Live[S], ...]]:
        reply = yield from ask(self._step("GET", kind.path), f"List the {kind.noun}s", retry=self._retry)
        entries = reply.object().get(kind.listed)
        if not isinstance(entries, list):
            raise Unavailable(f"RunPod's list of {kind.noun}s has no {kind.listed!r}.", status=reply.status)
        return tuple(_live(kind, entry) for entry in entries)

    def _named(self, kind: Kind[S], name: str, held: Collection[str]) -> Flow[list[Live[S]]]:
        """List the objects of a name that are not held."""
        listed = yield from self._list(kind)
        return [live for live in listed if live.name == name and live.id not in held]

    def _create(
        self, kind: Kind[S], values: Mapping[str, Any], held: frozenset[str], *, own_name: bool
    ) -> Flow[Live[S]]:
        name = str(values["name"])
        found = yield from self._named(kind, name, held)
        if found and not own_name:
            raise Conflict(taken(found), hint=TAKE_OVER)
        if found:
            earlier = only(found)
            if not _unchangeable(kind):
                return (yield from self._bring(earlier, values))
            # Its hidden fields may differ from the wanted ones and cannot be changed, so it makes room.
            yield from self._delete(kind, earlier.id)
            held |= {earlier.id}
        step = self._step("POST", kind.path, json=creation(kind.spec, values))

        def once() -> Flow[Live[S]]:
            reply = check((yield from send(step)), f"Create {kind.noun} {name!r}")
            return _live(kind, reply.object())

        try:
            return (yield from persist(once, retry=self._retry, when=was_not_taken))
        except Unavailable as error:
            if not error.sent:
                raise
            return (yield from self._find_lost(kind, values, held, error))

    def _find_lost(
        self, kind: Kind[S], values: Mapping[str, Any], held: frozenset[str], error: Unavailable
    ) -> Flow[Live[S]]:
        """Look for a resource whose create was sent and not answered."""
        error.hint = (
            f"No {kind.noun} of that name is listed, and the call was not repeated, so that "
            "nothing is paid twice. Run the same command again."
        )

        def look() -> Flow[list[Live[S]] | None]:
            return (yield from self._named(kind, str(values["name"]), held)) or None

        found = yield from self._poll(look, self._settle_s, too_late=lambda _: error)
        return (yield from self._bring(only(found), values))

    def _bring(self, live: Live[S], values: Mapping[str, Any]) -> Flow[Live[S]]:
        """Bring a found resource to the wanted values."""
        spec = live.kind.spec
        differing = [name for name in changes(spec, live.values, values) if not wires(spec)[name].secret]
        if fixed := spec.replacing(live.values, values, differing):
            what = "; ".join(
                f"{name} is {live.values.get(name)!r}, not {values[name]!r} ({reason})"
                for name, reason in fixed.items()
            )
            raise Conflict(
                f"{live.kind.noun.capitalize()} {live.id} is called {live.name!r} already: {what}.",
                hint="Rename or delete it in RunPod's console, or declare it as it is.",
            )
        if not differing:
            return live
        return (yield from self._update(live.kind, live.id, values, differing))

    def _update(
        self, kind: Kind[S], id_: str, values: Mapping[str, Any], changed: list[str]
    ) -> Flow[Live[S]]:
        step = self._step("PATCH", f"{kind.path}/{id_}", json=patch(kind.spec, values, changed))
        what = f"Change {', '.join(changed)} of {kind.noun} {values.get('name', id_)!r}"
        try:
            reply = yield from ask(step, what, retry=self._retry)
        except NotFound as error:
            error.hint = "It was deleted. `pulumi refresh` records that, and `pulumi up` creates it again."
            raise
        return _live(kind, reply.object())

    def _delete(self, kind: Kind[S], id_: str) -> Flow[None]:
        step, what = self._step("DELETE", f"{kind.path}/{id_}"), f"Delete {kind.noun} {id_}"

        def look() -> Flow[bool]:
            with contextlib.suppress(NotFound):
                yield from ask(step, what, retry=self._retry)
            return True

        in_use = Unavailable(f"{what}: it is still in use.")
        yield from self._poll(
            look, self._in_use_s, too_late=lambda error: error or in_use, pause_after=_pause_if_refused
        )

    def _poll(
        self,
        look: Callable[[], Flow[T | None]],
        deadline_s: float,
        *,
        too_late: Callable[[ApiError | None], ComfyformError],
        pause_after: PauseAfter = lambda _: None,
    ) -> Flow[T]:
        """Look until there is an answer, as often as failed calls are repeated."""
        looks = itertools.count(1)
        return poll(
            look,
            deadline_s=deadline_s,
            delay=lambda _: self._retry.backoff(next(looks)),
            clock=time.monotonic,
            too_late=too_late,
            pause_after=pause_after,
        )

    def _step(
        self, method: str, path: str, *, json: Any = None, query: Mapping[str, str | int] | None = None
    ) -> Send:
        return Send(
            method,
            f"{self._base_url}/{path}",
            json=json,
            query=query or {},
            key=self._key,
            timeout_s=self._timeout_s,
        )


def _pause_if_refused(error: ApiError) -> float | None:
    # RunPod documents no status for "in use": every refusal of a delete is taken for one.
    return 0.0 if isinstance(error, InvalidRequest | Conflict) else None


def _unchangeable(kind: Kind[S]) -> bool:
    return all(wire.fixed for wire in wires(kind.spec).values())


def _live(kind: Kind[S], body: object) -> Live[S]:
    if not isinstance(body, Mapping) or not isinstance(body.get("id"), str) or not body["id"]:
        raise ApiError(f"RunPod answered with a {kind.noun} that has no id.")
    return Live(kind, body["id"], reading(kind.spec, body), body)
