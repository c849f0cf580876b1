"""The control plane's client against the emulator: what it sends and reads, and never does twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ApiError, AuthError, Conflict, InvalidRequest, NotFound, RateLimited, Unavailable
from backend.flow import Retry
from backend.flow.http_driver import Http
from backend.settings import Secret
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, REGISTRY_CREDENTIALS, TEMPLATES, Kind, RunPodApi
from ops.runpod.specs import Spec
from tests.support.emulation import Emulator, running_emulator

VOLUME: dict[str, Any] = {"name": "a", "size_gb": 10, "data_center": "EU-RO-1"}
TEMPLATE: dict[str, Any] = {"name": "a", "image": "echo"}
ENDPOINT: dict[str, Any] = {
    "name": "a",
    "type": "QUEUE",
    "image": "echo",
    "gpu_pools": ["ADA_24"],
    "workers_max": 1,
    "queue_delay_s": 4.0,
}
CREDENTIAL: dict[str, Any] = {"name": "a", "username": "u", "password": "p"}
KINDS = [
    (NETWORK_VOLUMES, VOLUME),
    (TEMPLATES, TEMPLATE),
    (ENDPOINTS, ENDPOINT),
    (REGISTRY_CREDENTIALS, CREDENTIAL),
]
IDS = [kind.noun for kind, _ in KINDS]


def client(emu: Emulator, http: Http, **options: Any) -> RunPodApi:
    quick = {"retry": Retry(attempts=4, first_s=0.01, jitter=lambda: 1.0), "settle_s": 0.2, "in_use_s": 1.0}
    return RunPodApi(
        http, emu.url("rest"), Secret(emu.env["RUNPOD_API_KEY"]), **{**quick, "timeout_s": 5.0, **options}
    )


@pytest.fixture
def api(emu: Emulator) -> Iterator[RunPodApi]:
    with Http() as http:
        yield client(emu, http)


def refusal(api: RunPodApi, kind: Kind[Spec], values: dict[str, Any]) -> str:
    """Create, and return what the error says, or nothing."""
    try:
        api.create(kind, values, own_name=True)
    except Unavailable as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
def test_life_of_a_resource(api: RunPodApi, kind: Kind[Spec], values: dict[str, Any]) -> None:
    """Created, listed, read, deleted, and gone; a second delete is no error."""
    created = api.create(kind, values)

    assert [live.id for live in api.list_all(kind)] == [created.id]
    assert api.get(kind, created.id).name == "a"
    api.delete(kind, created.id)
    api.delete(kind, created.id)
    with pytest.raises(NotFound):
        api.get(kind, created.id)


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
@pytest.mark.parametrize(
    "fault",
    [
        {"cut": "after"},
        {"cut": "before"},
        {"status": 500, "body": {"title": "x", "status": 500, "detail": "boom"}},
        {"status": 502, "body": "<html>"},
        {
            "status": 429,
            "headers": {"Retry-After": "0"},
            "body": {"title": "x", "status": 429, "detail": "wait"},
        },
        {"status": 201, "body": "<html>a proxy</html>"},
    ],
    ids=["lost reply", "lost request", "500", "502", "429", "nonsense"],
)
def test_a_create_never_makes_two(
    api: RunPodApi, emu: Emulator, kind: Kind[Spec], values: dict[str, Any], fault: dict[str, Any]
) -> None:
    """Whatever happens to a create: one resource at most, and exactly one after asking again."""
    emu.fault(f"/rest/v2/{kind.path}", method="POST", **fault)

    message = refusal(api, kind, values)

    assert not message or ("nothing is paid twice" in message and ("Create" in message or "POST" in message))
    assert len(api.list_all(kind)) <= 1

    api.create(kind, values, own_name=True)
    assert len(api.list_all(kind)) == 1


@pytest.mark.parametrize(("kind", "values"), KINDS[:3], ids=IDS[:3])
def test_a_lost_reply_is_found_even_when_the_listing_lags(
    api: RunPodApi, emu: Emulator, kind: Kind[Spec], values: dict[str, Any]
) -> None:
    """A create whose answer was lost is looked for again while the listing does not show it yet."""
    emu.fault(f"/rest/v2/{kind.path}", method="POST", cut="after")
    empty: dict[str, Any] = {kind.listed: []}
    emu.fault(f"/rest/v2/{kind.path}", method="GET", skip=1, times=2, status=200, body=empty)

    created = api.create(kind, values)

    assert [live.id for live in api.list_all(kind)] == [created.id]


def test_an_earlier_attempt_is_picked_up_and_brought_up_to_date(api: RunPodApi) -> None:
    """What an interrupted run left is found by a name of its own, and gets what is wanted now."""
    left = api.create(NETWORK_VOLUMES, VOLUME, own_name=True)

    created = api.create(NETWORK_VOLUMES, {**VOLUME, "size_gb": 20}, own_name=True)

    assert (created.id, created.values["size_gb"]) == (left.id, 20)


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
def test_an_object_of_a_chosen_name_is_not_taken_over(
    api: RunPodApi, kind: Kind[Spec], values: dict[str, Any]
) -> None:
    """A name that anybody may choose proves nothing: the refusal names the object and the ways out."""
    left = api.create(kind, values)

    with pytest.raises(Conflict) as caught:
        api.create(kind, values)

    assert f"called 'a' exists already and is not this stack's: {left.id}." in str(caught.value)
    assert "adopt=<its id>" in str(caught.value)
    assert [live.id for live in api.list_all(kind)] == [left.id]


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
@pytest.mark.parametrize("own_name", [True, False])
def test_an_object_that_somebody_owns_is_left_alone(
    api: RunPodApi, kind: Kind[Spec], values: dict[str, Any], own_name: bool
) -> None:
    """A held id is never taken over, whatever its name: the new object is made beside it."""
    theirs = api.create(kind, values)

    created = api.create(kind, values, held={theirs.id}, own_name=own_name)

    assert {live.id for live in api.list_all(kind)} == {theirs.id, created.id}
    assert theirs.id != created.id


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
def test_a_lost_answer_never_leads_to_an_owned_object(
    api: RunPodApi, emu: Emulator, kind: Kind[Spec], values: dict[str, Any]
) -> None:
    """Of two objects of the name, the one that is held is not the one whose answer was lost."""
    theirs = api.create(kind, values)
    emu.fault(f"/rest/v2/{kind.path}", method="POST", cut="after")

    created = api.create(kind, values, held={theirs.id})

    assert {live.id for live in api.list_all(kind)} == {theirs.id, created.id}
    assert theirs.id != created.id


@pytest.mark.parametrize(
    ("kind", "values", "other", "reason"),
    [
        (
            ENDPOINTS,
            ENDPOINT,
            {"type": "LOAD_BALANCER", "queue_delay_s": None, "request_count": 4},
            "type is 'QUEUE', not 'LOAD_BALANCER'",
        ),
        (NETWORK_VOLUMES, VOLUME, {"data_center": "US-KS-2"}, "data_center is 'EU-RO-1', not 'US-KS-2'"),
    ],
    ids=["endpoint", "network volume"],
)
def test_an_earlier_attempt_that_cannot_be_changed_stays(
    api: RunPodApi, kind: Kind[Spec], values: dict[str, Any], other: dict[str, Any], reason: str
) -> None:
    """It may hold files or work, so it is a clear conflict, and stays as it is."""
    left = api.create(kind, values)

    with pytest.raises(Conflict, match=reason):
        api.create(kind, {**values, **other}, own_name=True)

    assert [live.id for live in api.list_all(kind)] == [left.id]


def test_two_of_a_name_are_named_and_none_is_chosen(api: RunPodApi, emu: Emulator) -> None:
    """RunPod allows equal names; which one is meant is not guessed."""
    ids = [
        emu.rest("POST", "/network-volumes", {"name": "a", "size": 10, "dataCenter": "EU-RO-1"}).json()["id"]
        for _ in range(2)
    ]

    for own_name in (True, False):
        with pytest.raises(Conflict) as caught:
            api.create(NETWORK_VOLUMES, VOLUME, own_name=own_name)
        assert all(id_ in str(caught.value) for id_ in ids)

    assert api.adopt(NETWORK_VOLUMES, ids[1], VOLUME).id == ids[1]


def test_a_failed_listing_never_looks_empty(api: RunPodApi, emu: Emulator) -> None:
    """A list without its key is an error, as is one that is refused."""
    emu.fault("/rest/v2/templates", method="GET", times=0, status=200, body={"items": []})

    with pytest.raises(Unavailable, match="has no 'templates'"):
        api.list_all(TEMPLATES)


def test_a_volume_in_use_is_waited_for(api: RunPodApi, emu: Emulator) -> None:
    """A delete waits while a worker still holds the volume, and then succeeds."""
    volume = api.create(NETWORK_VOLUMES, VOLUME)
    endpoint = api.create(ENDPOINTS, {**ENDPOINT, "volume_ids": [volume.id]})
    emu.set(volume_release_s=0.3)
    api.delete(ENDPOINTS, endpoint.id)

    api.delete(NETWORK_VOLUMES, volume.id)

    assert api.list_all(NETWORK_VOLUMES) == ()
    assert len(emu.requests("DELETE", f"*/network-volumes/{volume.id}")) > 1


def test_a_volume_that_stays_in_use_is_refused_in_runpods_words(api: RunPodApi) -> None:
    """After the wait the reason is RunPod's own."""
    volume = api.create(NETWORK_VOLUMES, VOLUME)
    api.create(ENDPOINTS, {**ENDPOINT, "volume_ids": [volume.id]})

    with pytest.raises(ApiError, match=f"Delete network volume {volume.id}"):
        api.delete(NETWORK_VOLUMES, volume.id)


