"""Every field of every resource: changed in the program, changed in the console, read back.

The table says what each change must be, an update or a replacement. Providers
are called as the engine calls them, with its floats; the emulator is RunPod.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from pulumi.dynamic import ResourceProvider

from infra import providers, session
from ops.runpod_specs import EndpointSpec, NetworkVolumeSpec, RegistryCredentialSpec, TemplateSpec, wires
from tests.emulation import Emulator

UPDATE, REPLACE = "update", "replace"


class Case(NamedTuple):
    """A field, what it becomes in the program, what that must be, and a console edit of it.

    Attributes:
        edit: a PATCH body; None where RunPod's console cannot change it either.
        beside: other fields that must change with it.
    """

    field: str
    value: Any
    kind: str
    edit: dict[str, Any] | None = None
    beside: Mapping[str, Any] = MappingProxyType({})


VOLUME = {"name": "v", "size_gb": 10, "data_center": "EU-RO-1", "type": "STANDARD"}
VOLUME_CASES = [
    Case("name", "w", UPDATE, {"name": "x"}),
    Case("size_gb", 20, UPDATE, {"size": 30}),
    Case("data_center", "US-KS-2", REPLACE),
    Case("type", "HIGH_PERFORMANCE", REPLACE, beside={"data_center": "US-KS-2"}),
]
TEMPLATE = {
    "name": "t",
    "image": "echo",
    "env": {"A": "1"},
    "mount_gb": 10,
    "mount_path": "/m",
    "serverless": False,
}
TEMPLATE_CASES = [
    Case("name", "u", UPDATE, {"name": "x"}),
    Case("image", "crash", UPDATE, {"image": "other"}),
    Case("args", "--x", UPDATE, {"args": "--y"}),
    Case("disk_gb", 30, UPDATE, {"disk": 40}),
    Case("env", {"A": "2", "B": "3"}, UPDATE, {"env": {}}),
    Case("ports", ["8000/http"], UPDATE, {"ports": ["9000/http"]}),
    Case("registry_id", "CREDENTIAL", UPDATE),
    Case("serverless", True, UPDATE, beside={"mount_gb": None, "mount_path": None}),
    Case("public", True, UPDATE, {"public": True}),
    Case("category", "AMD", UPDATE, {"category": "CPU"}),
    Case("start_ssh", True, UPDATE, {"startSsh": True}),
    Case("start_jupyter", True, UPDATE, {"startJupyter": True}),
    Case("allowed_cuda_versions", ["12.8"], UPDATE, {"allowedCudaVersions": ["12.4"]}),
    Case("mount_gb", 20, UPDATE, {"mounts": {"persistent": {"size": 30, "path": "/m"}}}),
    Case("mount_path", "/n", UPDATE, {"mounts": {"persistent": {"size": 10, "path": "/o"}}}),
]
GPU = {"name": "e", "image": "echo", "gpu_pools": ["AMPERE_48"], "workers_max": 1}
QUEUE = {"scaling": {"type": "QUEUE_DELAY", "queueDelay": 9}}
GPU_CASES = [
    Case("name", "f", UPDATE, {"name": "x"}),
    Case("type", "LOAD_BALANCER", REPLACE),
    Case("template_id", "TEMPLATE", UPDATE),
    Case("image", "crash", UPDATE, {"image": "other"}),
    Case("args", "--x", UPDATE, {"args": "--y"}),
    Case("disk_gb", 30, UPDATE, {"disk": 40}),
    Case("env", {"A": "{{ RUNPOD_SECRET_a }}"}, UPDATE, {"env": {"B": "1"}}),
    Case("ports", ["8000/http"], UPDATE, {"ports": ["9000/http"]}),
    Case("registry_id", "CREDENTIAL", UPDATE),
    Case("gpu_pools", ["ADA_24", "AMPERE_48"], UPDATE, {"gpu": {"pools": ["ADA_24"]}}),
    Case("gpu_excluded_types", ["NVIDIA A40"], UPDATE,
         {"gpu": {"pools": ["AMPERE_48"], "excludedTypes": ["NVIDIA RTX A6000"]}}),
    Case("gpu_count", 2, UPDATE, {"gpu": {"count": 2}}),
    Case("allowed_cuda_versions", ["12.8"], UPDATE, {"gpu": {"allowedCudaVersions": ["12.4"]}}),
    Case("min_cuda_version", "12.4", UPDATE, {"gpu": {"minCudaVersion": "12.1"}}),
    Case("cpu", [{"id": "cpu3c", "vcpu_count": 2}], REPLACE, beside={"gpu_pools": None}),
    Case("workers_min", 1, UPDATE, {"workers": {"min": 1}}),
    Case("workers_max", 2, UPDATE, {"workers": {"max": 3}}),
    Case("idle_timeout_s", 30, UPDATE, {"workers": {"idleTimeout": 40}}),
    Case("queue_delay_s", 2.5, UPDATE, QUEUE),
    Case("request_count", 2, UPDATE),
    Case("data_centers", ["EU-RO-1"], UPDATE, {"dataCenterIds": ["EU-CZ-1"]}),
    Case("volume_ids", ["VOLUME"], UPDATE),
    Case("timeout_s", 60, UPDATE, {"timeout": 90_000}),
    Case("flashboot", "FLASHBOOT", UPDATE, {"flashboot": "PRIORITY_FLASHBOOT"}),
]  # fmt: skip
CPU = {"name": "c", "image": "echo", "cpu": [{"id": "cpu3c", "vcpu_count": 2}], "workers_max": 1}
CPU_CASES = [
    Case("cpu", [{"id": "cpu3c", "vcpu_count": 4}, {"id": "cpu5c", "vcpu_count": 2}], UPDATE,
         {"cpu": [{"id": "cpu5c", "vcpuCount": 8}]}),
    Case("gpu_pools", ["ADA_24"], REPLACE, beside={"cpu": None}),
]  # fmt: skip
CREDENTIAL = {"name": "r", "username": "u", "password": "p"}
CREDENTIAL_CASES = [
    Case("name", "s", REPLACE),
    Case("username", "v", REPLACE),
    Case("password", "q", REPLACE),
]
Start = tuple[str, type[ResourceProvider], dict[str, Any], list[Case]]
TABLE: list[Start] = [
    ("network-volumes", providers.NetworkVolumeProvider, VOLUME, VOLUME_CASES),
    ("templates", providers.TemplateProvider, TEMPLATE, TEMPLATE_CASES),
    ("serverless", providers.EndpointProvider, GPU, GPU_CASES),
    ("serverless", providers.EndpointProvider, CPU, CPU_CASES),
    ("registries", providers.RegistryCredentialProvider, CREDENTIAL, CREDENTIAL_CASES),
]
ROWS = [(path, made, start, case) for path, made, start, cases in TABLE for case in cases]
ROW_IDS = [f"{path}-{start['name']}-{case.field}" for path, _, start, case in ROWS]


@pytest.fixture
def _runpod(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in emu.env.items():
        monkeypatch.setenv(name, value)
    yield
    session.http().close()


def as_engine(value: Any) -> Any:
    """Give a value as it arrives in a provider: numbers are floats, and keys without a value are gone."""
    if isinstance(value, dict):
        return {key: as_engine(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [as_engine(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def checked(provider: ResourceProvider, olds: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    """Give the inputs that pass the provider's check."""
    result = provider.check(olds, as_engine(news))
    assert [(each.property, each.reason) for each in result.failures] == []
    inputs: dict[str, Any] = as_engine(result.inputs)
    return inputs


