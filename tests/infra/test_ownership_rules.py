"""The pure rules of ownership, and of the configuration that takes an environment over."""

from __future__ import annotations

from typing import Any

import pytest

from backend.errors import ConfigError
from infra.cli.import_plan import OPS, VOLUME, WORKER, assignments, propose
from infra.naming import is_named_after
from infra.ownership import Entry, StackState, creation_name
from infra.providers import NetworkVolumeProvider
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, Kind, Live

PROVIDER = "urn:pulumi:dev::p::pulumi:providers:pulumi-python::default"


def entry(urn: str, id_: str, **more: Any) -> dict[str, Any]:
    return {"urn": urn, "id": id_, "type": "pulumi-python:dynamic/runpod:Template", "custom": True, **more}


def test_a_state_says_who_has_what() -> None:
    """The provider's id is the identity; read resources and components own nothing."""
    state = StackState.parse(
        {
            "resources": [
                {"urn": PROVIDER, "id": "identity", "type": "pulumi:providers:pulumi-python", "custom": True},
                {"urn": "urn:component", "type": "a:b:C", "custom": False},
                entry("urn:a", "1", delete=True),
                entry("urn:a", "2"),
                entry("urn:b", "1"),
                entry("urn:c", "3", external=True),
            ]
        }
    )

    assert state.identity == "identity"
    assert state.ids() == {"identity", "1", "2"}
    assert (state.current("urn:a"), state.current("urn:nothing")) == ("2", "")
    first, second = Entry("urn:a", "1", replaced=True), Entry("urn:b", "1")
    assert state.holders("1") == [first, second]
    assert state.holders("1", but={first}) == [second]
    assert StackState.parse({}).identity is None


def test_the_name_is_that_of_one_creation() -> None:
    """Each attempt at a creation gives the same name; another state, resource or replacement another one."""
    one = creation_name("p-dev-t", "identity", "urn:a", "")

    assert one == creation_name("p-dev-t", "identity", "urn:a", "")
    others = {
        creation_name("p-dev-t", "other", "urn:a", ""),
        creation_name("p-dev-t", "identity", "urn:b", ""),
        creation_name("p-dev-t", "identity", "urn:a", "1"),
    }
    assert len(others | {one}) == 4
    assert all(is_named_after(name, "p-dev-t") for name in (*others, one, "p-dev-t"))
    assert not any(is_named_after(name, "p-dev-t") for name in ("p-dev-t-x", "p-dev-t-abcdef-1", "xp-dev-t"))


def test_a_new_address_gets_a_name_and_an_old_one_keeps_its_own() -> None:
    """A chosen name wins; without one, what the state has stays, also a name without digits."""
    provider = NetworkVolumeProvider()
    volume = {"size_gb": 10, "data_center": "EU-RO-1"}

    def name(olds: dict[str, Any], **news: Any) -> Any:
        result = provider.check({**volume, **olds} if olds else {}, {**volume, "auto_name": "base", **news})
        assert result.failures == []
        return result.inputs["name"]

    assert name({"name": "old"}) == "old"
    assert name({"name": "console", "auto_name": "base-123456"}) == "base-123456"
    assert name({"name": "old"}, name="chosen") == "chosen"
    assert name({"name": "chosen"}, adopt="") == "chosen"


def live(kind: Kind[Any], id_: str, **values: Any) -> Live[Any]:
    return Live(kind, id_, {"name": id_, **values}, {})


ACCOUNT = {
    "network-volumes": (
        live(NETWORK_VOLUMES, "v1", size_gb=50, data_center="EU-CZ-1"),
        live(NETWORK_VOLUMES, "v2", size_gb=10, data_center="EU-RO-1"),
    ),
    "serverless": (
        live(
            ENDPOINTS,
            "ops",
            cpu=[{"id": "cpu5c", "vcpu_count": 4}],
            volume_ids=["v1"],
            image="o",
            workers_max=1,
        ),
        live(
            ENDPOINTS,
            "gpu",
            gpu_pools=["ADA_24"],
            volume_ids=["v1"],
            image="w",
            registry_id="r",
            workers_max=5,
        ),
        live(ENDPOINTS, "elsewhere", gpu_pools=["ADA_24"], volume_ids=["v2"], image="w", workers_max=1),
    ),
    "templates": (live(TEMPLATES, "t1", image="w"), live(TEMPLATES, "t2", image="x")),
    "registries": (live(REGISTRY_CREDENTIALS, "r"), live(REGISTRY_CREDENTIALS, "s")),
}
NOTHING = {VOLUME: "", OPS: "", WORKER: ""}


def test_an_environment_is_found_by_its_volume() -> None:
    """Endpoints are those on the volume, templates those of their images, the login the one that they use."""
    found = propose(ACCOUNT, {}, {**NOTHING, VOLUME: "v1"})

    assert {role: each.id for role, each in found.chosen.items()} == {
        VOLUME: "v1",
        OPS: "ops",
        WORKER: "gpu",
        "worker_template": "t1",
        "registry_credential": "r",
    }
    keys = found.keys()
    assert (keys["data_center"], keys["volume_gb"], keys["workers_max"]) == ("EU-CZ-1", "50", "5")
    assert (keys["gpu_pools"], keys["ops_cpu"], keys["ops_vcpus"]) == (["ADA_24"], "cpu5c", "4")
    assert "gpu_pools[0]=ADA_24" in assignments(keys)


def test_what_a_state_has_is_not_proposed_and_what_is_unclear_is_said() -> None:
    """Two volumes are a choice of the user; one that a stack has is none."""
    assert propose(ACCOUNT, {}, NOTHING).chosen == {}
    assert "--volume" in propose(ACCOUNT, {}, NOTHING).notes[0]
    assert propose(ACCOUNT, {"dev": {"v2"}}, NOTHING).chosen[VOLUME].id == "v1"
    with pytest.raises(
        ConfigError, match=r"--ops-endpoint 'x' was not found at RunPod\. The account has ops"
    ):
        propose(ACCOUNT, {}, {**NOTHING, OPS: "x"})
