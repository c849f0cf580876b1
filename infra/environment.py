"""The environment: a volume with verified models, an endpoint that looks after it, and one that generates."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pulumi
from pulumi import ComponentResource, Output, Resource, ResourceOptions

from infra.naming import COMPONENT, EnvironmentNames
from infra.provider_session import KEY
from infra.resources import Endpoint, Model, NetworkVolume, RegistryCredential, Template
from infra.runtime_plan import RuntimePlan
from infra.stack_config import StackConfig
from infra.worker_software import Installed, image_start, install, volume_start
from ops.registry.load import ModelFile

LANES: Final = 3
"""Models that are created at a time.

A provider process has four workers, and the engine stops at the first call that
finds none free; the fourth is for the engine's Cancel. So each model waits for
the one three before it. The ops worker takes one job after the other anyway.
"""
OPS_JOB_TIMEOUT_S: Final = 6 * 3600
"""Long enough for a model of tens of gigabytes from a slow source."""


class ComfyEnvironment(ComponentResource):
    """A whole environment; an account may have several, in stacks or in one program.

    Attributes:
        volume, ops_endpoint, endpoint: its resources.
        software: code and Python environments on the volume; None where images hold them.
        models: path on the volume → resource.
    """

    def __init__(
        self,
        name: str,
        config: StackConfig,
        models: Sequence[ModelFile] = (),
        *,
        worker_env: Mapping[str, str] | None = None,
        images: Mapping[str, Output[str]] | None = None,
        project: Path = Path(),
        opts: ResourceOptions | None = None,
    ) -> None:
        """Declare an environment.

        Args:
            name: logical name; also of the objects at RunPod.
            config: sizes, places and images.
            models: files that must be verified on the volume before the endpoint goes live.
            worker_env: variables for all workers, for example the address of a mirror.
            images: ``worker`` and ``ops`` images that are known only later, instead of the configured ones.
            project: what the configuration's ``generation_folder`` is relative to.
            opts: Pulumi's options.
        """
        super().__init__(COMPONENT, name, None, opts)
        self._name = name
        names = EnvironmentNames(name)
        self._config = config
        images = images or {}
        folder = project / config.generation_folder if config.generation_folder else None
        plan = None if images or config.runtime == "image" else RuntimePlan.of(folder)
        inside = ResourceOptions(parent=self)
        self.volume = NetworkVolume(
            names.volume,
            size_gb=config.volume_gb,
            data_center=config.data_center,
            type=config.volume_type,
            adopt=config.adopt_volume,
            keep_adopted=config.keep_adopted,
            opts=ResourceOptions(parent=self, protect=config.protect_volume),
        )
        env = {**(worker_env or {}), **_tokens(config)}
        credential = self._credential(inside)
        start = image_start("ops", config, images) if plan is None else volume_start("ops", plan)
        self.ops_template = Template(
            names.ops,
            adopt=config.adopt_ops_template,
            keep_adopted=config.keep_adopted,
            image=start.image,
            args=start.args,
            disk_gb=config.ops_disk_gb,
            # A mount shows the size of the whole file system, not of the volume on it.
            env={**env, **start.env, "COMFYFORM_VOLUME_GB": str(config.volume_gb)},
            category="CPU",
            registry_id=credential.id if credential else None,
            opts=inside,
        )
        self.ops_endpoint = Endpoint(
            names.ops,
            adopt=config.adopt_ops_endpoint,
            keep_adopted=config.keep_adopted,
            template=self.ops_template,
            cpu=[{"id": config.ops_cpu, "vcpu_count": config.ops_vcpus}],
            workers_max=1,  # the volume's only writer of models
            data_centers=[config.data_center],
            volume_ids=[self.volume.id],
            timeout_s=OPS_JOB_TIMEOUT_S,
            flashboot=config.flashboot,
            opts=inside,
        )
        self.software = None if plan is None else self._install(plan, folder)
        self.models = self._declare_models(models)
        if plan is None:
            start = image_start("generation", config, images)
        else:
            start = volume_start("generation", plan, self.software)
        self.template = Template(
            names.worker,
            adopt=config.adopt_worker_template,
            keep_adopted=config.keep_adopted,
            image=start.image,
            args=start.args,
            disk_gb=config.worker_disk_gb,
            # The worker gives up, and says why, when RunPod would end the job without a word.
            env={**env, **start.env, "COMFYFORM_TIMEOUT_S": str(config.job_timeout_s)},
            registry_id=credential.id if credential else None,
            opts=inside,
        )
        self.endpoint = Endpoint(
            names.worker,
            adopt=config.adopt_worker_endpoint,
            keep_adopted=config.keep_adopted,
            template=self.template,
            gpu_pools=config.gpu_pools,
            gpu_excluded_types=config.gpu_excluded_types,
            gpu_count=config.gpu_count,
            min_cuda_version=config.min_cuda_version,
            workers_min=config.workers_min,
            workers_max=config.workers_max,
            idle_timeout_s=config.idle_timeout_s,
            data_centers=[config.data_center],
            volume_ids=[self.volume.id],
            timeout_s=config.job_timeout_s,
            flashboot=config.flashboot,
            opts=ResourceOptions(parent=self, depends_on=[*self._software(), *self.models.values()]),
        )
        self.register_outputs({"volume_id": self.volume.id, "endpoint_id": self.endpoint.id})

    @property
    def backend_env(self) -> Output[dict[str, str]]:
        """The variables that point ``backend.get_backend()`` at this environment; none is secret."""
        return Output.all(
            RUNPOD_ENDPOINT_ID=self.endpoint.id,
            RUNPOD_OPS_ENDPOINT_ID=self.ops_endpoint.id,
            RUNPOD_VOLUME_ID=self.volume.id,
        ).apply(lambda ids: {"COMFY_BACKEND": "runpod", **ids})

    def _credential(self, inside: ResourceOptions) -> RegistryCredential | None:
        config = self._config
        login = [config.registry_username, config.registry_password]
        if config.adopt_registry_credential is None and None in login:
            return None
        user, password = (None if each is None else Output.secret(each.reveal()) for each in login)
        return RegistryCredential(
            EnvironmentNames(self._name).registry,
            username=user,
            password=password,
            adopt=config.adopt_registry_credential,
            keep_adopted=config.keep_adopted,
            opts=inside,
        )

    def _install(self, plan: RuntimePlan, generation_folder: Path | None) -> Installed:
        """Declare the software of the workers on the volume."""
        return install(
            self._name,
            plan,
            generation_folder and generation_folder.absolute(),
            volume_id=self.volume.id,
            endpoint_id=self.ops_endpoint.id,
            opts=ResourceOptions(parent=self, provider=self._slow_provider, deleted_with=self.volume),
        )

    def _software(self) -> list[Resource]:
        """Return the resources of the software on the volume; none where images hold it."""
        return [] if self.software is None else self.software.all()

    @functools.cached_property
    def _slow_provider(self) -> pulumi.ProviderResource:
        """Declare a provider process of its own for what waits for jobs."""
        # Its configuration is its own inputs only, not the stack's.
        key = self._config.runpod_api_key
        inputs = {KEY: Output.secret(key.reveal())} if key is not None else {}
        return pulumi.ProviderResource(
            "pulumi-python", f"{self._name}-models", inputs, ResourceOptions(parent=self)
        )

    def _declare_models(self, files: Sequence[ModelFile]) -> dict[str, Model]:
        """Declare the models, in a provider process of their own, a few lanes abreast."""
        if not files:
            return {}
        made: list[Model] = []
        for file in files:
            before = made[-LANES:][:1] if len(made) >= LANES else self._software()
            made.append(
                Model(
                    file.volume_path,
                    volume_id=self.volume.id,
                    endpoint_id=self.ops_endpoint.id,
                    transport=self._config.transport,
                    data_center=self._config.data_center,
                    source=file.source,
                    size_bytes=file.size_bytes,
                    sha256=file.sha256,
                    allow_pickle=file.allow_pickle or None,
                    opts=ResourceOptions(
                        parent=self,
                        provider=self._slow_provider,
                        deleted_with=self.volume,
                        depends_on=[*before],
                    ),
                )
            )
        return {file.volume_path: model for file, model in zip(files, made, strict=True)}


def _tokens(config: StackConfig) -> dict[str, Output[str] | str]:
    """Return the tokens of model sources: a secret kept at RunPod by name, or one of the stack's config."""
    found: dict[str, Output[str] | str] = {}
    for variable, token, kept in (
        ("HF_TOKEN", config.hf_token, config.hf_token_secret),
        ("CIVITAI_TOKEN", config.civitai_token, config.civitai_token_secret),
    ):
        if kept is not None:
            found[variable] = f"{{{{ RUNPOD_SECRET_{kept} }}}}"
        elif token is not None:
            found[variable] = Output.secret(token.reveal())
    return found
