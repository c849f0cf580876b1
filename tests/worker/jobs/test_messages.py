"""A job as it comes, read into a request; and the frame of every answer."""

import json
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from backend.errors import InvalidArgument, JobFailed, SourceMissing
from worker.jobs import messages
from worker.jobs.messages import Request


def read(job_input: Any, **job: Any) -> Request:
    return messages.read({"id": "job-1", "input": job_input, **job})


def test_a_job_without_action_and_workflow_is_a_portrait():
    """The oldest clients send no action."""
    request = read({"prompt": "Odin", "seed": None})

    assert request == Request("job-1", "portrait", {"prompt": "Odin"})


@pytest.mark.parametrize(
    ("job_input", "action", "params"),
    [
        ({"action": "portrait", "description": "Odin"}, "portrait", {"prompt": "Odin"}),
        ({"action": "portrait", "description": "x", "prompt": "Odin"}, "portrait", {"prompt": "Odin"}),
        ({"action": "imagine", "prompt": "a fjord"}, "imagine", {"description": "a fjord"}),
        (
            {"action": "tts", "text": "Hi", "voice_sample": "voices/odin.wav", "sample_text": "I am"},
            "tts",
            {"text": "Hi", "voice_reference": "voices/odin.wav", "voice_reference_text": "I am"},
        ),
        (
            {"action": "tts", "text": "Hi", "sample": "odin.wav"},
            "tts",
            {"text": "Hi", "voice_reference": "voices/odin.wav"},
        ),
        (
            {"action": "lipsync", "portrait_image": "a.png", "audio": "b.wav", "contract": 1},
            "lipsync",
            {"portrait_image": "a.png", "audio": "b.wav"},
        ),
    ],
)
def test_the_origins_field_names_are_understood(job_input, action, params):
    """Each concept has one name inside, whatever name it came under."""
    request = read(job_input)

    assert (request.action, request.params) == (action, params)


@pytest.mark.parametrize(
    "envelope", [{}, {"contract": 1}, {"contract": 2, "journal_key": "20261130T1-ab"}, {"journal_key": "k"}]
)
def test_jobs_of_this_contract_and_earlier_ones_are_taken(envelope):
    """A worker that is deployed before its clients serves them; the journal's key is not an argument."""
    request = read({"action": "portrait", "prompt": "Odin", **envelope})

    assert (request.action, request.params) == ("portrait", {"prompt": "Odin"})


def test_worker_comfyuis_input_is_a_workflow_in_that_form():
    """RunPod's own worker takes a workflow and images; so does this one."""
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}

    request = read({"workflow": graph, "images": [{"name": "a.png", "image": "aGk="}]})

    assert request == Request(
        "job-1",
        "workflow",
        {"workflow": graph},
        inputs=({"name": "a.png", "data": "aGk="},),
        form="worker-comfyui",
    )


@pytest.mark.parametrize(
    ("job_input", "says"),
    [
        (None, "NoneType, not an object"),
        ("a text", "str, not an object"),
        ({"action": "img2video"}, "Unknown action 'img2video'."),
        ({"action": ["portrait"]}, r"Unknown action \['portrait'\]."),
        ({"prompt": "x", "contract": 3}, "The job speaks contract 3, and this worker understands 2."),
        ({"prompt": "x", "contract": "2"}, "The job speaks contract '2', and this worker understands 2."),
        ({"inputs": {"name": "a"}}, "'inputs' must be a list of objects"),
        ({"workflow": {}, "images": ["a.png"]}, "'images' must be a list of objects"),
    ],
)
def test_an_input_without_a_known_form_is_refused(job_input, says):
    """The sentence says what is wrong; nothing else happens."""
    with pytest.raises(InvalidArgument, match=says):
        read(job_input)