def with_ids(emu: Emulator, values: dict[str, Any]) -> dict[str, Any]:
    """Put real ids where the table has only a word."""
    made = {
        "CREDENTIAL": ("/registries", {"name": "z", "username": "u", "password": "p"}),
        "TEMPLATE": ("/templates", {"name": "z", "image": "echo", "serverless": True}),
        "VOLUME": ("/network-volumes", {"name": "z", "size": 10, "dataCenter": "EU-RO-1"}),
    }

    def real(value: Any) -> Any:
        if isinstance(value, list):
            return [real(each) for each in value]
        if isinstance(value, str) and value in made:
            path, body = made[value]
            return emu.rest("POST", path, body).json()["id"]
        return value

    return {name: real(value) for name, value in values.items()}


@pytest.mark.usefixtures("_runpod")
@pytest.mark.parametrize(("path", "provider_class", "start", "case"), ROWS, ids=ROW_IDS)
def test_a_change_in_the_program(
    emu: Emulator, path: str, provider_class: type[ResourceProvider], start: dict[str, Any], case: Case
) -> None:
    """A changed field updates or replaces as the table says, RunPod has it afterwards, and it stays quiet."""
    provider = provider_class()
    olds = checked(provider, {}, start)
    made = provider.create(olds)
    outs = as_engine(made.outs)
    assert provider.diff(made.id, outs, olds).changes is False

    changed = with_ids(emu, {**start, case.field: case.value, **case.beside})
    news = checked(provider, olds, changed)
    diff = provider.diff(made.id, outs, news)
    assert diff.changes is True
    assert (REPLACE if diff.replaces else UPDATE) == case.kind

    if case.kind == REPLACE:
        old = made
        if diff.delete_before_replace:
            provider.delete(old.id, outs)
        made = provider.create(news)
        if not diff.delete_before_replace:
            provider.delete(old.id, outs)
        assert made.id != old.id
        after = as_engine(made.outs)
    else:
        after = as_engine(provider.update(made.id, outs, news).outs)
    assert provider.diff(made.id, after, news).changes is False
    read = provider.read(made.id, after)
    assert as_engine(read.outs) == after
    assert provider.diff(made.id, as_engine(read.outs), news).changes is False
    assert emu.rest("GET", f"/{path}/{made.id}").status_code == 200


