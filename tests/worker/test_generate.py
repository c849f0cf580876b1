"""A job's arguments become names below ComfyUI's inputs; a missing model is named with its place."""

import pytest

from backend.comfyui.refusals import refusal
from backend.errors import InvalidArgument, JobFailed
from worker.comfyui.missing_models import explained
from worker.generate import named, require_inputs


def test_a_name_is_never_a_path_of_the_worker(tmp_path, monkeypatch):
    """A client's library takes a text for a file of its machine; in a job it would be one of ours."""
    (tmp_path / "secret.wav").write_text("ours")
    monkeypatch.chdir(tmp_path)

    request, fetched = named("lipsync", {"portrait_image": "a.png", "audio": "secret.wav"}, ())

    assert request.given == {"portrait_image": "a.png", "audio": "secret.wav"}
    assert fetched == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.wav", "~/x.wav", "C:\\x.wav", "a/../../x.wav"])
def test_a_name_that_leaves_the_inputs_is_refused(name):
    """Before any file is looked at."""
    with pytest.raises(InvalidArgument, match=r"audio .* is refused"):
        named("lipsync", {"portrait_image": "a.png", "audio": name}, ())


def test_an_address_becomes_a_file_to_bring():
    """It is fetched by the worker under its own rules, never by the library under it."""
    url = "https://example.com/faces/Odin%20%C3%A4.png?signature=x"

    request, fetched = named("lipsync", {"portrait_image": url, "audio": "a.wav"}, ())

    assert request.given["portrait_image"] == "portrait_image-Odin_ä.png"
    assert fetched == [{"name": "portrait_image-Odin_ä.png", "url": url}]


def test_where_a_result_goes_is_the_workers_business():
    """A job cannot name a place to write to."""
    request, _ = named("portrait", {"prompt": "x", "output_path": "/etc/cron.d/x"}, ())

    assert (request.output_path, request.given) == (None, {"prompt": "x"})


def test_a_wrong_argument_is_refused_by_name():
    """All mistakes at once, with what is allowed."""
    with pytest.raises(InvalidArgument, match=r"'promt' is not an argument.*did you mean 'prompt'"):
        named("portrait", {"promt": "x"}, ())


def test_files_that_are_not_there_are_named_together(tmp_path):
    """With both ways to bring them."""
    (tmp_path / "a.png").write_text("there")
    request, _ = named("lipsync", {"portrait_image": "a.png", "audio": "voices/a.wav"}, ())

    with pytest.raises(InvalidArgument, match=r"lipsync: audio 'voices/a.wav' is not there\. Send files in"):
        require_inputs(request, tmp_path)


def test_a_missing_model_is_named_with_its_place_on_the_volume():
    """The place is what a registry entry would give it; a program finds it beside the sentence."""
    errors = [
        {
            "type": "value_not_in_list",
            "details": "",
            "extra_info": {"input_name": name, "input_config": [[], {}], "received_value": value},
        }
        for name, value in (("ckpt_name", "a/b.safetensors"), ("lora_name", "c.safetensors"))
    ]
    body = {"error": {"type": "x"}, "node_errors": {"1": {"class_type": "Loader", "errors": errors}}}

    error = explained(refusal(body, {}))

    assert isinstance(error, JobFailed)
    assert error.output == {
        "missing_models": ["models/checkpoints/a/b.safetensors", "models/loras/c.safetensors"]
    }
    assert str(error).endswith("name the model in models-registry.yaml and run `inv models.sync`.")


def test_other_refusals_keep_their_words():
    """A node that is missing is no missing model."""
    body = {"error": {"type": "missing_node_type", "message": "Node 'X' not found."}, "node_errors": {}}
    message = str(refusal(body, {}))

    assert str(explained(refusal(body, {}))) == message
