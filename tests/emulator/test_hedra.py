"""Hedra's API v3 as emulated: the whole chain, and what it refuses."""

from __future__ import annotations

import io
import math
import struct
import wave
from typing import Any

import httpx
import pytest

from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator, until

PORTRAIT = {"prompt": "a king", "aspect_ratio": "3:4", "resolution": "540p", "seed": 7}
SPEECH = {"text": "Hello there."}


class Client:
    """The shortest client that does all of it."""

    def __init__(self, emu: Emulator) -> None:
        self.url = emu.env["HEDRA_API_URL"]
        self.origin = self.url.removesuffix("/hedra/v3")
        self.headers = {"Authorization": f"Key {emu.env['HEDRA_API_KEY']}"}

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, json=body, headers=self.headers, timeout=HANG_S, **more)

    def run(self, model: str, **settings: Any) -> dict[str, Any]:
        """Submit, wait, and return the result."""
        reply = self.ask("POST", f"/models/{model}", {"input": settings})
        assert reply.status_code == 202, reply.text
        path = reply.json()["result_url"]
        assert reply.headers["location"] == path

        def result() -> Any:
            answer = httpx.get(self.origin + path, headers=self.headers).json()
            return answer if answer["status"] in ("COMPLETED", "FAILED") else None

        return dict(until(result))


@pytest.fixture
def hedra(emu: Emulator) -> Client:
    emu.set(hedra_rate_per_minute=10_000, hedra_job_s=0.01)
    return Client(emu)


