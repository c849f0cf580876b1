"""Graphs against node definitions, and the validator that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend import InvalidArgument, Problem, validate
from backend.comfyui.build_workflow import plan
from backend.flow.http_driver import Http
from backend.runpod.preflight import DefinitionsOnly, _on_paper
from backend.verbs.families.architectures import ARCHITECTURES, recognise
from backend.verbs.families.text_to_image import picture
from backend.verbs.graph_structure import check_structure
from backend.verbs.lipsync import svd_name, talking_head
from backend.verbs.request import read
from backend.verbs.tts import model_type_of, speech
from backend.verbs.verb import Graph
from backend.verbs.workflow import renamed

# Our own cut of what ComfyUI 0.29, F5-TTS 1.0.26 and SONIC 8556234 answer to /object_info.
CASES = Path(__file__).parents[2] / "cases"
OBJECT_INFO: dict[str, Any] = json.loads((CASES / "object_info.json").read_text())


def a_picture(name: str = "sdxl", **changes: Any) -> Graph:
    values = {
        "checkpoint": "sdxl.safetensors",
        "prompt": "a fox",
        "negative_prompt": "blurry",
        "width": 768,
        "height": 1024,
        "steps": 20,
        "cfg": 7.0,
        "seed": 5,
        "sampler": "euler",
        "scheduler": "normal",
        "filename_prefix": "p",
    }
    return picture(ARCHITECTURES[name], **{**values, **changes})  # type: ignore[index]  # a test's shorthand


def a_speech(**changes: Any) -> Graph:
    values = {
        "voice": "voice.wav",
        "voice_text": "",
        "text": "Hello",
        "speed": 1.0,
        "seed": 5,
        "model": "F5v1",
        "model_type": None,
        "vocoder": "vocos",
        "filename_prefix": "s",
    }
    return speech(**{**values, **changes})


def a_talking_head(**changes: Any) -> Graph:
    values = {
        "portrait": "face.png",
        "audio": "voice.wav",
        "duration_s": 3.0,
        "inference_steps": 25,
        "fps": 25.0,
        "svd_checkpoint": "video/svd_xt_1_1.safetensors",
        "sonic_unet": "unet.pth",
        "dtype": "fp16",
        "min_resolution": 512,
        "expand_ratio": 0.5,
        "dynamic_scale": 1.0,
        "ip_audio_scale": 1.0,
        "use_interframe": True,
        "seed": 5,
        "filename_prefix": "f",
    }
    return talking_head(**{**values, **changes})


@pytest.mark.parametrize(
    "graph",
    [
        *(a_picture(name) for name in ARCHITECTURES),
        a_picture(loras=[{"name": "film.safetensors"}] * 2),
        a_speech(),
        a_speech(model="E2", speed=2.0),
        a_talking_head(),
    ],
)
def test_every_graph_is_one_that_comfyui_takes(graph):
    """No node, input, type, range or choice is other than the packs define."""
    check_structure(graph)

    assert validate(graph, OBJECT_INFO) == []


def test_loras_are_chained_between_checkpoint_and_sampler():
    """Both models and both encoders go through all of them, in order."""
    graph = a_picture(loras=[{"name": "a", "strength_model": 0.5, "strength_clip": 0.4}, {"name": "b"}])

    assert graph["lora_1"]["inputs"]["model"] == ["checkpoint", 0]
    assert graph["lora_2"]["inputs"]["model"] == ["lora_1", 0]
    assert graph["sampler"]["inputs"]["model"] == ["lora_2", 0]
    assert graph["positive"]["inputs"]["clip"] == graph["negative"]["inputs"]["clip"] == ["lora_2", 1]
    assert graph["lora_1"]["inputs"]["strength_clip"] == 0.4


def test_flux_is_guided_by_conditioning():
    """It samples at cfg 1 with an empty negative; the guidance goes into its own node."""
    graph = a_picture("flux-dev", cfg=3.5)

    assert graph["sampler"]["inputs"]["cfg"] == 1.0
    assert graph["sampler"]["inputs"]["positive"] == ["guidance", 0]
    assert graph["guidance"]["inputs"]["guidance"] == 3.5
    assert graph["negative"]["inputs"]["text"] == ""
    assert graph["latent"]["class_type"] == "EmptySD3LatentImage"


def test_speed_means_what_it_says():
    """Twice as fast for the caller is a stretch of one half for the node."""
    assert a_speech(speed=2.0)["speech"]["inputs"]["speed"] == 0.5
    assert model_type_of("F5v1") == model_type_of("model://mine.safetensors") == "F5TTS_v1_Base"
    assert (model_type_of("F5-DE"), model_type_of("E2")) == ("F5TTS_Base", "E2TTS_Base")


def test_an_svd_checkpoint_gets_its_folder_once():
    """A bare name lies in video/; one with a folder is left alone."""
    assert (
        svd_name("svd_xt.safetensors") == svd_name("video/svd_xt.safetensors") == "video/svd_xt.safetensors"
    )


@pytest.mark.parametrize(
    ("checkpoint", "metadata", "expected"),
    [
        ("sd_xl_base_1.0.safetensors", {}, "sdxl"),
        ("flux1-schnell-fp8.safetensors", {}, "flux-schnell"),
        ("flux1-dev.safetensors", {}, "flux-dev"),
        ("ponyDiffusionV6XL.safetensors", {}, "pony"),
        ("waiIllustriousSDXL_v140.safetensors", {}, "illustrious"),
        ("juggernautXL_v9.safetensors", {}, "sdxl"),
        ("v1-5-pruned-emaonly.safetensors", {}, "sd15"),
        ("Deliberate_v5.safetensors", {}, "sd15"),
        ("sub/dreamshaper_8.safetensors", {}, "sd15"),
        ("dreamshaperXL_turbo.safetensors", {}, "sdxl"),
        ("mine.safetensors", {"modelspec.architecture": "stable-diffusion-v1"}, "sd15"),
        ("Deliberate.safetensors", {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, "sdxl"),
        ("pony.safetensors", {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, "pony"),
        ("mine.safetensors", {"modelspec.architecture": "flux-1-schnell"}, "flux-schnell"),
    ],
)
def test_an_architecture_is_told_by_metadata_then_by_name(checkpoint, metadata, expected):
    """What a file says of itself counts more than what it is called."""
    architecture, certain = recognise(checkpoint, metadata)

    assert (architecture.name, certain) == (expected, True)


def test_an_architecture_that_nothing_tells_is_a_guess():
    """SDXL is the likeliest, and the caller learns that it was guessed."""
    architecture, certain = recognise("mystery.safetensors")

    assert (architecture.name, certain) == ("sdxl", False)


@pytest.mark.parametrize(
    ("node", "change", "message"),
    [
        (
            "sampler",
            {"sampler_name": "magic"},
            "'magic' is not available; choose one of euler, euler_ancestral, dpmpp_2m",
        ),
        ("checkpoint", {"ckpt_name": "gone.safetensors"}, "'gone.safetensors' is not available"),
        ("sampler", {"steps": 0}, "0 is not from 1 to 10000"),
        ("sampler", {"cfg": "much"}, "'much' is not a number"),
        (
            "decode",
            {"samples": ["checkpoint", 1]},
            "it takes LATENT, and output 1 of node checkpoint is CLIP",
        ),
        ("decode", {"samples": ["checkpoint", 9]}, "node checkpoint has no output 9"),
        ("decode", {"vae": 5}, "it takes a link to VAE, not 5"),
    ],
)
def test_the_validator_names_node_input_and_what_is_allowed(node, change, message):
    """Each problem is one sentence that can be acted on."""
    graph = a_picture()
    graph[node]["inputs"].update(change)

    (problem,) = validate(graph, OBJECT_INFO)

    assert (problem.node_id, problem.class_type, problem.input) == (node, graph[node]["class_type"], *change)
    assert problem.sentence.startswith(message)


@pytest.mark.parametrize(
    ("verb", "inputs"),
    [
        ("portrait", {"prompt": "x", "model": "sdxl.safetensors"}),
        ("imagine", {"description": "x", "loras": ["film.safetensors"]}),
        ("tts", {"text": "x", "voice_reference": "v.wav"}),
        ("lipsync", {"portrait_image": "p.png", "audio": "a.wav"}),
        ("talk", {"text": "x", "voice_reference": "v.wav", "portrait_image": "p.png"}),
    ],
)
def test_every_verb_is_planned_into_a_graph_that_comfyui_takes(verb, inputs):
    """As the pre-flight plans it: with definitions alone, and no ComfyUI to ask."""
    with Http() as http:
        planned = http.run(plan(DefinitionsOnly(OBJECT_INFO), _on_paper(read(verb, inputs))))

    assert validate(planned.graph, OBJECT_INFO) == []


def test_talk_is_one_graph_whose_film_hears_the_speech():
    """No file between them: what the voice says goes into the features and into the film."""
    film = a_talking_head(audio=["speech", 0])

    assert "audio" not in film
    assert film["features"]["inputs"]["audio"] == film["video"]["inputs"]["audio"] == ["speech", 0]


def test_the_validator_finds_everything_at_once():
    """A missing input and an unknown node are both said; nothing that saves is said last."""
    graph = a_picture()
    del graph["positive"]["inputs"]["text"]
    graph["save"]["class_type"] = "SaveHologram"

    problems = validate(graph, OBJECT_INFO)

    assert [str(problem) for problem in problems] == [
        "node positive (CLIPTextEncode), input text: it is missing",
        "node save (SaveHologram): this ComfyUI has no such node",
    ]
    assert validate({"1": a_picture()["checkpoint"]}, OBJECT_INFO) == [
        Problem(node_id="-", class_type="-", input="", sentence="no node saves or shows anything")
    ]


def test_both_forms_of_a_list_are_read():
    """Nodes change from the old form of a choice to the new one between versions of ComfyUI."""
    old = {"N": {"input": {"required": {"a": [["x", "y"], {}]}}, "output_node": True}}
    new = {"N": {"input": {"required": {"a": ["COMBO", {"options": ["x", "y"]}]}}, "output_node": True}}
    graph = {"1": {"class_type": "N", "inputs": {"a": "z"}}}

    assert (
        [p.allowed for p in validate(graph, old)] == [p.allowed for p in validate(graph, new)] == [("x", "y")]
    )


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"nodes": [], "links": []}, "Export it in API format"),
        ({"1": {"inputs": {}}}, "node 1 (?): it has no class_type"),
        ({"1": {"class_type": "A"}}, "node 1 (A): it has no inputs"),
        ({"1": {"class_type": "SaveA", "inputs": {"x": ["9", 0]}}}, "input x: it is linked to a node '9'"),
        ({"1": {"class_type": "SaveA", "inputs": {"x": [1, 0]}}}, "a node 1 (int; an id is a text)"),
    ],
)
def test_what_can_be_no_workflow_is_refused_before_it_is_sent(graph, message):
    """ComfyUI answers these with a 500 or a KeyError, RunPod after a worker was paid to start."""
    with pytest.raises(InvalidArgument) as caught:
        check_structure(graph)

    assert message in str(caught.value)


def test_files_of_a_workflow_are_renamed_wherever_they_stand():
    """Only whole values that are a name of an input change; the caller's graph does not."""
    graph: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "me.png", "n": 3, "text": "me.png!"}}
    }

    result = renamed(graph, {"me.png": "comfyform/x_me.png"})

    assert result["1"]["inputs"] == {"image": "comfyform/x_me.png", "n": 3, "text": "me.png!"}
    assert graph["1"]["inputs"]["image"] == "me.png"
