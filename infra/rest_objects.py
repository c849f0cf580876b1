"""What a resource of REST v2 does at RunPod: judge its fields, make, read, change and delete its object.

The providers of ``infra.providers`` load this module when the first of their methods is called: it loads
pydantic, which the process that provides models does not need.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.output import UNKNOWN

from backend.errors import NotFound
from infra import adoption, provider_session
from infra.engine import progress, pulumi_state
from infra.extra_inputs import ADOPT, ADOPTED, AUTO_NAME, BESIDE, KEEP, STACK, is_unknown
from infra.naming import logical_names
from infra.provider_hooks import current_request, current_urn
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, Kind, Live
from ops.runpod.serialize import changes
from ops.runpod.specs import Spec, refuse_to_shrink, validate, wires


class RestObject:
    """An object of REST v2, by its table of fields."""

    kind: ClassVar[Kind[Spec]]
    # A replacement that is created first would find the old one by its name, and adopt it.
    delete_first: ClassVar[bool] = True

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Fill in defaults, settle the name, and tell every problem.

        RunPod is asked only before a creation: what is taken over, and who has the name already.
        The engine gives no olds then, whether it creates for the first time or to replace.
        """
        given = {name: value for name, value in news.items() if not name.startswith("__")}
        beside = {name: value for name in BESIDE if (value := given.pop(name, None)) not in (None, "")}
        live, problems = self._to_adopt(beside.get(ADOPT)) if not olds else (None, [])
        base, chosen = str(beside.pop(AUTO_NAME, "")), given.get("name") is not None
        if base and not chosen:
            given["name"] = beside[AUTO_NAME] = _automatic_name(olds, base, live, beside)
        unknown = [name for name in given if is_unknown(given[name])]
        values, found = validate(self.kind.spec, given, unknown=unknown)
        problems += [each for each in found if not self.needless(each, beside)]
        problems += self.transition(olds or (live.values if live else {}), values)
        if live is not None and not problems:
            problems += adoption.misfits(live, {k: v for k, v in values.items() if k not in unknown})
            if not problems:
                adoption.announce(live, values, unknown)
        elif not olds and not problems and ADOPT not in beside and current_request() is not None:
            stack = beside.get(STACK, "")
            if chosen and "name" not in unknown:
                problems += adoption.refuse_taken(self.kind, values["name"], stack)
            elif base and not chosen:
                adoption.tell_others(self.kind, base, values["name"], stack)
        extra = {name: value for name, value in news.items() if name.startswith("__")}
        failures = [CheckFailure(name, reason) for name, reason in problems]
        return CheckResult({**values, **beside, **extra}, failures)

    def _to_adopt(self, id_: object) -> tuple[Live[Spec] | None, list[tuple[str, str]]]:
        """Find the object that is to be taken over, where its id is known."""
        return adoption.find(self.kind, id_) if isinstance(id_, str) else (None, [])

    def needless(self, problem: tuple[str, str], beside: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Tell whether a problem does not matter for an object that is taken over."""
        return False

    def transition(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        """Tell what of a change RunPod would refuse."""
        return []

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare declared fields, and replace only on what RunPod cannot change."""
        changed = changes(self.kind.spec, olds, news)
        reasons = self.kind.spec.replacing(olds, news, changed)
        if news.get(ADOPT) not in (None, _id) and not is_unknown(news[ADOPT]):
            reasons[ADOPT] = "another object is to be taken over"
        beside = [name for name in (ADOPT, KEEP) if news.get(name) != olds.get(name)]
        what = f"{self.kind.noun} {olds.get('name', _id)}"
        for name, reason in reasons.items():
            progress.log(f"{what}: {reason} ({name}), so it is replaced", urn=current_urn(), ephemeral=False)
        if ADOPT in beside and not news.get(ADOPT) and _kept(olds):
            progress.log(
                f"{what}: adopt was removed. It stays taken over: deleting the resource leaves the object at "
                "RunPod. Declare keep_adopted=False to have it deleted.",
                urn=current_urn(),
                ephemeral=False,
            )
        return DiffResult(
            bool(changed or beside), [*reasons], delete_before_replace=self.delete_first and not _kept(olds)
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Create, pick up what a cut-off attempt at the same creation left, or take over what is named."""
        values, api = _typed(self.kind, props), provider_session.api()
        adopt = props.get(ADOPT)
        if adopt:
            live = api.adopt(self.kind, adopt, values)
        else:
            own = pulumi_state.held(props.get(STACK, ""))
            own_name = props.get(AUTO_NAME) == values["name"]
            live = api.create(self.kind, values, held=own, own_name=own_name)
        pulumi_state.took(live.id)
        return CreateResult(live.id, self.outputs(live, {**props, ADOPTED: True if adopt else None}))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Return the live values of the declared fields; gone is gone."""
        try:
            live = provider_session.api().get(self.kind, id_)
        except NotFound:
            return ReadResult("", {})
        outs = self.outputs(live, props)
        declared = {name: outs[name] for name in (*wires(self.kind.spec), *BESIDE) if name in outs}
        return ReadResult(id_, outs, declared)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Change what differs, in place."""
        values = _typed(self.kind, _news)
        changed, api = changes(self.kind.spec, _olds, values), provider_session.api()
        live = api.update(self.kind, _id, values, changed) if changed else api.get(self.kind, _id)
        adopted = _olds.get(ADOPTED) or _olds.get(ADOPT) or _news.get(ADOPT)
        return UpdateResult(self.outputs(live, {**_news, ADOPTED: True if adopted else None}))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete, unless another resource has the object or it was taken over; gone already is success."""
        what = f"{self.kind.noun} {_id} ({_props.get('name')!r}) stays at RunPod"
        if others := pulumi_state.release(_id, _props.get(STACK, "")):
            progress.log(f"{what}: {logical_names(others)} has it too", urn=current_urn(), ephemeral=False)
        elif _kept(_props):
            progress.log(
                f"{what}: it was taken over, and keep_adopted is not False",
                urn=current_urn(),
                ephemeral=False,
            )
        else:
            provider_session.api().delete(self.kind, _id)

    def outputs(self, live: Live[Spec], declared: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state: declared fields as they are live, what RunPod never shows as it was declared."""
        table = wires(self.kind.spec)
        outs = {
            name: declared[name] if wire.secret else live.values.get(name)
            for name, wire in table.items()
            if declared.get(name) is not None
        }
        for name in (*BESIDE, ADOPTED):
            if declared.get(name) is not None:
                outs[name] = declared[name]
        return outs


class NetworkVolumeObject(RestObject):
    """A network volume."""

    kind = NETWORK_VOLUMES
    # Endpoints hold the old volume until they can be given the new one, and RunPod keeps what is held.
    delete_first = False

    def transition(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[tuple[str, str]]:
        """See `refuse_to_shrink`."""
        return refuse_to_shrink(olds, news)


class TemplateObject(RestObject):
    """A template."""

    kind = TEMPLATES


class EndpointObject(RestObject):
    """A serverless endpoint."""

    kind = ENDPOINTS

    def outputs(self, live: Live[Spec], declared: Mapping[str, Any]) -> dict[str, Any]:
        """Add the addresses that RunPod gave the endpoint."""
        return {
            **super().outputs(live, declared),
            "request_urls": dict(live.body.get("requestUrls") or {}),
            "created_at": str(live.body.get("createdAt") or ""),
        }


class RegistryCredentialObject(RestObject):
    """A login for a private container registry."""

    kind = REGISTRY_CREDENTIALS

    def needless(self, problem: tuple[str, str], beside: Mapping[str, Any]) -> bool:
        """See `RestObject.needless`: RunPod knows the login of a credential that is taken over."""
        return ADOPT in beside and problem in (("username", "is missing"), ("password", "is missing"))


def _typed(kind: Kind[Spec], props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declared fields with their own types: in Pulumi's hands every number becomes a float."""
    values, _ = validate(kind.spec, {name: props[name] for name in wires(kind.spec) if name in props})
    return values


def _automatic_name(
    olds: Mapping[str, Any], base: str, live: Live[Spec] | None, beside: Mapping[str, Any]
) -> object:
    """Name an object whose program chooses no name: once it has one, that stays.

    Args:
        base: how a new name begins.
        live: the object that is taken over; it keeps its name.
    """
    if olds:
        return olds.get(AUTO_NAME) or olds.get("name") or base
    if ADOPT in beside:
        return live.name if live is not None else UNKNOWN
    return pulumi_state.name_of_creation(base, beside.get(STACK, ""))


def _kept(outs: Mapping[str, Any]) -> bool:
    """Tell whether an object stays at RunPod when its resource is deleted."""
    return bool(outs.get(ADOPTED) or outs.get(ADOPT)) and outs.get(KEEP) is not False