@pytest.mark.parametrize(
    ("policy", "deadline_s"),
    [
        ({"executionTimeout": 60_000}, 55.0),
        ({"executionTimeout": 5_000}, 1.0),
        ({"ttl": 1}, None),
        (None, None),
    ],
)
def test_the_deadline_leaves_time_to_answer(policy, deadline_s):
    """A worker that runs into RunPod's limit could not say why: it stops a little before."""
    assert read({"prompt": "x"}, policy=policy).deadline_s == deadline_s


def test_a_failure_is_one_sentence_under_error():
    """The SDK ends the job FAILED with it, so it must stand alone, hint included."""
    answer = messages.failure(SourceMissing("No such file.", hint="Send it again."), "1.0", "lipsync")

    assert answer == {
        "error": "No such file. Send it again.",
        "error_type": "SourceMissing",
        "contract": 2,
        "worker_version": "1.0",
        "action": "lipsync",
    }


def test_a_fault_of_the_worker_says_so_without_a_traceback():
    """A client can do nothing with a stack; it must learn that the worker is at fault."""
    answer = messages.failure(KeyError("x"), "1.0", "portrait")

    assert answer["error"] == (
        "The worker failed at portrait: KeyError: 'x'. "
        "This is a fault of the worker; its log has the traceback."
    )


def test_a_success_has_no_error_and_names_its_version():
    """Clients compare the version with their own: an old image keeps running after a deploy."""
    answer = messages.success(Request("j", "health", {}), "0.1.0+abc", {"healthy": True})

    assert answer == {
        "contract": 2,
        "worker_version": "0.1.0+abc",
        "version": "0.1.0+abc",
        "action": "health",
        "status": "success",
        "healthy": True,
    }


def test_worker_comfyuis_clients_find_their_images():
    """Every kind of file is among them: worker-comfyui itself drops sound and VHS films."""
    request = Request("j", "workflow", {}, form="worker-comfyui")
    files = [
        {"type": "image", "filename": "a.png", "data": "aGk=", "encoding": "base64"},
        {"type": "video", "filename": "b.mp4", "url": "https://bucket/b.mp4"},
        {"type": "audio", "filename": "c.flac", "volume_path": "outputs/c.flac"},
    ]

    answer = messages.success(request, "1", {"files": files, "seed": None})

    assert "files" not in answer
    assert answer["images"] == [
        {"filename": "a.png", "type": "base64", "data": "aGk="},
        {"filename": "b.mp4", "type": "s3_url", "data": "https://bucket/b.mp4"},
        {"filename": "c.flac", "type": "volume_path", "data": "outputs/c.flac"},
    ]


def test_a_failure_carries_what_a_program_can_use():
    """Which models are missing, or which node failed, without reading the sentence."""
    error = JobFailed("No.", output={"missing_models": ["models/checkpoints/x.safetensors"]})

    answer = messages.failure(error, "1", "portrait")

    assert answer["details"] == {"missing_models": ["models/checkpoints/x.safetensors"]}


def test_an_answer_can_be_sent_whatever_its_names():
    """RunPod's SDK sends UTF-8, and a worker that cannot send its answer is run, and paid for, once more."""
    name = "bad\udcff.pt"

    answer = messages.success(read({"action": "inventory"}), "1", {"warnings": [name]})
    failed = messages.failure(ValueError(name), "1", "inventory")

    assert answer["warnings"] == ["bad?.pt"]
    assert "bad?.pt" in failed["error"]


def test_worker_comfyuis_clients_may_send_more():
    """Fields of their own are ignored, and the object may come as a text, as there."""
    inputs = {"workflow": {"1": {}}, "user_id": "abc", "metadata": {"a": 1}, "timeout": 5}

    plain, text = (messages.read({"id": "j", "input": form}) for form in (inputs, json.dumps(inputs)))

    assert plain.params == {"workflow": {"1": {}}}
    assert text == plain


@pytest.mark.slow
@generated(
    st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps)
)
def test_a_text_that_is_no_object_is_refused_in_a_sentence(text: str):
    """Nothing but a typed error, whatever the text holds."""
    with pytest.raises(InvalidArgument, match="not an object"):
        messages.read({"id": "j", "input": text})
