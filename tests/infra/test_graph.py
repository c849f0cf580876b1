"""The program's graph under Pulumi's mocks: what is declared, from what, in which order. No provider runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.rpc import deserialize_properties
from pulumi.runtime.stack import run_pulumi_func

from backend.errors import ConfigError, RegistryError
from infra.command_resources import OptIn, built_image, verified
from infra.engine.pulumi_plugins import need_plugin
from infra.environment import LANES, ComfyEnvironment
from infra.image_build import content_tag, fingerprint
from infra.resources import Endpoint, RegistryCredential, Template
from infra.stack_config import StackConfig
from ops.registry.load import ModelFile

FILES = [
    ModelFile(path=f"a/{n}.bin", volume_path=f"models/a/{n}.bin", source=f"url:https://example.com/{n}")
    for n in range(7)
]


class Answers(pulumi.runtime.Mocks):
    """Gives every resource an id and its inputs back."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outs = {"stdout": "building\nsha256:abc\n"} if args.typ.endswith("Command") else {}
        return f"{args.name}-id", {**args.inputs, **outs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        return {}


class Request(NamedTuple):
    """What the program sent to the engine for one resource, and its inputs as plain values."""

    sent: Any
    inputs: dict[str, Any]


class Recorder(MockMonitor):
    """Keeps what is registered, in its order."""

    def __init__(self) -> None:
        super().__init__(Answers())
        self.created: dict[str, Request] = {}

    def RegisterResource(self, request: Any) -> Any:
        inputs = deserialize_properties(request.object)
        self.created[f"{request.type.rpartition(':')[2]} {request.name}"] = Request(request, inputs)
        try:
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # the SDK's
        finally:
            # The SDK makes a loop for this thread of the pool, except for the stack, and leaves it open.
            with contextlib.suppress(RuntimeError):
                asyncio.get_event_loop().close()
            asyncio.set_event_loop(None)


def declared(program: Callable[[], Any]) -> dict[str, Request]:
    """Run a program to its end and return what it declared, by kind and logical name."""
    recorder = Recorder()

    def run() -> None:
        program()

    async def main() -> None:
        pulumi.runtime.set_mocks(Answers(), project="comfyform", stack="unit", monitor=recorder)
        await run_pulumi_func(run)

    asyncio.run(main())
    return recorder.created


ON_IMAGES = StackConfig(worker_image="me/worker", ops_image="me/ops")


def names(created: dict[str, Request], kind: str) -> list[str]:
    return [key.removeprefix(f"{kind} ") for key in created if key.startswith(f"{kind} ")]


def test_an_environment_has_its_parts_in_order() -> None:
    """Volume, templates, ops endpoint, models, and the GPU endpoint after all models."""
    created = declared(
        lambda: ComfyEnvironment("comfy", StackConfig(), FILES, worker_env={"HF_ENDPOINT": "h"})
    )

    order = list(created)
    assert order.index("Endpoint comfy-ops") > order.index("NetworkVolume comfy-volume")
    assert order.index("Model models/a/0.bin") > order.index("Endpoint comfy-ops")
    assert order[-1] == "Endpoint comfy-worker"
    # Sorted: which of two lanes comes first is the engine's business.
    assert sorted(names(created, "Model")) == sorted(file.volume_path for file in FILES)
    worker = created["Endpoint comfy-worker"].inputs
    assert worker["volume_ids"] == ["comfy-volume-id"]
    assert worker["env"] == {"HF_ENDPOINT": "h", "COMFYFORM_TIMEOUT_S": "900"}
    assert worker["auto_name"] == "comfyform-unit-comfy-worker"
    keeper = created["Endpoint comfy-ops"].inputs
    assert keeper["env"] == {"HF_ENDPOINT": "h", "COMFYFORM_VOLUME_GB": "100"}
    assert keeper["workers_max"] == 1


def test_software_is_on_the_volume_before_the_models_and_the_gpu_endpoint() -> None:
    """Code, then the ops environment, then the generation environment; their hashes reach the endpoints."""
    created = declared(lambda: ComfyEnvironment("comfy", StackConfig(runtime="volume"), FILES))

    order = [
        "NetworkVolume comfy-volume",
        "Endpoint comfy-ops",
        "WorkerCode comfy-code",
        "PythonEnvironment comfy-ops-environment",
        "PythonEnvironment comfy-generation-environment",
        f"Model {FILES[0].volume_path}",
        "Endpoint comfy-worker",
    ]
    assert sorted(order, key=list(created).index) == order
    software = created["WorkerCode comfy-code"].inputs
    ops, generation = (
        created[f"PythonEnvironment comfy-{kind}-environment"] for kind in ("ops", "generation")
    )
    keeper, worker = created["Endpoint comfy-ops"].inputs, created["Endpoint comfy-worker"].inputs
    for endpoint, role, environment in ((keeper, "ops", ops), (worker, "generation", generation)):
        assert re.fullmatch(r"python:\S+@sha256:[0-9a-f]{64}", endpoint["image"])
        assert json.loads(endpoint["args"])["cmd"][:2] == ["python3", "-c"]
        expected = {
            "COMFYFORM_ROLE": role,
            "COMFYFORM_CODE": software["sha256"],
            "COMFYFORM_ENVIRONMENT": environment.inputs["key"],
            "RUNPOD_INIT_TIMEOUT": "800",
        }
        assert expected.items() <= endpoint["env"].items()
        assert endpoint["flashboot"] == "FLASHBOOT"
    assert worker["env"]["COMFYFORM_OPS_ENVIRONMENT"] == ops.inputs["key"]
    for each in (created["WorkerCode comfy-code"], ops, generation):
        assert "comfy-models" in each.sent.provider
        assert each.sent.deletedWith.endswith("::comfy-volume")
    waits = created["Endpoint comfy-worker"].sent.dependencies
    assert any(urn.endswith("::comfy-generation-environment") for urn in waits)


def test_images_need_nothing_on_the_volume() -> None:
    """A stack on images declares no software, and its containers have no start command."""
    created = declared(lambda: ComfyEnvironment("comfy", ON_IMAGES))

    assert names(created, "WorkerCode") + names(created, "PythonEnvironment") == []
    assert created["Endpoint comfy-ops"].inputs["image"] == "me/ops"
    assert created["Endpoint comfy-ops"].inputs.get("args") is None


def test_models_are_made_a_few_lanes_abreast_by_a_process_of_their_own() -> None:
    """Each model waits for the one three before it, so that a worker of the process is always free."""
    created = declared(lambda: ComfyEnvironment("comfy", StackConfig(), FILES))

    for number, file in enumerate(FILES):
        request = created[f"Model {file.volume_path}"].sent
        before = sorted(urn.rpartition("::")[2] for urn in request.dependencies if ":Model::" in urn)
        assert before == ([FILES[number - LANES].volume_path] if number >= LANES else [])
        assert "comfy-models" in request.provider
        assert request.deletedWith.endswith("::comfy-volume")
        urn = f"urn:pulumi:unit::comfyform::comfyform:index:Environment${request.type}::{file.volume_path}"
        assert request.object["urn"] == urn


def test_the_volume_is_protected_unless_the_stack_says_otherwise() -> None:
    """A volume holds what took hours to fetch."""

    def protected(config: StackConfig) -> bool:
        created = declared(lambda: ComfyEnvironment("comfy", config))
        return bool(created["NetworkVolume comfy-volume"].sent.protect)

    assert protected(ON_IMAGES) is True
    assert protected(ON_IMAGES.model_copy(update={"protect_volume": False})) is False


def test_an_endpoint_has_its_templates_fields_as_its_own() -> None:
    """What the template says is declared on the endpoint, and what the endpoint says itself wins."""

    def program() -> None:
        template = Template("t", image="i", env={"A": "1"}, disk_gb=30)
        Endpoint("e", template=template, gpu_pools=["ADA_24"], disk_gb=40)

    inputs = declared(program)["Endpoint e"].inputs

    assert (inputs["image"], inputs["env"], inputs["disk_gb"]) == ("i", {"A": "1"}, 40)


def test_a_password_is_a_secret() -> None:
    """A registry credential's login goes to Pulumi as secrets, whatever the program gave."""
    created = declared(lambda: RegistryCredential("r", username="u", password="p"))

    sent = created["RegistryCredential r"].sent
    assert {"username", "password"} <= set(sent.additionalSecretOutputs)
    assert "4dabf18193072939515e22adb298388d" in sent.object["password"]  # Pulumi's mark of a secret


def test_without_keys_there_is_no_command() -> None:
    """Nobody who does not ask for commands needs their package or plugin."""
    requested = OptIn.parse({"comfyform:volume_gb": "10"})

    requested.check()
    assert requested == OptIn()
    created = declared(lambda: ComfyEnvironment("comfy", StackConfig()))
    assert names(created, "Command") == []


def test_a_built_image_reaches_the_template_by_its_digest(tmp_path: Path) -> None:
    """The push's digest, not a tag that may move, is what workers run."""
    requested = OptIn.parse({"worker:build": "ghcr.io/me/worker"})

    def program() -> None:
        images = {name: built_image(name, where, tmp_path) for name, where in requested.build.items()}
        ComfyEnvironment("comfy", StackConfig(), images=images)

    for part in ("backend", "ops", "worker"):
        (tmp_path / part).mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    created = declared(program)

    assert created["Template comfy-worker"].inputs["image"] == "ghcr.io/me/worker@sha256:abc"
    assert created["Endpoint comfy-worker"].inputs["image"] == "ghcr.io/me/worker@sha256:abc"
    command = created["Command worker-image"].inputs
    tag = content_tag(tmp_path)
    assert command["create"] == f"python3 -m infra.image_build worker ghcr.io/me/worker {tag}"
    assert command["triggers"] == [f"ghcr.io/me/worker:{tag}"]


def test_a_verify_command_runs_after_the_stack_with_its_variables(tmp_path: Path) -> None:
    """It gets what `inv env` prints, and runs again when that changes."""

    def program() -> None:
        created = ComfyEnvironment("comfy", StackConfig())
        verified("make smoke", tmp_path, after=[created.endpoint], environment=created.backend_env)

    request = declared(program)["Command verify"]

    assert request.inputs["create"] == "make smoke"
    assert request.inputs["environment"]["RUNPOD_ENDPOINT_ID"] == "comfy-worker-id"
    assert request.inputs["triggers"] == [request.inputs["environment"]]
    assert any("comfy-worker" in urn for urn in request.sent.dependencies)


def test_a_repository_with_a_tag_is_refused() -> None:
    """The digest is the version; a tag beside it would be a second one. A port is not a tag."""
    with pytest.raises(RegistryError, match="without a tag or digest, got 'ghcr"):
        StackConfig.parse({"ops:build": "ghcr.io/me/ops:1"}, "Pulumi.dev.yaml")

    assert OptIn.parse({"ops:build": "localhost:5000/ops"}).build == {"ops": "localhost:5000/ops"}


def test_a_missing_plugin_says_how_to_get_it(tmp_path: Path) -> None:
    """Where the engine may not fetch plugins, its absence is said with the command that installs it."""
    environ = {"PATH": str(tmp_path), "PULUMI_HOME": str(tmp_path)}
    off = {**environ, "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}

    with pytest.raises(ConfigError, match=r"pulumi plugin install resource command v1\.2\.1"):
        need_plugin("command", "1.2.1", wanted_by="worker:build", environ=off)

    need_plugin("command", "1.2.1", wanted_by="worker:build", environ=environ)
    folder = tmp_path / "plugins" / "resource-command-v1.2.1"
    folder.mkdir(parents=True)
    (folder / "pulumi-resource-command").touch()
    need_plugin("command", "1.2.1", wanted_by="worker:build", environ=off)


def test_a_fingerprint_follows_content_and_names_only(tmp_path: Path) -> None:
    """What an image ships decides whether it is built again; compiled leftovers do not."""
    source = tmp_path / "ops"
    (source / "__pycache__").mkdir(parents=True)
    (source / "a.py").write_text("1")
    before = fingerprint([source])

    (source / "__pycache__" / "a.pyc").write_text("x")
    assert fingerprint([source]) == before
    (source / "a.py").write_text("2")
    changed = fingerprint([source])
    (source / "a.py").rename(source / "b.py")

    assert len({before, changed, fingerprint([source])}) == 3