EDITS = [(path, made, start, case) for path, made, start, case in ROWS if case.edit is not None]


@pytest.mark.usefixtures("_runpod")
@pytest.mark.parametrize(
    ("path", "provider_class", "start", "case"),
    EDITS,
    ids=[f"{path}-{start['name']}-{case.field}" for path, _, start, case in EDITS],
)
def test_an_edit_in_the_console(
    emu: Emulator, path: str, provider_class: type[ResourceProvider], start: dict[str, Any], case: Case
) -> None:
    """An edit shows as that field when it is read back, among inputs too, and the next update mends it."""
    provider = provider_class()
    inputs = checked(provider, {}, start)
    made = provider.create(inputs)
    outs = as_engine(made.outs)
    edited = emu.rest("PATCH", f"/{path}/{made.id}", case.edit)
    assert edited.status_code == 200, edited.text

    read = provider.read(made.id, outs)
    assert read.outs is not None
    assert read.inputs is not None
    live, seen = as_engine(read.outs), as_engine(read.inputs)
    declared = {**inputs, **seen}
    assert [name for name in inputs if inputs[name] != declared[name]] == [case.field]

    if (path, case.field) == ("network-volumes", "size_gb"):
        refused = provider.check(seen, inputs).failures
        assert "only grows volumes" in refused[0].reason
        return
    assert provider.diff(made.id, live, inputs).changes is True
    mended = as_engine(provider.update(made.id, live, inputs).outs)
    assert mended == outs


@pytest.mark.parametrize(
    ("spec", "cases"),
    [
        (NetworkVolumeSpec, VOLUME_CASES),
        (TemplateSpec, TEMPLATE_CASES),
        (EndpointSpec, GPU_CASES),
        (RegistryCredentialSpec, CREDENTIAL_CASES),
    ],
)
def test_the_table_is_complete(spec: Any, cases: list[Case]) -> None:
    """No field of any resource is missing from the table."""
    assert sorted(case.field for case in cases) == sorted(wires(spec))


@pytest.mark.usefixtures("_runpod")
@pytest.mark.parametrize(("path", "provider_class", "start"), [row[:3] for row in TABLE])
def test_gone_is_gone(
    emu: Emulator, path: str, provider_class: type[ResourceProvider], start: dict[str, Any]
) -> None:
    """What somebody deleted reads as gone, and deleting it again is success."""
    provider = provider_class()
    made = provider.create(checked(provider, {}, start))
    emu.rest("DELETE", f"/{path}/{made.id}")

    assert provider.read(made.id, as_engine(made.outs)).id == ""
    provider.delete(made.id, as_engine(made.outs))


@pytest.mark.usefixtures("_runpod")
def test_adopting_by_id(emu: Emulator) -> None:
    """A resource made in the console is taken over, brought to the program's values, and not made again."""
    console = emu.rest(
        "POST", "/network-volumes", {"name": "mine", "size": 10, "dataCenter": "EU-RO-1"}
    ).json()
    provider = providers.NetworkVolumeProvider()

    made = provider.create(checked(provider, {}, {**VOLUME, "size_gb": 20, "adopt": console["id"]}))

    (volume,) = emu.state()["volumes"]
    assert (made.id, volume["id"], volume["size"], volume["name"]) == (console["id"], console["id"], 20, "v")
