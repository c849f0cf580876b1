"""What a preview refuses, on what RunPod has and the account holds; the catalog is the emulator's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backend.errors import ConfigError
from backend.flow.http_driver import Http
from backend.settings import Secret
from infra.naming import endpoint_urn, object_name
from infra.ownership import Entry, StackState, creation_name
from infra.preflight import preflight
from infra.refusals import SeveralRefusals
from infra.stack_config import StackConfig
from ops.runpod.api import RunPodApi
from tests.support.emulation import Emulator


@pytest.fixture
def api(emu: Emulator) -> Iterator[RunPodApi]:
    with Http() as http:
        yield RunPodApi(http, emu.url("rest"), Secret(emu.env["RUNPOD_API_KEY"]))


def volume(emu: Emulator, name: str, data_center: str = "EU-RO-1", **more: Any) -> str:
    """Make a volume, and return its id."""
    body = {"name": name, "size": 10, "dataCenter": data_center, **more}
    return str(emu.rest("POST", "/network-volumes", body).json()["id"])


def endpoint(emu: Emulator, name: str, workers_max: int) -> str:
    """Make a GPU endpoint, and return its id."""
    emu.set(worker_quota=100)
    answer = emu.rest(
        "POST",
        "/serverless",
        {
            "name": name,
            "type": "QUEUE",
            "image": "echo",
            "gpu": {"pools": ["ADA_24"]},
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "workers": {"min": 0, "max": workers_max},
        },
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"gpu_pools": ["ADA_42"]}, "no GPU pool 'ADA_42'"),
        ({"ops_vcpus": 64}, "not 64"),
        ({"ops_cpu": "cpu9"}, "no CPU flavor 'cpu9'"),
    ],
)
@pytest.mark.parametrize(
    "name", ["comfyform-dev-comfy-volume", "comfyform-dev-comfy-volume-0a1b2c", "adopted"]
)
def test_hardware_is_judged_also_where_the_volume_exists(
    emu: Emulator, api: RunPodApi, name: str, wrong: dict[str, Any], problem: str
) -> None:
    """What RunPod has nowhere is refused; the place of a volume that exists is not judged again."""
    id_ = volume(emu, name)
    adopt = {"adopt_volume": id_} if name == "adopted" else {}

    with pytest.raises(ConfigError, match=problem):
        preflight(api, StackConfig(**{**wrong, **adopt}), "comfyform", "dev")


def test_the_place_of_a_volume_that_exists_is_settled(emu: Emulator, api: RunPodApi) -> None:
    """Where RunPod makes no volumes any more refuses a new volume, and is a warning for one that exists."""
    config = StackConfig(data_center="EU-CZ-1")
    volume(emu, "comfyform-dev-b-comfy-volume", "EU-CZ-1")  # another stack's
    id_ = volume(emu, "comfyform-dev-comfy-volume", "EU-CZ-1")
    centers = emu.rest("GET", "/catalog/datacenters").json()
    for center in centers["dataCenters"]:
        if center["id"] == "EU-CZ-1":
            center["networkVolumeTypes"] = []
    emu.fault("/rest/v2/catalog/datacenters", method="GET", times=2, status=200, body=centers)

    message = preflight(api, config, "comfyform", "dev").warnings
    assert any("EU-CZ-1 hosts no network volumes" in each for each in message)

    emu.rest("DELETE", f"/network-volumes/{id_}")
    with pytest.raises(ConfigError, match="EU-CZ-1 hosts no network volumes"):
        preflight(api, config, "comfyform", "dev")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (StackConfig(data_center="EUR-IS-3", transport="s3"), "no S3 endpoint"),
        (StackConfig(data_center="EUR-IS-3", volume_type="HIGH_PERFORMANCE"), "has no HIGH_PERFORMANCE"),
    ],
)
def test_what_an_existing_volume_does_not_settle(
    emu: Emulator, api: RunPodApi, config: StackConfig, problem: str
) -> None:
    """S3 where there is none, and another tier, for which the volume would be replaced."""
    volume(emu, "comfyform-dev-comfy-volume", "EUR-IS-3")

    with pytest.raises(ConfigError, match=problem):
        preflight(api, config, "comfyform", "dev")


@pytest.mark.parametrize(
    "other", ["comfyform-a-b-comfy-worker", "comfyform-b-comfy-worker", "comfyform-a-comfy-worker2"]
)
def test_the_quota_counts_what_only_begins_like_our_names(emu: Emulator, api: RunPodApi, other: str) -> None:
    """Workers of stack `a-b` are not those of stack `a`."""
    endpoint(emu, other, 3)
    config = StackConfig(workers_max=3, worker_quota=5)

    with pytest.raises(ConfigError, match="other endpoints 3, together 7: the quota is 5"):
        preflight(api, config, "comfyform", "a")


def test_the_quota_leaves_our_own_endpoints_out(emu: Emulator, api: RunPodApi) -> None:
    """With or without the suffix of one creation."""
    endpoint(emu, "comfyform-a-comfy-worker", 3)
    endpoint(emu, "comfyform-a-comfy-ops-0a1b2c", 1)

    preflight(api, StackConfig(workers_max=3, worker_quota=5), "comfyform", "a")


def test_the_quota_counts_endpoints_of_another_state_with_the_same_name(
    emu: Emulator, api: RunPodApi
) -> None:
    """The ids of the state tell which are the stack's own."""
    own = endpoint(emu, "comfyform-a-comfy-worker-0a1b2c", 3)
    state = StackState("identity", frozenset({Entry("urn", own)}))
    config = StackConfig(workers_max=3, worker_quota=7)
    preflight(api, config, "comfyform", "a", read_state=lambda: state)

    endpoint(emu, "comfyform-a-comfy-worker-ffffff", 4)
    with pytest.raises(ConfigError, match="other endpoints 4, together 8: the quota is 7"):
        preflight(api, config, "comfyform", "a", read_state=lambda: state)

    unlimited = StackConfig(workers_max=3)
    warnings = preflight(api, unlimited, "comfyform", "a", read_state=lambda: state).warnings
    assert any("the account's other endpoints 4. RunPod tells" in each for each in warnings)


