"""Every field of every resource, on the real engine: changed in the program, changed in the console.

The table says what each change must be, an update or a replacement. Each row has a resource of its
own, so that all of them share the runs of the engine; the emulator is RunPod.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from pulumi.dynamic import ResourceProvider

from infra import provider_session, providers
from ops.runpod.serialize import reading
from ops.runpod.specs import (
    EndpointSpec,
    NetworkVolumeSpec,
    RegistryCredentialSpec,
    Spec,
    TemplateSpec,
    wires,
)
from tests.support.emulation import TESTS, Emulator
from tests.support.pulumi_project import Project, project

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


class Start(NamedTuple):
    """A resource as it is at first, and what becomes of its fields.

    Attributes:
        path: of its collection at RunPod.
    """

    kind: str
    path: str
    spec: type[Spec]
    fields: dict[str, Any]
    cases: list[Case]


TABLE = [
    Start("NetworkVolume", "network-volumes", NetworkVolumeSpec, VOLUME, VOLUME_CASES),
    Start("Template", "templates", TemplateSpec, TEMPLATE, TEMPLATE_CASES),
    Start("Endpoint", "serverless", EndpointSpec, GPU, GPU_CASES),
    Start("Endpoint", "serverless", EndpointSpec, CPU, CPU_CASES),
    Start("RegistryCredential", "registries", RegistryCredentialSpec, CREDENTIAL, CREDENTIAL_CASES),
]


class Row(NamedTuple):
    """A case with a resource of its own, so that all cases share a run of the engine."""

    start: Start
    case: Case

    @property
    def name(self) -> str:
        """Its logical name, unique in the program and at RunPod."""
        return f"{self.start.fields['name']}-{self.case.field}"

    def declared(self, *, changed: bool) -> list[Any]:
        """Return the entry of the program."""
        fields = {**self.start.fields, "name": self.name}
        if changed:
            value = f"{self.name}-{self.case.value}" if self.case.field == "name" else self.case.value
            fields |= {self.case.field: value, **self.case.beside}
        return [self.start.kind, self.name, fields]


ROWS = [Row(start, case) for start in TABLE for case in start.cases]
GROWING = "v-size_gb"
EDITED = [row for row in ROWS if row.case.edit is not None]


def with_ids(emu: Emulator, value: Any) -> Any:
    """Put the ids of real objects where the table has only a word."""
    created = {
        "CREDENTIAL": ("/registries", {"name": "z", "username": "u", "password": "p"}),
        "TEMPLATE": ("/templates", {"name": "z", "image": "echo", "serverless": True}),
        "VOLUME": ("/network-volumes", {"name": "z", "size": 10, "dataCenter": "EU-RO-1"}),
    }
    if isinstance(value, list):
        return [with_ids(emu, each) for each in value]
    if isinstance(value, dict):
        return {key: with_ids(emu, each) for key, each in value.items()}
    if isinstance(value, str) and value in created:
        path, body = created[value]
        return emu.rest("POST", path, body).json()["id"]
    return value


class Table:
    """The table as a Pulumi program."""

    def __init__(self, infra: Project, emu: Emulator) -> None:
        self.infra, self.emu = infra, emu
        self.folder = infra.root / "infra"
        shutil.copyfile(TESTS / "fields_program.py", self.folder / "__main__.py")
        self.fields: dict[str, dict[str, Any]] = {}

    def declare(self, *, changed: bool = False, size_gb: int = 10) -> None:
        """Write down the program: the rows at first or changed, and the size of the volume that grows."""
        entries = [with_ids(self.emu, row.declared(changed=changed)) for row in ROWS]
        for _, name, fields in entries:
            if name == GROWING:
                fields["size_gb"] = size_gb
        self.fields = {name: fields for _, name, fields in entries}
        (self.folder / "resources.json").write_text(json.dumps(entries))

    def ids(self) -> dict[str, str]:
        """Return the ids in the state, by row."""
        return {name: each["id"] for name, each in self.infra.resources().items()}

    def live(self) -> dict[str, Any]:
        """Return what RunPod shows, by row."""
        ids = self.ids()
        return {row.name: self.emu.rest("GET", f"/{row.start.path}/{ids[row.name]}").json() for row in ROWS}

    def planned(self) -> dict[str, dict[str, Any]]:
        """Preview, and return the step of each row."""
        steps = json.loads(self.infra.pulumi("preview", "--json").stdout)["steps"]
        return {step["urn"].rpartition("::")[2]: step for step in steps}

    def drift(self) -> dict[str, list[str]]:
        """Refresh, and return the properties that it names, by row."""
        output = self.infra.pulumi("refresh", "--yes", "--skip-preview", "--diff").stdout
        return {
            block.partition("]")[0].rpartition("::")[2]: re.findall(
                r"^ {6}[~+-] (\w+) *:", block, re.MULTILINE
            )
            for block in re.split(r"\[urn=", output)[1:]
        }


@pytest.mark.slow
def test_every_field_on_the_engine(emu: Emulator, tmp_path: Path) -> None:
    """A console edit is named drift that up mends; a change is what the table says, and then all is quiet."""
    emu.set(worker_quota=1000)
    with project(tmp_path / "project", emu) as infra:
        table = Table(infra, emu)
        table.declare()
        infra.up()
        first, ids = table.live(), table.ids()

        for row in EDITED:
            edited = emu.rest("PATCH", f"/{row.start.path}/{ids[row.name]}", row.case.edit)
            assert edited.status_code == 200, edited.text
        drift = table.drift()
        assert {name: named for name, named in drift.items() if named} == {
            row.name: [row.case.field] for row in EDITED
        }
        # What has grown cannot shrink again, so the program follows.
        table.declare(size_gb=30)
        infra.up()
        assert table.live() == {**first, GROWING: {**first[GROWING], "size": 30}}

        table.declare(changed=True, size_gb=40)
        planned = table.planned()
        assert {row.name: planned[row.name]["op"] for row in ROWS} == {
            row.name: row.case.kind for row in ROWS
        }
        for row in ROWS:
            assert row.case.field in reasons(planned[row.name])
        infra.up()

        after, ids_after = table.live(), table.ids()
        for row in ROWS:
            assert (ids[row.name] != ids_after[row.name]) == (row.case.kind == REPLACE), row.name
            shown = reading(row.start.spec, after[row.name])
            if not wires(row.start.spec)[row.case.field].secret:
                assert shown[row.case.field] == table.fields[row.name][row.case.field]
        infra.up("--expect-no-changes")
        infra.pulumi("destroy", "--yes", "--skip-preview")
    state = emu.state()
    left = [
        each["name"] for kind in ("volumes", "templates", "endpoints", "registries") for each in state[kind]
    ]
    assert set(left) == {"z"}


def reasons(step: dict[str, Any]) -> set[str]:
    """Return the fields that a step of a preview is about."""
    if step["op"] == REPLACE:
        return set(step["replaceReasons"])
    old, new = step["oldState"]["inputs"], step["newState"]["inputs"]
    return {name for name in new if new[name] != old.get(name)}


@pytest.fixture
def _runpod(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in emu.env.items():
        monkeypatch.setenv(name, value)
    yield
    provider_session.http().close()


def checked(provider: ResourceProvider, news: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that pass the provider's check."""
    result = provider.check({}, news)
    assert [(each.property, each.reason) for each in result.failures] == []
    return dict(result.inputs)


@pytest.mark.usefixtures("_runpod")
@pytest.mark.parametrize("start", TABLE, ids=[f"{start.kind}-{start.fields['name']}" for start in TABLE])
def test_gone_is_gone(emu: Emulator, start: Start) -> None:
    """What somebody deleted reads as gone, and deleting it again is success."""
    provider = getattr(providers, f"{start.kind}Provider")()
    created = provider.create(checked(provider, start.fields))
    emu.rest("DELETE", f"/{start.path}/{created.id}")

    assert provider.read(created.id, created.outs).id == ""
    provider.delete(created.id, created.outs)


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
def test_adopting_by_id(emu: Emulator) -> None:
    """A resource made in the console is taken over, brought to the program's values, and not made again."""
    console = emu.rest(
        "POST", "/network-volumes", {"name": "mine", "size": 10, "dataCenter": "EU-RO-1"}
    ).json()
    provider = providers.NetworkVolumeProvider()

    created = provider.create(checked(provider, {**VOLUME, "size_gb": 20, "adopt": console["id"]}))

    (volume,) = emu.state()["volumes"]
    assert (created.id, volume["id"], volume["size"], volume["name"]) == (
        console["id"],
        console["id"],
        20,
        "v",
    )
