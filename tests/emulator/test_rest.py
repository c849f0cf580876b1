"""REST v2 of the emulator: what it makes, what it refuses and in which words, judged by the document too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support import openapi
from tests.support.emulation import Emulator

GPU = {"pools": ["ADA_24"]}
QUEUE = {"name": "e", "type": "QUEUE", "image": "i", "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}
CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/rest_refusals.yaml").read_text())
VOLUME = {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}


def ask(emu: Emulator, method: str, path: str, body: Any = None) -> httpx.Response:
    """Ask REST v2; whatever it answers must conform to the published document."""
    reply = emu.rest(method, path, body)
    assert openapi.problems(method, path, reply) == []
    return reply


def make(emu: Emulator, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create something, and return it as the create answered."""
    reply = ask(emu, "POST", path, body)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def test_a_volume_lives_grows_and_is_gone(emu: Emulator) -> None:
    """A volume is made in its data center's own tier, renamed, grown, listed, deleted with its files."""
    volume = make(emu, "/network-volumes", VOLUME | {"dataCenter": "US-KS-2"})
    path = f"/network-volumes/{volume['id']}"
    grown = ask(emu, "PATCH", path, {"size": 20, "name": "w"}).json()
    listed = ask(emu, "GET", "/network-volumes").json()
    folder = emu.volume_dir(volume["id"])
    (folder / "a").write_text("x")
    deleted = ask(emu, "DELETE", path)

    assert volume["type"] == "HIGH_PERFORMANCE"
    assert grown == volume | {"size": 20, "name": "w"}
    assert listed == {"networkVolumes": [grown]}
    assert (deleted.status_code, deleted.content, folder.exists()) == (204, b"", False)
    assert ask(emu, "GET", path).status_code == 404


def test_a_template_is_a_snapshot(emu: Emulator) -> None:
    """An endpoint takes a template's settings once; neither an edit nor the deletion reaches it."""
    settings = {"serverless": True, "env": {"A": "1", "B": "1"}, "disk": 7}
    template = make(emu, "/templates", {"name": "t", "image": "i:1"} | settings)
    body = {k: v for k, v in QUEUE.items() if k != "image"} | {"gpu": GPU, "templateId": template["id"]}
    endpoint = make(emu, "/serverless", body | {"env": {"B": "2"}})
    ask(emu, "PATCH", f"/templates/{template['id']}", {"image": "i:2"})
    deleted = ask(emu, "DELETE", f"/templates/{template['id']}")
    after = ask(emu, "GET", f"/serverless/{endpoint['id']}").json()

    assert (after["image"], after["disk"], after["env"]) == ("i:1", 7, {"A": "1", "B": "2"})
    assert after == endpoint
    assert "templateId" not in after
    assert deleted.status_code == 204


def test_an_endpoint_has_a_private_template_that_goes_with_it(emu: Emulator) -> None:
    """The bound template is in no list, cannot be deleted, and is gone with the endpoint."""
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU})
    bound = emu.state()["boundTemplates"][0]["id"]
    refused = ask(emu, "DELETE", f"/templates/{bound}")
    listed = ask(emu, "GET", "/templates").json()
    ask(emu, "DELETE", f"/serverless/{endpoint['id']}")

    assert listed == {"templates": []}
    assert (refused.status_code, "in use" in refused.json()["detail"]) == (400, True)
    assert emu.state()["boundTemplates"] == []


def test_an_endpoint_is_made_with_runpods_defaults(emu: Emulator) -> None:
    """What the request leaves out is what RunPod fills in."""
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU})
    required = {
        "args": "",
        "disk": 20,
        "ports": [],
        "env": {},
        "registry": None,
        "gpu": {"pools": ["ADA_24"], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None},
        "workers": {"min": 0, "max": 3, "idleTimeout": 10},
        "dataCenterIds": [],
        "networkVolumes": [],
        "timeout": 300000,
        "flashboot": "OFF",
    }

    assert {name: endpoint[name] for name in required} == required
    assert endpoint["requestUrls"]["run"] == f"{emu.url('jobs')}/{endpoint['id']}/run"


