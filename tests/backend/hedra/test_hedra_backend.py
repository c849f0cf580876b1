"""The hedra backend on an emulated Hedra: money, keys, what it cannot do, and every bad end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend import (
    AuthError,
    Backend,
    ConfigError,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    MissingSetting,
    NotSupported,
    Settings,
    Unavailable,
    WaitTimeout,
    get_backend,
)
from backend.errors import RateLimited
from tests.support.emulation import Emulator
from tests.support.small_server import Answer, serving
from tests.support.studio_models import write_wav

API = "/hedra/v3"
GRAPH = {"1": {"class_type": "X", "inputs": {}}}


def client(emu: Emulator, tmp_path: Path, **changes: str) -> Backend:
    env = emu.env | {"COMFYFORM_STATE_DIR": str(tmp_path / "state"), "HEDRA_POLL_S": "0.02"}
    return get_backend("hedra", settings=Settings.from_env(env | {"COMFYFORM_TIMEOUT_S": "20"} | changes))


@pytest.fixture
def hedra(emu: Emulator, tmp_path: Path) -> Iterator[Backend]:
    emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.05)
    with client(emu, tmp_path) as backend:
        yield backend


def spent(backend: Backend) -> float:
    return float(backend.health_check().details["spent"])


# --- money ----------------------------------------------------------------------


def test_the_price_is_asked_for_before_the_job(emu, hedra):
    """And is told with the job, which is the only thing that costs."""
    events: list[Any] = []

    hedra.imagine(description="a fox", on_progress=events.append).raise_for_failure()
    calls = [call["path"] for call in emu.requests("POST", f"{API}/*")]

    assert calls == [f"{API}/models/flux-dev/estimate", f"{API}/models/flux-dev"]
    assert (events[0]["state"], events[0]["usd"], spent(hedra)) == ("SUBMITTED", 0.03, 0.03)


def test_a_job_above_the_limit_is_not_submitted(emu, tmp_path):
    """The error names price, limit and variable; nothing was paid and nothing is in the journal."""
    with client(emu, tmp_path, HEDRA_MAX_USD="0.02") as careful:
        with pytest.raises(ConfigError, match=r"would cost \$0.03 at Hedra, and HEDRA_MAX_USD is 0.02"):
            careful.imagine(description="a fox")
        assert spent(careful) == 0

    assert emu.requests("POST", f"{API}/models/flux-dev") == []
    assert not (tmp_path / "state" / "jobs").exists()


def test_an_answer_that_is_lost_is_not_paid_for_twice(emu, hedra):
    """The second attempt has the same key, and gets the same job."""
    emu.fault(f"{API}/models/flux-dev", method="POST", cut="after")

    result = hedra.imagine(description="a fox").raise_for_failure()

    assert len(emu.requests("POST", f"{API}/models/flux-dev")) == 2
    assert (result.success, spent(hedra)) == (True, 0.03)


def test_an_empty_wallet_is_told_by_the_health_and_by_the_job(emu, hedra):
    """402 says what to do."""
    emu.set(hedra_balance_usd=0.0)

    health, result = hedra.health_check(), hedra.imagine(description="a fox")

    assert (health.healthy, health.error) == (False, "The wallet at Hedra is empty: add funds.")
    assert isinstance(result.exception, Forbidden)
    assert "Add funds to the API wallet" in str(result.error)


def test_without_a_key_nothing_begins():
    """The variable is named."""
    with pytest.raises(MissingSetting, match="HEDRA_API_KEY is not set"):
        get_backend("hedra", settings=Settings())


def test_a_wrong_key_is_told(emu, tmp_path):
    """By the health, and by a job as a typed failure; the key is in neither."""
    with client(emu, tmp_path, HEDRA_API_KEY="some:secret") as stranger:
        health, result = stranger.health_check(), stranger.imagine(description="a fox")

    assert "Check the key" in str(health.error)
    assert isinstance(result.exception, AuthError)
    assert "secret" not in f"{health} {result}"


# --- what it cannot do, and who can ------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "params", "message"),
    [
        ("workflow", {"graph": GRAPH}, "does not run ComfyUI"),
        ("portrait", {"prompt": "x", "loras": ["a"]}, "does not support loras"),
        ("portrait", {"prompt": "x", "save_to_avatars": True}, "does not support save_to_avatars"),
        ("tts", {"text": "x", "voice_reference": "https://example.com/me.wav"}, "cannot clone one"),
        ("tts", {"text": "x", "voice_reference": "Aria", "seed": 0}, "takes no seed"),
        ("lipsync", {"portrait_image": "a.png", "audio": "b.wav", "seed": 3}, "takes no seed"),
        ("lipsync", {"portrait_image": "avatars/a.png", "audio": "b.wav"}, "not found on this machine"),
    ],
)
def test_what_it_cannot_do_names_who_can(emu, hedra, verb, params, message):
    """Before anything is sent up or paid."""
    with pytest.raises(NotSupported, match=rf"{message}.*The local, runpod and cloud backends can"):
        getattr(hedra, verb)(**params)

    assert emu.requests("POST", f"{API}/*") == []


def test_a_recording_is_not_cloned(hedra, tmp_path):
    """A file here is a voice to clone."""
    with pytest.raises(NotSupported, match="cannot clone one"):
        hedra.tts(text="x", voice_reference=write_wav(tmp_path / "me.wav"))


def test_a_job_cannot_be_cancelled(hedra):
    """It goes on, and is paid for."""
    with pytest.raises(NotSupported, match=r"cannot cancel job job_1.*backends can"):
        hedra.cancel("job_1")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"HEDRA_IMAGE_MODEL": "nope"},
            "Available: flux-dev, sana, gpt-image-2. Set HEDRA_IMAGE_MODEL to one of them",
        ),
        ({"HEDRA_IMAGE_MODEL": "elevenlabs-v3"}, "has no image output. Available: flux-dev"),
        (
            {"HEDRA_IMAGE_MODEL": "hedra-character-2"},
            "retired. Available: hedra-avatar. Set HEDRA_IMAGE_MODEL",
        ),
    ],
)
def test_a_model_is_checked_against_those_that_there_are(emu, tmp_path, env, message):
    """One that is not there, that makes something else, or that was retired names what there is."""
    with client(emu, tmp_path, **env) as backend, pytest.raises(NotSupported, match=message):
        backend.imagine(description="a fox")


def test_a_voice_that_is_not_there_names_those_that_are(hedra):
    """By name, whatever its case."""
    with pytest.raises(NotSupported, match="Available: Aria, Brian, Charlotte"):
        hedra.tts(text="x", voice_reference="Bob")


# --- what it makes of what was asked for ---------------------------------------------


def test_sizes_and_numbers_become_what_the_model_has(hedra, tmp_path):
    """The nearest, and the result says so; what it has not is left out."""
    result = hedra.portrait(
        prompt="odin", width=832, height=1216, steps=80, sampler="euler", output_path=tmp_path / "o.jpg"
    ).raise_for_failure()

    assert result.warnings == (
        "flux-dev makes no 832x1216: 3:4 at 720p was asked for instead.",
        "flux-dev takes no steps of 80: 50 was used.",
        "flux-dev has no sampler: it was left out.",
        "o.jpg holds PNG, whatever its suffix says.",
    )


@pytest.mark.slow
def test_a_film_has_the_portraits_shape(emu, hedra, tmp_path):
    """Read from where an earlier result lies, or from the file that goes up."""
    wav = write_wav(tmp_path / "v.wav")
    tall = hedra.portrait(prompt="odin", width=720, height=1280).raise_for_failure().files[0]
    wide = hedra.portrait(prompt="odin", width=1280, height=720, output_path=tmp_path / "o.png")

    films = [
        hedra.lipsync(portrait_image=source, audio=wav, duration=1).raise_for_failure()
        for source in (tall, wide.raise_for_failure().files[0].local_path)
    ]
    sizes = [
        (created["width"], created["height"]) for film in films for created in outputs_of(emu, film.job_id)
    ]

    assert sizes == [(540, 960), (960, 540)]
    assert [film.warnings for film in films] == [(), ()]


def outputs_of(emu: Emulator, job_id: str | None) -> list[dict[str, Any]]:
    """What Hedra says that a job made."""
    headers = {"Authorization": f"Key {emu.env['HEDRA_API_KEY']}"}
    reply = httpx.get(f"{emu.env['HEDRA_API_URL']}/jobs/{job_id}", headers=headers)
    outputs: list[dict[str, Any]] = reply.json()["outputs"]
    return outputs


@pytest.mark.slow
def test_the_same_bytes_are_sent_up_once(emu, hedra, tmp_path):
    """While Hedra keeps them."""
    wav = write_wav(tmp_path / "v.wav")
    face = hedra.portrait(prompt="odin").raise_for_failure().files[0]

    for _ in range(2):
        hedra.lipsync(portrait_image=face, audio=wav, duration=1).raise_for_failure()

    assert len(emu.requests("POST", f"{API}/files")) == 1


# --- how jobs end ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ("FAILED", JobFailed, "could not be finished"),
        ("MODERATION_FAILED", JobFailed, "Hedra's moderation refuses it"),
        ("CANCELLED", JobCancelled, "was cancelled"),
        ("DEADLINE_EXCEEDED", JobExpired, "timed out at Hedra"),
        ("ITEM_FAILED", JobFailed, "lost"),
        ("REFUSED", InvalidRequest, "refused by moderation"),
    ],
)
def test_every_end_has_its_error(emu, hedra, outcome, error, message):
    """Also a completed job whose only output failed."""
    emu.set(hedra_outcome=outcome)

    result = hedra.imagine(description="a fox")

    assert type(result.exception) is error
    assert message in str(result.error)


def test_what_is_no_longer_kept_is_expired(emu, hedra):
    """A day later the job is known, and its output gone."""
    job = hedra.submit("imagine", description="a fox")
    job.wait().raise_for_failure()
    emu.advance(24 * 3600 + 1)

    assert isinstance(job.wait().exception, JobExpired)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 200, "body": {"status": "PONDERING"}},
        {"cut": "before"},
    ],
)
def test_a_look_that_fails_changes_nothing(emu, hedra, fault):
    """The job goes on, and so does the waiting; a status that nobody knows is waited out."""
    emu.fault(f"{API}/jobs/*/status", method="GET", times=2, **fault)

    assert hedra.imagine(description="a fox").raise_for_failure().success


@pytest.mark.slow
@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (429, RateLimited), (500, Unavailable)])
def test_every_refusal_of_a_submission_has_its_error(emu, hedra, status, error):
    """The envelope's own words are in it."""
    body = {"error": {"code": "X", "message": "because of X", "retryable": False}}
    emu.fault(f"{API}/models/sana", method="POST", times=0, status=status, body=body)

    result = hedra.imagine(description="a fox", model="sana")

    assert type(result.exception) is error
    assert "because of X" in str(result.error)