def test_exclusions_survive_a_change_of_pools(api: RunPodApi) -> None:
    """To RunPod, pools without exclusions mean none; both are always sent."""
    required = {**ENDPOINT, "gpu_pools": ["AMPERE_48"], "gpu_excluded_types": ["NVIDIA A40"]}
    created = api.create(ENDPOINTS, required)
    required["gpu_pools"] = ["AMPERE_48", "ADA_24"]

    changed = api.update(ENDPOINTS, created.id, required, ["gpu_pools"])

    assert changed.values["gpu_excluded_types"] == ["NVIDIA A40"]
    assert set(changed.values["gpu_pools"]) == {"AMPERE_48", "ADA_24"}


def test_an_update_of_what_is_gone_says_what_to_do(api: RunPodApi) -> None:
    """A resource that somebody deleted is not silently made again by an update."""
    with pytest.raises(NotFound, match="pulumi refresh"):
        api.update(TEMPLATES, "nothere1", TEMPLATE, ["image"])


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_safe_calls_are_repeated(api: RunPodApi, emu: Emulator, status: int) -> None:
    """Reading, changing and deleting go on through a passing failure."""
    created = api.create(TEMPLATES, TEMPLATE)
    for method in ("GET", "PATCH", "DELETE"):
        emu.fault(f"/rest/v2/templates/{created.id}", method=method, times=2, status=status, body={})

    api.get(TEMPLATES, created.id)
    api.update(TEMPLATES, created.id, {**TEMPLATE, "disk_gb": 30}, ["disk_gb"])
    api.delete(TEMPLATES, created.id)

    assert api.list_all(TEMPLATES) == ()