def test_pools_replace_the_selection(emu: Emulator) -> None:
    """A patch of `pools` clears `excludedTypes`; a patch without it leaves both."""
    gpu = {"pools": ["ADA_48_PRO"], "excludedTypes": [" NVIDIA L40"], "minCudaVersion": "12.8"}
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": gpu})
    path = f"/serverless/{endpoint['id']}"
    remaining = ask(emu, "PATCH", path, {"gpu": {"minCudaVersion": ""}}).json()["gpu"]
    replaced = ask(emu, "PATCH", path, {"gpu": {"pools": ["ADA_48_PRO"]}}).json()["gpu"]

    assert endpoint["gpu"]["excludedTypes"] == ["NVIDIA L40"]
    assert (remaining["excludedTypes"], remaining["minCudaVersion"]) == (["NVIDIA L40"], None)
    assert "excludedTypes" not in replaced


def test_settings_apply_in_place_and_container_changes_make_a_release(emu: Emulator) -> None:
    """Only what changes the container rolls out; `env` is replaced whole."""
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU, "env": {"A": "1"}})
    path = f"/serverless/{endpoint['id']}"
    ask(emu, "PATCH", path, {"workers": {"max": 2}, "timeout": 5, "name": "n", "flashboot": "FLASHBOOT"})
    before = ask(emu, "GET", f"{path}/releases").json()
    changed = ask(emu, "PATCH", path, {"image": "i:2", "env": {"B": "2"}}).json()
    after = ask(emu, "GET", f"{path}/releases").json()

    assert (before["endpointVersion"], after["endpointVersion"]) == (1, 2)
    assert [entry["field"] for entry in after["releases"][0]["diff"]] == [
        "template.imageName",
        "template.env",
    ]
    assert changed["env"] == {"B": "2"}
    assert changed["workers"] == {"min": 0, "max": 2, "idleTimeout": 10}


def test_a_cpu_endpoint_shows_its_memory(emu: Emulator) -> None:
    """Memory follows from the flavor; idleTimeout is left out where it does not apply."""
    body = QUEUE | {"scaling": {"type": "REQUEST_COUNT", "requestCount": 1}}
    endpoint = make(emu, "/serverless", body | {"cpu": [{"id": "cpu3g", "vcpuCount": 4}]})

    assert endpoint["cpu"] == [{"id": "cpu3g", "vcpuCount": 4, "memory": 16}]
    assert endpoint["workers"] == {"min": 0, "max": 3}
    assert "gpu" not in endpoint


def test_a_load_balancer_has_its_own_urls(emu: Emulator) -> None:
    """Its health path comes from the environment, and the job plane refuses it."""
    scaling = {"type": "REQUEST_COUNT", "requestCount": 4}
    env = {"HEALTH_CHECK_PATH": "/up"}
    balancer = QUEUE | {"type": "LOAD_BALANCER", "scaling": scaling}
    endpoint = make(emu, "/serverless", balancer | {"gpu": GPU, "env": env})
    run = emu.jobs("POST", f"/{endpoint['id']}/run", {"input": {"a": 1}})
    traffic = httpx.get(endpoint["requestUrls"]["health"])

    assert endpoint["requestUrls"]["health"] == endpoint["requestUrls"]["base"] + "/up"
    assert (run.status_code, run.json()) == (400, {"error": "not allowed for QB API"})
    assert traffic.status_code == 501


def test_a_registry_credential_is_written_once(emu: Emulator) -> None:
    """Name and id come back, never the password; templates lose the reference silently."""
    registry = make(emu, "/registries", {"name": "r", "username": "u", "password": "open-sesame"})
    template = make(emu, "/templates", {"name": "t", "image": "i", "registry": registry["id"]})
    listed = ask(emu, "GET", "/registries").json()
    ask(emu, "DELETE", f"/registries/{registry['id']}")

    assert listed == {"registries": [{"id": registry["id"], "name": "r"}]}
    assert ask(emu, "GET", f"/templates/{template['id']}").json()["registry"] is None
    assert b"open-sesame" not in b"".join(file.read_bytes() for file in emu.root.glob("*.json"))


@pytest.mark.parametrize(
    "path",
    [
        "/catalog/gpus",
        "/catalog/gpus?include=AVAILABILITY&product=SERVERLESS",
        "/catalog/gpus/NVIDIA L40S?include=AVAILABILITY&product=POD,SERVERLESS",
        "/catalog/cpus?include=AVAILABILITY&product=SERVERLESS",
        "/catalog/cpus/cpu5c",
        "/catalog/datacenters?include=GPU_AVAILABILITY,CPU_AVAILABILITY",
        "/catalog/datacenters/EU-RO-1",
        "/catalog/templates",
    ],
)
def test_the_catalog_conforms(emu: Emulator, path: str) -> None:
    """Every catalog answer is 200 and conforms to the document."""
    assert ask(emu, "GET", path).status_code == 200