def test_the_quota_does_not_count_what_a_killed_create_left(emu: Emulator, api: RunPodApi) -> None:
    """The next attempt at the same creation takes it over: its name can only be from this state."""
    base, urn = object_name("comfyform", "a", "comfy-worker"), endpoint_urn("comfyform", "a", "comfy-worker")
    endpoint(emu, creation_name(base, "identity", urn, ""), 3)
    state = StackState("identity", frozenset())

    config = StackConfig(workers_max=3, worker_quota=4)
    preflight(api, config, "comfyform", "a", read_state=lambda: state)


def test_the_tier_that_is_made_is_priced(emu: Emulator, api: RunPodApi) -> None:
    """Without `volume_type` a volume gets its data center's first tier, here one without a price."""
    config = StackConfig(data_center="US-KS-2")
    (unpriced,) = preflight(api, config, "comfyform", "dev").cost.unpriced
    assert "HIGH_PERFORMANCE" in unpriced.sentence

    with pytest.raises(ConfigError, match="A HIGH_PERFORMANCE volume costs more than the"):
        preflight(api, config.model_copy(update={"budget_usd_per_month": 100}), "comfyform", "dev")
    known = config.model_copy(update={"budget_usd_per_month": 14, "volume_usd_per_gb_month": 0.14})
    assert preflight(api, known, "comfyform", "dev").cost.usd_per_month == pytest.approx(14)

    volume(emu, "comfyform-dev-comfy-volume", "US-KS-2", type="STANDARD")
    assert preflight(api, config, "comfyform", "dev").cost.unpriced == ()


def test_everything_that_is_refused_is_reported_together(emu: Emulator, api: RunPodApi) -> None:
    """Hardware, what is to be adopted, the quota and the budget; each with its own hint."""
    id_ = volume(emu, "mine", "EUR-IS-1")
    credential = "nosuch"
    config = StackConfig(
        gpu_pools=["ADA_42"],
        ops_cpu="cpu9",
        adopt_volume=id_,
        adopt_registry_credential=credential,
        worker_quota=2,
        budget_usd_per_month=1,
    )
    empty = StackState(None, frozenset())

    with pytest.raises(SeveralRefusals) as caught:
        preflight(api, config, "comfyform", "dev", read_state=lambda: empty)

    text = str(caught.value)
    assert text.startswith("This stack has 4 problems:\n1. ")
    for part in (
        "no GPU pool 'ADA_42'",
        "no CPU flavor 'cpu9'",
        f"comfyform:adopt_volume: network volume {id_} has 'EUR-IS-1', not 'EU-RO-1'",
        "comfyform:adopt_registry_credential: registry credential 'nosuch' was not found",
        "the quota is 2. Lower workers_max",
        "above its budget: ",
        "or raise comfyform:budget_usd_per_month",
    ):
        assert part in text


def test_what_the_state_has_already_is_not_judged_as_an_adoption(api: RunPodApi) -> None:
    """An adopted object that is gone is drift, which a refresh must be able to record."""
    config = StackConfig(adopt_volume="gone")
    state = StackState("identity", frozenset({Entry("urn", "gone")}))

    preflight(api, config, "comfyform", "dev", read_state=lambda: state)
    with pytest.raises(ConfigError, match="network volume 'gone' was not found"):
        preflight(api, config, "comfyform", "dev", read_state=lambda: StackState(None, frozenset()))
