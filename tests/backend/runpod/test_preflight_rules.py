"""What a workflow is judged by before it is submitted: node definitions, and whether they still hold."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from backend import Settings
from backend.comfyui.node_definitions import DefinitionsCopy, NodeDefinitions, definitions_path
from backend.files.volume_s3 import VolumeS3
from backend.flow import Reply, Sleep
from backend.flow.http_driver import AsyncHttp, Http
from backend.runpod.preflight import Preflight, doubts, is_pinned
from backend.verbs.request import read

PACK = {
    "input": {
        "required": {"kind": [["a", "b"], {}], "size": ["INT", {"min": 1, "max": 9}], "x": ["SEED", {}]}
    },
    "python_module": "custom_nodes.pack",
    "output_node": True,
}
KNOWN = NodeDefinitions(object_info={"Pack": PACK}, started_at=datetime.now(UTC))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"kind": "c", "size": 99, "x": 3}, []),
        ({"kind": "a", "size": 3}, ["node 1 (Pack), input x: it is missing"]),
    ],
)
def test_a_pack_may_take_what_its_definition_does_not_show(inputs, expected):
    """Lists of packs may be folders, and packs check values in their own way; what is missing is missing."""
    request = read("workflow", {"graph": {"1": {"class_type": "Pack", "inputs": inputs}}})

    with Http() as http:
        found = http.run(doubts(request, KNOWN))

    assert [str(problem) for problem in found] == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("you/worker:0.1.0", True),
        ("localhost:5000/you/worker@sha256:ab", True),
        ("localhost:5000/you/worker", False),
        ("you/worker:latest", False),
        ("", False),
    ],
)
def test_only_an_image_of_one_build_is_trusted(image, expected):
    """Behind another tag there may be a new build by now, with nodes that the definitions do not have."""
    assert is_pinned(image) is expected


def test_a_crowd_reads_the_definitions_once(tmp_path):
    """While one looks, the others go on without."""
    requested: list[str] = []

    class Volume:
        def read(self, path: str) -> Any:
            requested.append(path)
            yield Sleep(0.05)
            return KNOWN.to_bytes()

    copy = DefinitionsCopy("ep", cast("VolumeS3", Volume()), tmp_path)

    async def main() -> list[NodeDefinitions | None]:
        async with AsyncHttp() as http:
            return await asyncio.gather(*(http.run(copy.get()) for _ in range(20)), http.run(copy.get()))

    found = asyncio.run(main())

    assert (requested, found.count(KNOWN)) == ([".comfyform/nodes/ep.json.gz"], 1)
    assert asyncio.run(AsyncHttp().run(copy.get())) == KNOWN


def test_definitions_that_cannot_be_kept_leave_no_partial_file(tmp_path):
    """They are used all the same; only the copy for the next program is missing."""

    class Volume:
        def read(self, path: str) -> Any:
            yield Sleep(0)
            return KNOWN.to_bytes()

    (tmp_path / "ep.json.gz").mkdir()
    copy = DefinitionsCopy("ep", cast("VolumeS3", Volume()), tmp_path)
    with Http() as http:
        found = http.run(copy.get())

    assert found == KNOWN
    assert [path.name for path in tmp_path.iterdir()] == ["ep.json.gz"]


def test_what_leads_to_nothing_is_not_looked_at():
    """ComfyUI runs what its output nodes need, and nothing else."""
    good = {"class_type": "Pack", "inputs": {"kind": "a", "size": 1, "x": 1}}
    lost = {"class_type": "Lost", "inputs": {}}
    known = replace(KNOWN, object_info={"Pack": PACK, "Lost": {**PACK, "output_node": False}})

    with Http() as http:
        found = http.run(doubts(read("workflow", {"graph": {"1": good, "2": lost}}), known))

    assert found == []


def test_definitions_are_the_same_bytes_for_the_same_definitions():
    """And come back as they were; what is none is said to be none."""
    shuffled = replace(KNOWN, object_info={"Pack": dict(reversed(PACK.items()))})

    assert KNOWN.to_bytes() == shuffled.to_bytes()
    assert NodeDefinitions.from_bytes(KNOWN.to_bytes()) == KNOWN
    for content in (b"", b"{}", KNOWN.to_bytes()[:40], replace(KNOWN).to_bytes().replace(b"\x1f", b"")):
        with pytest.raises(ValueError, match=r".+"):
            NodeDefinitions.from_bytes(content)


def test_the_definitions_of_an_endpoint_are_its_own():
    """Endpoints with other images may share a volume; a name never leaves the folder."""
    assert definitions_path("abc-1") == ".comfyform/nodes/abc-1.json.gz"
    assert definitions_path("../x") == ".comfyform/nodes/___x.json.gz"


RELEASED = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("started_at", "settled"),
    [
        (RELEASED - timedelta(minutes=1), False),
        (RELEASED + timedelta(minutes=59), False),
        (RELEASED + timedelta(minutes=61), True),
    ],
)
def test_definitions_are_trusted_an_hour_after_a_release(tmp_path, started_at, settled):
    """A worker of the release before may start for a while after it, and would know other nodes."""
    settings = Settings.from_env(
        {
            "RUNPOD_API_KEY": "rpa_x",
            "RUNPOD_ENDPOINT_ID": "ep1",
            "RUNPOD_VOLUME_ID": "vol1",
            "RUNPOD_S3_URL": "https://s3.example",
            "RUNPOD_S3_ACCESS_KEY_ID": "id",
            "RUNPOD_S3_SECRET_ACCESS_KEY": "secret",
            "COMFYFORM_STATE_DIR": str(tmp_path),
        }
    )
    preflight = Preflight.from_settings(settings)
    assert preflight is not None
    endpoint = {"image": "you/worker:0.1.0", "networkVolumes": ["vol1"]}
    older = {"createdAt": (RELEASED - timedelta(days=1)).isoformat(), "diff": {"image": {}}}
    # A release without a diff changes nothing of the container, so it unsettles nothing.
    unchanged = {"createdAt": (RELEASED + timedelta(days=1)).isoformat(), "diff": {}}
    releases = {"releases": [unchanged, {"createdAt": RELEASED.isoformat(), "diff": {"image": {}}}, older]}

    flow = preflight._describes_the_endpoint(replace(KNOWN, started_at=started_at))
    next(flow)
    flow.send(json_reply(endpoint))
    with pytest.raises(StopIteration) as end:
        flow.send(json_reply(releases))

    assert end.value.value is settled


def json_reply(body: Any) -> Reply:
    return Reply(status=200, headers={}, content=json.dumps(body).encode(), url="https://rest.example/v2")
