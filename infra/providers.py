"""Pulumi's dynamic providers for RunPod.

The names of this module and of its classes are persisted in every stack's
state (the SDK pickles a provider by reference): they never change. Instances
hold nothing. What the methods do is in ``infra.rest_objects`` and ``infra.models``.
"""

from typing import TYPE_CHECKING, Any, ClassVar

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

from backend.settings import Secret
from infra import models, provider_hooks, provider_session
from infra.engine import progress, pulumi_state
from infra.extra_inputs import STACK, is_unknown
from infra.naming import logical_names
from infra.provider_hooks import current_urn, guarded

if TYPE_CHECKING:
    from infra.rest_objects import RestObject


class ConfiguredProvider(ResourceProvider):
    """What all providers share."""

    # The pickle is a name, and holds nothing to hide.
    serialize_as_secret_always = False

    @guarded
    def configure(self, req: ConfigureRequest) -> None:
        """Set up this process, once."""
        provider_hooks.prepare()
        names = (f"{provider_session.NAMESPACE}:{provider_session.KEY}", provider_session.KEY)
        if key := next(filter(None, map(req.config.get, names)), None):
            provider_session.use_config(Secret(key))


class _RestProvider(ConfiguredProvider):
    """A resource of REST v2."""

    object_class: ClassVar[str]
    """The class of ``infra.rest_objects`` that does what this provider is asked for."""

    @guarded
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """See `RestObject.check`."""
        return self._object().check(olds, news)

    @guarded
    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """See `RestObject.diff`."""
        return self._object().diff(_id, olds, news)

    @guarded
    def create(self, props: dict[str, Any]) -> CreateResult:
        """See `RestObject.create`."""
        return self._object().create(props)

    @guarded
    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """See `RestObject.read`."""
        return self._object().read(id_, props)

    @guarded
    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """See `RestObject.update`."""
        return self._object().update(_id, _olds, _news)

    @guarded
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """See `RestObject.delete`."""
        self._object().delete(_id, _props)

    def _object(self) -> "RestObject":
        from infra import rest_objects  # pydantic takes a tenth of a second, and models need none

        found: RestObject = getattr(rest_objects, self.object_class)()
        return found


class NetworkVolumeProvider(_RestProvider):
    """Network volumes."""

    object_class = "NetworkVolumeObject"


class TemplateProvider(_RestProvider):
    """Templates."""

    object_class = "TemplateObject"


class EndpointProvider(_RestProvider):
    """Serverless endpoints."""

    object_class = "EndpointObject"


class RegistryCredentialProvider(_RestProvider):
    """Logins for private container registries."""

    object_class = "RegistryCredentialObject"


class ModelProvider(ConfiguredProvider):
    """Model files on a network volume."""

    @guarded
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:  # noqa: ARG002
        """Tell every problem of a wanted file, without any request."""
        known = {name: value for name, value in news.items() if not is_unknown(value)}
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
        """Remove the file, unless another resource has it; gone already is success, like its volume."""
        if others := pulumi_state.release(_id, _props.get(STACK, "")):
            progress.log(
                f"model {_id} stays on its volume: {logical_names(others)} has it too",
                urn=current_urn(),
                ephemeral=False,
            )
        else:
            models.remove(_props)