def test_a_shortage_shows_in_the_catalog(emu: Emulator) -> None:
    """A pool without machines has availability NONE, by GPU type and by data center."""
    emu.set(shortage=["ADA_24"])
    query = "?include=AVAILABILITY&product=SERVERLESS"
    gpu = ask(emu, "GET", f"/catalog/gpus/NVIDIA GeForce RTX 4090{query}").json()
    center = ask(emu, "GET", "/catalog/datacenters/EU-RO-1?include=GPU_AVAILABILITY").json()
    levels = {item["id"]: item["availability"] for item in center["gpuAvailability"]}

    assert (gpu["availability"], "dataCenters" in gpu) == ("NONE", False)
    assert (levels["NVIDIA GeForce RTX 4090"], levels["NVIDIA L40S"]) == ("NONE", "HIGH")


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: f"{case[1]}: {case[0]}")
def test_creates_are_refused(emu: Emulator, case: tuple[str, str, dict[str, Any], int, str]) -> None:
    """What RunPod refuses is refused, with its status and its words, and nothing is made."""
    _, path, changes, status, words = case
    body = {name: value for name, value in (CASES["good"][path] | changes).items() if value is not None}
    reply = ask(emu, "POST", path, body)
    problem = reply.json()

    assert (reply.status_code, problem["status"]) == (status, status)
    assert words in " | ".join([problem["detail"], *problem.get("errors", [])])
    state = emu.state()
    assert [state[kind] for kind in ("volumes", "templates", "endpoints", "registries")] == [[], [], [], []]


def test_the_validators_noise_is_kept(emu: Emulator) -> None:
    """One missing field makes the good fields of the same schema branch "not allowed", as on RunPod."""
    body = {name: value for name, value in QUEUE.items() if name != "image"} | {"gpu": GPU}

    assert ask(emu, "POST", "/serverless", body).json()["errors"] == [
        "$: missing property 'image'",
        "$: additional properties 'gpu', 'name', 'scaling', 'type' not allowed",
    ]


def test_updates_are_refused(emu: Emulator) -> None:
    """A volume neither shrinks nor moves, an endpoint keeps its type and its compute family."""
    volume = make(emu, "/network-volumes", VOLUME | {"size": 20})
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU})
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"/network-volumes/{volume['id']}", {"size": 19}),
        (f"/network-volumes/{volume['id']}", {"dataCenter": "EU-CZ-1"}),
        (f"/network-volumes/{volume['id']}", {}),
        (f"/serverless/{endpoint['id']}", {"type": "LOAD_BALANCER"}),
        (f"/serverless/{endpoint['id']}", {"cpu": [{"id": "cpu3c", "vcpuCount": 2}]}),
        (f"/serverless/{endpoint['id']}", {"gpu": {"excludedTypes": ["NVIDIA L4"]}}),
        (f"/serverless/{endpoint['id']}", {"workers": {"min": 4}}),
        ("/templates/runpod-torch-v280", {"name": "mine"}),
    ]
    replies = [ask(emu, "PATCH", path, body).status_code for path, body in cases]

    assert replies == [400, 422, 422, 422, 400, 422, 400, 404]
    assert ask(emu, "GET", f"/network-volumes/{volume['id']}").json() == volume
    assert ask(emu, "GET", f"/serverless/{endpoint['id']}").json() == endpoint


def test_a_volume_in_use_stays(emu: Emulator) -> None:
    """It can be deleted when its endpoint is gone, and RunPod may need a moment to notice."""
    emu.set(volume_release_s=30.0)
    volume = make(emu, "/network-volumes", VOLUME)
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU, "networkVolumes": [volume["id"]]})
    statuses = [ask(emu, "DELETE", f"/network-volumes/{volume['id']}").status_code]
    ask(emu, "DELETE", f"/serverless/{endpoint['id']}")
    statuses.append(ask(emu, "DELETE", f"/network-volumes/{volume['id']}").status_code)
    emu.advance(31)
    statuses.append(ask(emu, "DELETE", f"/network-volumes/{volume['id']}").status_code)

    assert statuses == [400, 400, 204]