def test_a_stalled_create_is_looked_for(emu: Emulator) -> None:
    """An answer that does not come in time counts as lost."""
    emu.fault("/rest/v2/templates", method="POST", delay_s=1.0)
    with Http() as http:
        api = client(emu, http, timeout_s=0.2, settle_s=0.0)
        with pytest.raises(Unavailable, match="did not answer in time"):
            api.create(TEMPLATES, TEMPLATE)

        assert len(api.list_all(TEMPLATES)) <= 1


def test_a_bad_key_is_an_auth_error(emu: Emulator) -> None:
    """401 says which key to check, and never shows it."""
    with Http() as http:
        api = RunPodApi(http, emu.url("rest"), Secret("rpa_wrong_and_secret"))
        with pytest.raises(AuthError) as caught:
            api.list_all(TEMPLATES)

    assert "rpa_wrong_and_secret" not in repr(vars(caught.value)) + str(caught.value)


def test_endless_rate_limits_end(api: RunPodApi, emu: Emulator) -> None:
    """After the attempts are used up the call fails with its name."""
    emu.fault("/rest/v2/templates", method="POST", times=4, status=429, headers={"Retry-After": "0"})

    with pytest.raises(RateLimited, match="Create template 'a'"):
        api.create(TEMPLATES, TEMPLATE)


def test_the_worker_quota_speaks_for_itself(api: RunPodApi, emu: Emulator) -> None:
    """RunPod's refusal reaches the user with what it leaves out: who has workers, how many are left."""
    emu.set(worker_quota=4)
    api.create(ENDPOINTS, {**ENDPOINT, "name": "b", "workers_max": 3})
    mine = api.create(ENDPOINTS, ENDPOINT)
    message = r"quota \(4\).* asks for 2, other endpoints may have 3 \(b 3\), so at most 1 of 4 are left"

    with pytest.raises(InvalidRequest, match=message):
        api.update(ENDPOINTS, mine.id, {**ENDPOINT, "workers_max": 2}, ["workers_max"])
    api.delete(ENDPOINTS, mine.id)
    with pytest.raises(InvalidRequest, match=message):
        api.create(ENDPOINTS, {**ENDPOINT, "workers_max": 2})
    emu.set(missing_images=["nowhere"])
    with pytest.raises(InvalidRequest) as caught:
        api.create(ENDPOINTS, {**ENDPOINT, "image": "nowhere"})
    assert "quota" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("die", ["before", "after"])
@pytest.mark.parametrize(("kind", "values"), KINDS, ids=IDS)
def test_runpod_dies_in_the_middle_of_a_create(
    tmp_path: Path, kind: Kind[Spec], values: dict[str, Any], die: str
) -> None:
    """Whether it had acted or not: after its return, asking again ends with exactly one."""
    with running_emulator(tmp_path) as emu, Http() as http:
        port = int(emu.url("rest").split(":")[2].split("/")[0])
        emu.fault(f"/rest/v2/{kind.path}", method="POST", die=die)
        with pytest.raises(Unavailable):
            client(emu, http).create(kind, values, own_name=True)
    with running_emulator(tmp_path, port=port) as emu, Http() as http:
        api = client(emu, http)

        api.create(kind, values, own_name=True)

        assert len(api.list_all(kind)) == 1
