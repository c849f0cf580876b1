"""The emulated Comfy API v2: the official SDK, unmodified, against it; and what the API refuses."""

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from comfy_sdk import Comfy, Workflow
from comfy_sdk.exceptions import ComfyError, JobFailed
from PIL import Image

from tests.support.comfyui_program import Graph, safetensors, slow, txt2img
from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator


@pytest.fixture
def checkpoint(emu: Emulator) -> None:
    path = emu.root / "comfyui/models/checkpoints/tiny.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors())


@pytest.fixture
def sdk(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comfy]:
    """Yield the official client; its address comes from the environment alone."""
    monkeypatch.setenv("COMFY_BASE_URL", emu.env["COMFY_BASE_URL"])
    monkeypatch.setenv("COMFY_API_KEY", emu.env["COMFY_API_KEY"])
    with Comfy() as client:
        yield client


@pytest.fixture
def api(emu: Emulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {emu.env['COMFY_API_KEY']}"}
    with httpx.Client(
        base_url=emu.env["COMFY_BASE_URL"] + "/api/v2", headers=headers, timeout=HANG_S
    ) as client:
        yield client


def finished(api: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Follow a job's events to its end, and return it as it is then."""
    with api.stream("GET", job["urls"]["events"]) as stream:
        stream.read()
    done: dict[str, Any] = api.get(job["urls"]["self"]).json()
    return done


def submit(api: httpx.Client, graph: Graph) -> dict[str, Any]:
    reply = api.post("/jobs", json={"workflow": graph})
    assert reply.status_code == 201, reply.text
    job: dict[str, Any] = reply.json()
    return job


@pytest.mark.usefixtures("checkpoint")
def test_the_official_sdk_runs_a_workflow_and_reads_its_output(sdk):
    """Comfy().run submits, waits and gives outputs whose bytes are the picture."""
    job = sdk.run(Workflow(txt2img(size=(64, 96))))
    (output,) = job.outputs

    assert (job.status, output.node_id, output.type, output.name) == (
        "succeeded",
        "9",
        "image",
        "fox_00001_.png",
    )
    assert Image.open(io.BytesIO(output.to_bytes())).size == (64, 96)
    assert output.to_bytes(range=(1, 3)) == b"PNG"


def test_the_official_sdk_uploads_once_and_puts_assets_into_workflows(sdk, tmp_path):
    """The same bytes are not sent twice, and the graph gets a file that ComfyUI can load."""
    path = tmp_path / "in.png"
    Image.new("RGB", (32, 16), (200, 30, 30)).save(path)
    first, second = sdk.assets.from_file(path), sdk.assets.from_file(path)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": first}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }
    job = sdk.run(Workflow(graph))
    second.commit()

    assert (first.created_new, second.created_new) == (True, False)
    assert Image.open(io.BytesIO(job.outputs[0].to_bytes())).getpixel((5, 5)) == (200, 30, 30)


def test_the_official_sdk_sees_progress_and_previews(sdk):
    """Events come in order: status, progress with steps, previews, the output, the last status."""
    job = sdk.submit(Workflow(slow(steps=3, delay=0.05, preview=True)))
    events = [type(event).__name__ for event in job.events()]

    assert events[0] == "StatusChange"
    assert events[-1] == "StatusChange"
    assert {"Progress", "Preview", "OutputReady"} <= set(events)


def test_the_official_sdk_names_a_failed_node(sdk):
    """A node that raises is a failed job with the node and the message."""
    graph = slow()
    graph["2"] = {"class_type": "EmulatorRaise", "inputs": {"image": ["1", 0], "kind": "value_error"}}
    with pytest.raises(JobFailed) as error:
        sdk.run(Workflow(graph))

    message = error.value.error
    assert message is not None
    assert (message.code, message.node_id, message.class_type) == (
        "node_execution_error",
        "2",
        "EmulatorRaise",
    )


def test_a_running_job_can_be_cancelled(sdk):
    """Cancel is asked for, takes effect at the next step, and can be repeated."""
    job = sdk.submit(Workflow(slow(steps=1000, delay=0.05)))
    job.cancel()
    job.wait(timeout=HANG_S)
    again = job.cancel().status

    assert (job.status, again) == ("canceled", "canceled")


def test_a_job_is_described_as_the_document_says(api):
    """All required keys are there while it waits and when it is done, times and metrics filled in."""
    job = submit(api, slow())
    done = finished(api, job)
    workflow = api.get(f"/jobs/{job['id']}/workflow").json()

    assert job["status"] in ("queued", "running")
    assert done["status"] == "succeeded"
    assert done["started_at"] <= done["completed_at"] < done["expires_at"]
    assert done["metrics"].keys() == {"queue_ms", "execution_ms"}
    assert done["outputs"][0]["job_id"] == job["id"]
    assert done["outputs"][0]["size_bytes"] > 0
    assert (workflow["format"], workflow["workflow"].keys()) == ("api", slow().keys())


def test_contents_are_redirected_to_a_link_on_another_host(api):
    """302 to a signed link that asks for no key: clients must not send theirs there."""
    done = finished(api, submit(api, slow()))
    reply = api.get(f"/assets/{done['outputs'][0]['id']}/content")
    link = reply.headers["location"]

    assert reply.status_code == 302
    assert httpx.URL(link).port != api.base_url.port
    assert httpx.get(link).content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_workflow"),
        ({"workflow": {"1": {"class_type": "Nope", "inputs": {}}}}, 422, "invalid_workflow"),
        ({"workflow": {"nodes": [], "links": []}}, 422, "workflow_format_ui"),
        ({"workflow": {}, "webhook_url": "https://example.com"}, 422, "invalid_request"),
        (
            {
                "workflow": {
                    "1": {
                        "class_type": "LoadImage",
                        "inputs": {"image": {"__type": "core/ASSET", "info": {"id": "nope"}}},
                    }
                }
            },
            422,
            "missing_asset",
        ),
    ],
)
def test_bad_submissions_are_refused_at_once(api, body, status, code):
    """Each in the error envelope, with its code."""
    reply = api.post("/jobs", json=body)

    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_validation_errors_carry_comfyuis_own(api):
    """details.node_errors is what ComfyUI says."""
    graph = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}
    error = api.post("/jobs", json={"workflow": graph}).json()["error"]

    assert error["message"] == "Prompt outputs failed validation"
    assert error["details"]["node_errors"]["1"]["errors"][0]["type"] == "required_input_missing"