def tone(seconds: float) -> bytes:
    """Make a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = (int(9000 * math.sin(at / 5)) for at in range(int(8000 * seconds)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


@pytest.mark.slow
def test_portrait_speech_and_film_are_chained_by_their_assets(hedra: Client) -> None:
    """An image and a speech are made, and a film of both without sending anything again."""
    image = hedra.run("flux-dev", **PORTRAIT)["outputs"][0]
    voice = hedra.ask("GET", "/models/elevenlabs-v3/voices").json()["data"][0]["id"]
    speech = hedra.run("elevenlabs-v3", text="Hello there.", voice_id=voice)["outputs"][0]
    settings = {"prompt": "he speaks", "aspect_ratio": "1:1", "resolution": "540p"}
    refs = {
        name: {"source": "asset", "asset_id": item["asset_id"]}
        for name, item in (("start_image", image), ("audio", speech))
    }
    video = hedra.run("hedra-avatar", **settings, **refs)
    item = video["outputs"][0]
    data = {
        name: httpx.get(entry["url"]).content
        for name, entry in (("png", image), ("wav", speech), ("mp4", item))
    }

    assert (image["content_type"], image["width"], image["height"]) == ("image/png", 540, 720)
    assert (item["content_type"], item["width"], item["height"], item["fps"]) == ("video/mp4", 540, 540, 25)
    assert item["duration_ms"] == speech["duration_ms"]
    assert video["cost"] == pytest.approx(0.05 * speech["duration_ms"] / 1000, abs=1e-3)
    assert (data["png"][:4], data["wav"][:4], data["mp4"][4:8]) == (b"\x89PNG", b"RIFF", b"ftyp")


@pytest.mark.slow
def test_the_result_lies_on_another_host_that_sees_no_key(emu: Emulator, hedra: Client) -> None:
    """Result URLs are signed links to another port, fresh each time, and dead after an hour."""
    job = hedra.run("sana", **PORTRAIT)
    url = job["outputs"][0]["url"]
    alive = httpx.get(url).status_code
    emu.advance(3700)
    again = hedra.ask("GET", f"/jobs/{job['job_id']}").json()["outputs"][0]

    assert httpx.URL(url).port != httpx.URL(hedra.url).port
    assert (alive, httpx.get(url).status_code, httpx.get(again["url"]).status_code) == (200, 403, 200)


def test_outputs_expire(emu: Emulator, hedra: Client) -> None:
    """After a day an output is EXPIRED, without url and asset."""
    job = hedra.run("sana", **PORTRAIT)
    emu.advance(24 * 3600 + 1)
    item = hedra.ask("GET", f"/jobs/{job['job_id']}").json()["outputs"][0]

    assert (item["status"], item["url"], item["asset_id"]) == ("EXPIRED", None, None)


@pytest.mark.slow
def test_an_upload_is_good_for_an_hour_and_only_by_its_own_url(emu: Emulator, hedra: Client) -> None:
    """A changed URL is external, an old one expired, a wrong type refused, each naming its field."""
    files = {"file": ("a.wav", tone(1.0))}
    uploaded = hedra.ask("POST", "/files", files=files)
    url = uploaded.json()["url"]
    image = hedra.run("sana", **PORTRAIT)["outputs"][0]["asset_id"]

    def estimate(**audio: str) -> tuple[int, Any]:
        references = {"start_image": {"source": "asset", "asset_id": image}, "audio": audio}
        settings = {"prompt": "x", "aspect_ratio": "1:1", "resolution": "540p"}
        reply = hedra.ask("POST", "/models/hedra-avatar/estimate", {"input": settings | references})
        body = reply.json()
        return reply.status_code, body["cost"] if reply.is_success else body["error"]["details"][0]["reason"]

    good = estimate(source="url", url=url)
    changed = estimate(source="url", url=url + "&x=1")
    wrong = estimate(source="asset", asset_id=image)
    emu.advance(3601)
    old = estimate(source="url", url=url)

    assert (uploaded.status_code, uploaded.json()["content_type"]) == (201, "audio/wav")
    assert (good, changed, wrong, old) == ((200, 0.05), (400, "external"), (400, "type"), (400, "expired"))


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"aspect_ratio": "2:1"}, "input.aspect_ratio", "enum"),
        ({"prompt": " "}, "input.prompt", "pattern"),
        ({"prompt": None}, "input.prompt", "required"),
        ({"guidance_scale": 21}, "input.guidance_scale", "maximum"),
        ({"num_inference_steps": 1.5}, "input.num_inference_steps", "type"),
        ({"enhance_prompt": 1}, "input.enhance_prompt", "type"),
        ({"start_keyframe": "x"}, "input.start_keyframe", "additionalProperties"),
    ],
)
def test_inputs_are_checked_against_the_schema(
    hedra: Client, changes: dict[str, Any], field: str, reason: str
) -> None:
    """400 INVALID_ARGUMENT with the field and the reason, for estimate and submit alike."""
    settings = {name: value for name, value in (PORTRAIT | changes).items() if value is not None}
    for path in ("/models/flux-dev", "/models/flux-dev/estimate"):
        reply = hedra.ask("POST", path, {"input": settings})
        error = reply.json()["error"]

        assert (reply.status_code, error["code"], error["param"]) == (400, "INVALID_ARGUMENT", field)
        assert error["details"][0]["reason"] == reason


@pytest.mark.slow
def test_everything_else_that_is_refused(emu: Emulator, hedra: Client) -> None:
    """Keys, models, jobs, money, moderation and rate, each by its code."""
    running = hedra.ask("POST", "/models/sana", {"input": PORTRAIT}).json()["job_id"]
    replies = [
        httpx.get(hedra.url + "/balance"),
        httpx.get(hedra.url + "/balance", headers={"Authorization": "Key a:b"}),
        hedra.ask("GET", "/models/none"),
        hedra.ask("POST", "/models/hedra-character-2", {"input": {}}),
        hedra.ask("GET", "/jobs/none"),
        hedra.ask("POST", "/models/sana", {"input": PORTRAIT, "callback": 1}),
        hedra.ask("GET", "/nothing"),
        hedra.ask("POST", "/tokens", {}),
        hedra.ask("POST", "/files", files={"file": ("a.txt", b"hello world")}),
    ]
    emu.set(hedra_balance_usd=0.0)
    replies.append(hedra.ask("POST", "/models/sana", {"input": PORTRAIT}))
    emu.set(hedra_balance_usd=10.0, hedra_outcome="REFUSED")
    replies.append(hedra.ask("POST", "/models/sana", {"input": PORTRAIT}))
    emu.set(hedra_rate_per_minute=1)
    replies.append(hedra.ask("GET", "/balance"))

    assert running.startswith("job_")
    assert [(reply.status_code, reply.json()["error"]["code"]) for reply in replies] == [
        (401, "UNAUTHORIZED"),
        (401, "UNAUTHORIZED"),
        (404, "NOT_FOUND"),
        (410, "GONE"),
        (404, "NOT_FOUND"),
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (501, "UNAVAILABLE"),
        (400, "INVALID_ARGUMENT"),
        (402, "INSUFFICIENT_BALANCE"),
        (422, "MODERATION_FAILED"),
        (429, "RESOURCE_EXHAUSTED"),
    ]
    assert replies[3].json()["error"]["replaced_by"] == "hedra-avatar"
    assert replies[9].json()["error"]["billing"]["required"] == 0.01
    assert replies[11].headers["retry-after"] == "30"


@pytest.mark.parametrize("outcome", ["FAILED", "MODERATION_FAILED"])
def test_a_failed_job_costs_nothing(emu: Emulator, hedra: Client, outcome: str) -> None:
    """It is HTTP 200 with status FAILED and an error; the wallet is as before."""
    emu.set(hedra_outcome=outcome)
    job = hedra.run("sana", **PORTRAIT)
    code = {"FAILED": "INTERNAL"}.get(outcome, outcome)

    assert (job["status"], job["outputs"], job["error"]["code"]) == ("FAILED", [], code)
    assert hedra.ask("GET", "/balance").json() == {"balance": 10.0, "spent": 0.0, "currency": "USD"}


def test_a_completed_job_may_hold_a_failed_output(emu: Emulator, hedra: Client) -> None:
    """Each output has a status of its own."""
    emu.set(hedra_outcome="ITEM_FAILED")
    job = hedra.run("sana", **PORTRAIT)

    assert (job["status"], job["outputs"][0]["status"], job["outputs"][0]["url"]) == (
        "COMPLETED",
        "FAILED",
        None,
    )


def test_the_same_key_starts_one_job(hedra: Client) -> None:
    """A replayed submit gives the first answer again, says so, and is not paid twice."""
    body = {"input": PORTRAIT, "idempotency_key": "once"}
    first, second = (hedra.ask("POST", "/models/sana", body) for _ in range(2))

    assert first.json()["job_id"] == second.json()["job_id"]
    assert ("x-idempotent-replayed" in first.headers, second.headers["x-idempotent-replayed"]) == (
        False,
        "true",
    )
    assert hedra.ask("GET", "/balance").json()["spent"] == 0.01


def test_a_stream_ends_with_done(hedra: Client) -> None:
    """The event stream tells the states and then the literal that is no JSON."""
    job_id = hedra.ask("POST", "/models/sana", {"input": PORTRAIT}).json()["job_id"]
    text = hedra.ask("GET", f"/jobs/{job_id}/stream").text

    assert '"status": "COMPLETED"' in text
    assert text.endswith("event: done\ndata: [STREAM_DONE]\n\n")
    assert hedra.ask("DELETE", f"/jobs/{job_id}").status_code == 204