def test_past_the_deadline_the_job_can_be_resumed(emu, hedra, tmp_path):
    """It is paid for: the error names it, and another client fetches it to where it was to go."""
    emu.set(hedra_job_s=5.0)
    result = hedra.imagine(description="a fox", timeout_s=2.0, output_path=tmp_path / "fox.png")
    with client(emu, tmp_path) as other:
        resumed = other.resume(str(result.job_id)).raise_for_failure()

    assert isinstance(result.exception, WaitTimeout)
    assert f"backend.resume({result.job_id!r})" in str(result.error)
    assert resumed.files[0].local_path == tmp_path / "fox.png"
    assert (tmp_path / "fox.png").is_file()


# --- where the key goes ---------------------------------------------------------------


def test_the_key_reaches_no_host_of_a_result(emu, hedra, tmp_path):
    """Neither the host of the link, nor the port that it redirects to."""
    with serving(lambda _: Answer(body=b"bytes")) as last:
        hop = Answer(status=302, headers={"location": f"{last.url}/there"})
        with serving(lambda _: hop) as first:
            item = {"status": "COMPLETED", "asset_id": "asset_1", "url": f"{first.url}/x", "error": None}
            body = {"job_id": "j", "outputs": [item | {"content_type": "image/png"}], "error": None}
            job = hedra.submit("imagine", description="a fox")
            emu.fault(f"{API}/jobs/{job.id}", method="GET", status=200, body=body)
            job.wait(output_path=tmp_path / "x.png").raise_for_failure()

    assert (tmp_path / "x.png").read_bytes() == b"bytes"
    assert [seen.path for seen in (*first.seen, *last.seen)] == ["/x", "/there"]
    assert not any("authorization" in seen.headers for seen in (*first.seen, *last.seen))


def test_a_link_that_has_died_is_asked_for_again(emu, hedra, tmp_path):
    """Links live for an hour, outputs for a day."""
    emu.fault("/cdn/hedra/*", method="GET", status=403)

    hedra.imagine(description="a fox", output_path=tmp_path / "x.png").raise_for_failure()

    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