def test_an_idempotency_key_is_good_once_unless_nothing_was_made(api):
    """A refused submission gives its key back; one that made a job keeps it."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    refused = api.post("/jobs", json={}, headers=headers)
    created = api.post("/jobs", json={"workflow": slow()}, headers=headers)
    again = api.post("/jobs", json={"workflow": slow()}, headers=headers)

    assert [reply.status_code for reply in (refused, created, again)] == [422, 201, 422]
    assert again.json()["error"]["code"] == "idempotency_key_reuse"


def test_assets_are_checked_shared_and_deleted(api):
    """A wrong hash is refused, equal bytes are shared, and one record's end is not the other's."""
    fields = {"content_type": "text/plain", "file_path": "a.txt"}

    def upload(**more: str) -> httpx.Response:
        files = {"file": ("a.txt", b"hello")}
        reply: httpx.Response = api.post("/assets", files=files, data=fields | more)
        return reply

    wrong = upload(expected_hash="blake3:00")
    first, second = upload().json(), upload().json()
    deleted = api.delete(f"/assets/{first['id']}")

    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "hash_mismatch")
    assert (first["created_new"], second["created_new"]) == (True, False)
    assert (deleted.status_code, api.get(f"/assets/{first['id']}").status_code) == (204, 404)
    assert api.get(f"/assets/{second['id']}/content", follow_redirects=True).content == b"hello"
    assert upload(expires_in="5").status_code == 422


def test_a_key_is_asked_for(emu):
    """Without the account's key there is a 401, before anything else."""
    reply = httpx.get(emu.env["COMFY_BASE_URL"] + "/api/v2/jobs/x")

    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")


def test_a_job_is_gone_after_a_day(emu, api):
    """Past its retention a job is as unknown as one that never was."""
    job = finished(api, submit(api, slow()))
    emu.advance(24 * 3600 + 1)
    reply = api.get(job["urls"]["self"])

    assert (reply.status_code, json.loads(reply.content)["error"]["code"]) == (404, "not_found")


def test_the_sdk_says_so_when_a_job_is_unknown(sdk):
    """The SDK's typed error comes out of the envelope."""
    with pytest.raises(ComfyError):
        sdk.jobs.get(str(uuid.uuid4()))
