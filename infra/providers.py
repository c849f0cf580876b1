"""Pulumi's dynamic providers for RunPod.

The names of this module and of its classes are persisted in every stack's
state (the SDK pickles a provider by reference): they never change. Instances
hold nothing. What a field is called at RunPod, and what can be done to it, is
in ``ops.runpod_specs``; how RunPod is talked to, in ``ops.runpod_api``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)
from pulumi.output import Unknown

from backend.errors import NotFound
from backend.settings import Secret
from infra import models, process, progress, session
from infra.process import guarded
from ops.runpod_api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, Kind, Live
from ops.runpod_specs import Spec, validate, wires
from ops.runpod_wire import changes

ADOPT = "adopt"
"""An input beside the fields of the spec: the id of a resource to take over instead of creating one."""


class _Provider(ResourceProvider):
    """What all providers share."""

    # The pickle is a name, and holds nothing to hide.
    serialize_as_secret_always = False

    @guarded
    def configure(self, req: ConfigureRequest) -> None:
        """Set up this process, once."""
        process.prepare()
        if key := req.config.get(f"{session.NAMESPACE}:{session.KEY}") or req.config.get(session.KEY):
            session.use_config(Secret(key))


class _RestProvider(_Provider):
    """A resource of REST v2, by its table of fields."""

    kind: ClassVar[Kind[Spec]]
    # A replacement that is created first would find the old one by its name, and adopt it.
    delete_first: ClassVar[bool] = True

    @guarded
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Fill in defaults and tell every problem, without asking RunPod."""
        given = {name: value for name, value in news.items() if not name.startswith("__")}
        adopt = given.pop(ADOPT, None)
        values, problems = validate(
            self.kind.spec, given, unknown=[name for name in given if _is_unknown(given[name])]
        )
        problems += self.transition(olds, values)
        extra = {name: value for name, value in news.items() if name.startswith("__")}
        if adopt is not None:
            extra[ADOPT] = adopt
        return CheckResult({**values, **extra}, [CheckFailure(name, reason) for name, reason in problems])

    def transition(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        """Tell what of a change RunPod would refuse."""
        return []

    @guarded
    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare declared fields, and replace only on what RunPod cannot change."""
        changed = changes(self.kind.spec, olds, news)
        reasons = self.kind.spec.replacing(olds, news, changed)
        for name, reason in reasons.items():
            what = f"{self.kind.noun} {olds.get('name', _id)}"
            progress.log(f"{what}: {reason} ({name}), so it is replaced", ephemeral=False)
        return DiffResult(bool(changed), list(reasons), delete_before_replace=self.delete_first)

    @guarded
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Create, or adopt what an earlier, half-done create left."""
        values, api = _typed(self.kind, props), session.api()
        adopt = props.get(ADOPT)
        live = api.adopt(self.kind, adopt, values) if adopt else api.create(self.kind, values)
        return CreateResult(live.id, self.outputs(live, props))

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Give the live values of the declared fields; gone is gone."""
        try:
            live = session.api().get(self.kind, id_)
        except NotFound:
            return ReadResult("", {})
        outs = self.outputs(live, props)
        declared = {name: outs[name] for name in (*wires(self.kind.spec), ADOPT) if name in outs}
        return ReadResult(id_, outs, declared)

    @guarded
    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Change what differs, in place."""
        values = _typed(self.kind, _news)
        changed = changes(self.kind.spec, _olds, values)
        live = session.api().update(self.kind, _id, values, changed)
        return UpdateResult(self.outputs(live, _news))

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete; gone already is success."""
        session.api().delete(self.kind, _id)

    def outputs(self, live: Live[Spec], declared: Mapping[str, Any]) -> dict[str, Any]:
        """Give the state: declared fields as they are live, what RunPod never shows as it was declared."""
        table = wires(self.kind.spec)
        outs = {
            name: declared[name] if wire.secret else live.values.get(name)
            for name, wire in table.items()
            if declared.get(name) is not None
        }
        if declared.get(ADOPT) is not None:
            outs[ADOPT] = declared[ADOPT]
        return outs


class NetworkVolumeProvider(_RestProvider):
    """Network volumes."""

    kind = NETWORK_VOLUMES
    # Endpoints hold the old volume until they can be given the new one, and RunPod keeps what is held.
    delete_first = False

    def transition(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Refuse to shrink: RunPod only grows a volume. A volume that is replaced may be any size."""
        moved = any(news.get(name) not in (None, olds.get(name)) for name in ("data_center", "type"))
        old, new = olds.get("size_gb"), news.get("size_gb")
        if moved or not isinstance(old, int | float) or not isinstance(new, int | float) or new >= old:
            return []
        reason = (
            f"the volume has {old:g} GB and RunPod only grows volumes, so it cannot become {new:g}: "
            f"declare at least {old:g}, or replace the volume and lose what is on it"
        )
        return [("size_gb", reason)]


class TemplateProvider(_RestProvider):
    """Templates."""

    kind = TEMPLATES


class EndpointProvider(_RestProvider):
    """Serverless endpoints."""

    kind = ENDPOINTS

    def outputs(self, live: Live[Spec], declared: Mapping[str, Any]) -> dict[str, Any]:
        """Add the addresses that RunPod gave the endpoint."""
        return {
            **super().outputs(live, declared),
            "request_urls": dict(live.body.get("requestUrls") or {}),
            "created_at": str(live.body.get("createdAt") or ""),
        }


class RegistryCredentialProvider(_RestProvider):
    """Logins for private container registries."""

    kind = REGISTRY_CREDENTIALS


class ModelProvider(_Provider):
    """Model files on a network volume."""

    @guarded
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:  # noqa: ARG002
        """Tell every problem of a wanted file, without asking anybody."""
        known = {name: value for name, value in news.items() if not _is_unknown(value)}
        return CheckResult(news, [CheckFailure(name, reason) for name, reason in models.problems(known)])

    @guarded
    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare what the file must be and where; another place is another file."""
        changed, replaced = models.differences(olds, news)
        return DiffResult(bool(changed), replaced, delete_before_replace=True)

    @guarded
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the file be there, with the right bytes; picks up what an earlier attempt left."""
        return CreateResult(models.identity(props), models.provision(props))

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look at the volume, once for all models; a missing or changed file is drift."""
        found = models.look(props)
        if found is None:
            return ReadResult("", {})
        return ReadResult(id_, found, models.declared(found))

    @guarded
    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Make the file be what is wanted now."""
        return UpdateResult(models.provision(_news))

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Remove the file; gone already is success, and so is a volume that is gone."""
        models.remove(_props)


def _typed(kind: Kind[Spec], props: Mapping[str, Any]) -> dict[str, Any]:
    """Give the declared fields with their own types: in Pulumi's hands every number becomes a float."""
    values, _ = validate(kind.spec, {name: props[name] for name in wires(kind.spec) if name in props})
    return values


def _is_unknown(value: object) -> bool:
    """Tell whether a value, or a part of it, is known only after another resource's creation."""
    if isinstance(value, Mapping):
        return any(map(_is_unknown, value.values()))
    if isinstance(value, list):
        return any(map(_is_unknown, value))
    return isinstance(value, Unknown)