def test_two_volumes_in_one_data_center_do_not_fit_one_endpoint(emu: Emulator) -> None:
    """An endpoint takes one volume a data center, several in several."""
    places = ("EU-RO-1", "EU-RO-1", "EU-CZ-1")
    ids = [make(emu, "/network-volumes", VOLUME | {"dataCenter": place})["id"] for place in places]
    refused = ask(emu, "POST", "/serverless", QUEUE | {"gpu": GPU, "networkVolumes": ids[:2]})

    assert (refused.status_code, "one network volume per data center" in refused.json()["detail"]) == (
        400,
        True,
    )
    assert (
        make(emu, "/serverless", QUEUE | {"gpu": GPU, "networkVolumes": ids[1:]})["networkVolumes"] == ids[1:]
    )


def test_keys_paths_and_methods_are_checked(emu: Emulator) -> None:
    """401 without the right key, 404 for a wrong path, 405 with Allow, 501 by name for what is missing."""
    url = emu.url("rest")
    missing = httpx.get(f"{url}/templates")
    wrong = httpx.get(f"{url}/templates", headers={"Authorization": "Bearer rpa_wrong"})
    path = emu.rest("GET", "/networkvolumes")
    method = emu.rest("PUT", "/network-volumes")
    absent = emu.rest("GET", "/pods")
    broken = httpx.post(
        f"{url}/templates", content=b"{", headers={"Authorization": f"Bearer {emu.env['RUNPOD_API_KEY']}"}
    )

    assert missing.json() == {"title": "Unauthorized", "status": 401, "detail": "missing bearer token"}
    assert missing.headers["content-type"] == "application/problem+json"
    assert wrong.status_code == 401
    assert path.json() == {"title": "Not Found", "status": 404, "detail": "resource not found"}
    assert (method.status_code, sorted(method.headers["allow"].split(", "))) == (405, ["GET", "HEAD", "POST"])
    assert (absent.status_code, "listPods (GET /v2/pods)" in absent.json()["detail"]) == (501, True)
    assert (broken.status_code, broken.json()["detail"]) == (400, "request could not be processed")
    assert all(reply.headers["x-request-id"] for reply in (missing, wrong, path, method, absent, broken))


def test_the_rate_limit_answers_429_with_its_headers(emu: Emulator) -> None:
    """Over the minute's quota comes 429 with Retry-After, and after the minute it works again."""
    emu.set(rate_limit_per_minute=2)
    first, second, third = (emu.rest("GET", "/templates") for _ in range(3))
    emu.advance(61)
    fourth = emu.rest("GET", "/templates")

    assert [reply.status_code for reply in (first, second, third, fourth)] == [200, 200, 429, 200]
    assert first.headers["ratelimit-policy"] == '"minute";q=2;w=60'
    assert first.headers["ratelimit"].startswith('"minute";r=1;')
    assert 0 < int(third.headers["retry-after"]) <= 60
    assert third.json()["detail"] == "rate limit exceeded for the minute window"


def test_a_new_resource_may_be_missing_from_the_lists_for_a_while(emu: Emulator) -> None:
    """With a listing delay the lists are stale, while the resource itself can be read."""
    emu.set(listing_delay_s=5.0)
    volume = make(emu, "/network-volumes", VOLUME)
    early = ask(emu, "GET", "/network-volumes").json()
    found = ask(emu, "GET", f"/network-volumes/{volume['id']}").json()
    emu.advance(6)

    assert (early, found) == ({"networkVolumes": []}, volume)
    assert ask(emu, "GET", "/network-volumes").json() == {"networkVolumes": [volume]}


def test_a_key_that_may_only_read_cannot_write(emu: Emulator) -> None:
    """403 for what the key has no right to, in both planes."""
    endpoint = make(emu, "/serverless", QUEUE | {"gpu": GPU})
    emu.set(api_key_rights="read")
    written = ask(emu, "POST", "/network-volumes", VOLUME)
    run = emu.jobs("POST", f"/{endpoint['id']}/run", {"input": {"a": 1}})

    assert ask(emu, "GET", "/network-volumes").status_code == 200
    assert (written.status_code, written.json()["detail"]) == (403, "access denied")
    assert (run.status_code, run.json()["detail"]) == (403, "access denied")
