"""The question before a job is paid for: its text, from verb, arguments, backend, price and history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.contract import Verb
from backend.jobs.journal import Entry
from backend.verbs.request import Request, read
from mcp_server.spending import PastJob, Price, past_jobs, question

FACE = {"portrait_image": "avatars/odin.png"}


def request(verb: Verb, **given: Any) -> Request:
    return read(verb, given)


@pytest.mark.parametrize(
    ("requested", "facts"),
    [
        (
            request("portrait", prompt="Odin", width=512, height=768, output_path="x.png"),
            "prompt 'Odin', width 512, height 768; size: 512 × 768 pixels.",
        ),
        (request("imagine", description="a ship"), "description 'a ship'; size: the model's default."),
        (
            request("imagine", description="a ship", width=512),
            "description 'a ship', width 512; size: 512 × default pixels.",
        ),
        (
            request("tts", text="Hail.", voice_reference="voices/odin.wav", speed=1.5),
            "text 'Hail.', voice_reference 'voices/odin.wav', speed 1.5; size: 5 characters of text.",
        ),
        (
            request("lipsync", audio="a.wav", **FACE, use_interframe=False),
            (
                "audio 'a.wav', portrait_image 'avatars/odin.png', use_interframe no; "
                "size: video of 12 s, shorter side 512 pixels."
            ),
        ),
        (
            request("lipsync", audio="a.wav", **FACE, duration=3),
            (
                "audio 'a.wav', portrait_image 'avatars/odin.png', duration 3; "
                "size: video of 3.0 s, shorter side 512 pixels."
            ),
        ),
    ],
)
def test_it_names_the_verb_the_arguments_and_the_size(requested: Request, facts: str) -> None:
    """Files by name; the place of the result is not part of it."""
    text = question(requested, "runpod", Price(), [], audio_s=12.34)

    assert text == (
        f"Run {requested.verb} on runpod? {facts} Unknown price. No such job was finished before."
    )


def test_audio_of_unknown_length_is_not_guessed() -> None:
    """The length is unknown; so it says."""
    text = question(request("lipsync", audio="a.wav", **FACE), "runpod", Price(), [])

    assert "size: video of unknown length, shorter side 512 pixels." in text


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (Price(), "Unknown price."),
        (Price(usd_per_hour=1.116), "A worker at RunPod costs at most $1.12 an hour."),
        (
            Price(usd_per_job_max=0.5),
            "Hedra sets a price for each job; above $0.50 (HEDRA_MAX_USD) it is refused.",
        ),
        (
            Price(usd_per_hour=2, usd_per_job_max=1),
            (
                "A worker at RunPod costs at most $2.00 an hour. "
                "Hedra sets a price for each job; above $1.00 (HEDRA_MAX_USD) it is refused."
            ),
        ),
    ],
)
def test_it_names_the_price_or_that_it_is_unknown(price: Price, says: str) -> None:
    """A chain of backends has one of each."""
    assert f"default. {says} No such job" in question(
        request("imagine", description="a ship"), "runpod", price, []
    )


@pytest.mark.parametrize(
    ("history", "says"),
    [
        ([], "No such job was finished before."),
        ([PastJob(4.26)], "The last such job took 4.3 s."),
        ([PastJob(45.2, 0.0141)], "The last such job took 45 s and cost about $0.01."),
        (
            [PastJob(200, 0.2), PastJob(4, None), PastJob(9.96, 0.0012)],
            "The last 3 such jobs took 4.0 s to 200 s and cost about $0.0012 to $0.20.",
        ),
        ([PastJob(0, 0), PastJob(0, 0)], "The last 2 such jobs took 0.0 s and cost about $0.0000."),
    ],
)
def test_it_says_what_earlier_jobs_took(history: list[PastJob], says: str) -> None:
    """Seconds, and dollars where they are known; one value where they are equal."""
    text = question(request("imagine", description="a ship"), "runpod", Price(), history)

    assert text.endswith(f"Unknown price. {says}")


def entry(number: int, **changes: Any) -> Entry:
    result = {"timings": {"run": float(number), "total": 900.0}}
    fields = {"key": f"k{number}", "verb": "tts", "endpoint_id": "ep", "result": result} | changes
    return Entry(**fields)


def test_history_is_the_newest_of_the_same_verb_and_backend() -> None:
    """Failed jobs, other verbs and other backends say nothing about it; a charge outranks an estimate."""
    entries = [
        entry(1, verb="portrait"),
        entry(2, backend="hedra", usd=0.25),
        entry(3, result=None),
        entry(4, result={"timings": {"run": "long"}}),
        entry(5, result={"timings": []}),
        entry(6),
        entry(7, result={"timings": {"total": 36.0}}),
        entry(8, usd=0.5),
        entry(9),
    ]

    assert past_jobs(entries, "tts", ["runpod"], 100.0) == [
        PastJob(6.0, 6 / 36),
        PastJob(36.0, 1.0),
        PastJob(8.0, 0.5),
    ]
    assert past_jobs(entries, "tts", ["hedra", "local"], 100.0) == [PastJob(2.0, 0.25)]
    assert past_jobs(entries, "tts", ["runpod"], None)[0] == PastJob(6.0, None)


@given(st.text(max_size=5000).filter(lambda text: text.strip() and text.isprintable()))
def test_any_text_is_shown_short_and_on_one_line(text: str) -> None:
    """A prompt of any length or content does not hide the price behind it."""
    requested = Request(verb="imagine", given={"description": text, "style": "\x1b[31m\n" + text})

    shown = question(requested, "runpod", Price(), [])

    assert len(shown) < 600
    assert shown.isprintable()
    assert shown.endswith("size: the model's default. Unknown price. No such job was finished before.")


def test_addresses_lose_their_secrets_and_paths_their_folder() -> None:
    """A signature in an address is nobody's business, nor is the folder of a file."""
    requested = Request(
        verb="lipsync",
        given={
            "audio": "https://x.test/a.wav?X-Amz-Signature=SECRET",
            "portrait_image": Path("/data/me/o.png"),
        },
    )

    shown = question(requested, "runpod", Price(), [])

    assert "SECRET" not in shown
    assert "portrait_image 'o.png'" in shown
