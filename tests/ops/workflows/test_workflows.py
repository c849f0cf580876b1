"""What a workflow needs: its models in both forms, its nodes, and who provides each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.contract import FileRecord
from backend.errors import InvalidArgument
from backend.verbs.lipsync import svd_name, talking_head
from ops.models.inventory import Inventory
from ops.registry.load import Model, ModelFile, Registry, load
from ops.workflows.requirements import NeededModel, NeededNode, may_mean, needs, texts

ROOT = Path(__file__).parents[3]
API: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "mine\\x.safetensors", "model": ["1", 0]}},
    "3": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen_3_4b.safetensors"}},
    "4": {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": "vit.safetensors"}},
    "5": {"class_type": "Unheard", "inputs": {"weights": "RealESRGAN_x4plus.pth", "text": "a.b", "n": 1}},
    "6": {"class_type": "F5TTSAudioInputs", "inputs": {"model": "F5v1"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a portrait"}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "models-registry.yaml")


def test_the_api_form(registry: Registry):
    """Inputs name files; where an input is unknown, the name is looked up in every category."""
    there = Inventory.of(
        [FileRecord(path="models/loras/mine/x.safetensors", size_bytes=1, sha256=None, how="unknown")]
    )

    found = needs(json.dumps(API), registry, there)

    assert found.models == (
        NeededModel("RealESRGAN_x4plus.pth", None, "Unheard", "real-esrgan-x4plus"),
        NeededModel("f5-tts", None, "F5TTSAudioInputs", "f5-tts"),
        NeededModel("vocos-mel-24khz", None, "F5TTSAudioInputs", "vocos-mel-24khz"),
        NeededModel("sd_xl_base_1.0.safetensors", "checkpoints", "CheckpointLoaderSimple", "sdxl-base"),
        NeededModel("vit.safetensors", "clip_vision", "CLIPVisionLoader"),
        NeededModel("mine/x.safetensors", "loras", "LoraLoader", None, "models/loras/mine/x.safetensors"),
        NeededModel("qwen_3_4b.safetensors", "text_encoders", "CLIPLoader", "z-image-turbo"),
    )
    assert NeededNode("CLIPTextEncode", 2) in found.nodes
    assert NeededNode("F5TTSAudioInputs", 1, "niknah/ComfyUI-F5-TTS") in found.nodes


def test_the_editors_form(registry: Registry):
    """Widgets name files; properties name folders and packs; a subgraph counts by its nodes."""
    workflow = {
        "nodes": [
            {"type": "sub-1", "widgets_values": []},
            {
                "type": "VAELoader",
                "widgets_values": ["sdxl_vae.safetensors"],
                "properties": {
                    "cnr_id": "comfy-core",
                    "models": [{"name": "sdxl_vae.safetensors", "directory": "vae"}],
                },
            },
        ],
        "definitions": {"subgraphs": [{"id": "sub-1", "nodes": [{"type": "Inner", "widgets_values": {}}]}]},
    }

    found = needs(json.dumps(workflow), registry)

    assert [(model.name, model.category, model.provided_by) for model in found.models] == [
        ("sdxl_vae.safetensors", "vae", "sdxl-vae-fp16-fix")
    ]
    assert found.nodes == (NeededNode("Inner", 1), NeededNode("VAELoader", 1, "comfy-core"))


def test_a_talking_head_is_provided(registry: Registry):
    """The graph that the runtime client sends for lip sync needs nothing that the registry does not have."""
    graph = talking_head(
        portrait="odin.png",
        audio="speech.wav",
        duration_s=1.0,
        inference_steps=25,
        fps=25.0,
        svd_checkpoint=svd_name("svd_xt_1_1.safetensors"),
        sonic_unet="unet.pth",
        dtype="fp16",
        min_resolution=512,
        expand_ratio=0.5,
        dynamic_scale=1.0,
        ip_audio_scale=1.0,
        use_interframe=True,
        seed=1,
        filename_prefix="x",
    )

    found = needs(json.dumps(graph), registry)

    assert found.unprovided == ()
    assert {model.provided_by for model in found.models} == {"sonic", "whisper-tiny", "svd-xt-1-1"}


def saved(*nodes: Any, **more: Any) -> str:
    """Return a workflow as the editor saves it."""
    return json.dumps({"nodes": nodes} | more)


VAE = {"type": "VAELoader", "widgets_values": ["a.safetensors"]}
INSIDE = [
    {"id": "inside", "nodes": [VAE, {"type": "within"}]},
    {"id": "within", "nodes": [{"type": "inside"}]},
]


@pytest.mark.parametrize(
    ("content", "models", "nodes"),
    [
        (saved(VAE), [("vae", "a.safetensors")], ["VAELoader"]),
        (saved(VAE | {"mode": 2}, VAE | {"mode": 4}), [], []),
        (saved({"type": "Note", "widgets_values": ["b.safetensors"]}, {"type": "Reroute"}), [], []),
        (
            saved({"type": "inside"}, definitions={"subgraphs": INSIDE}),
            [("vae", "a.safetensors")],
            ["VAELoader"],
        ),
        (saved({"type": "inside", "mode": 4}, definitions={"subgraphs": INSIDE}), [], []),
        (saved(definitions={"subgraphs": INSIDE}), [], []),
        (
            saved(
                {
                    "type": "UnetLoaderGGUF",
                    "inputs": [{"name": "x"}, {"name": "unet_name", "widget": {"name": "unet_name"}}],
                    "widgets_values": ["a.gguf"],
                }
            ),
            [("diffusion_models", "a.gguf")],
            ["UnetLoaderGGUF"],
        ),
        (saved({"type": "A", "widgets_values": ["two lines\nto b.safetensors"]}), [], ["A"]),
        (
            json.dumps({"1": {"class_type": "A", "inputs": {"t": "(embedding:sub/bad.v2:1.2), a cat"}}}),
            [("embeddings", "sub/bad.v2")],
            ["A"],
        ),
        ("\ufeff" + json.dumps({"input": {"workflow": API}}), None, None),
        (json.dumps({"prompt": API, "client_id": "x"}), None, None),
        *(
            (saved({"type": "A"} | odd), [], ["A"])
            for odd in (
                {"widgets_values": 7},
                {"inputs": [1]},
                {"properties": [1]},
                {"properties": {"models": "abc"}},
                {"properties": {"models": [1, {"directory": "vae"}], "cnr_id": 5}},
            )
        ),
        (saved({"type": None}, {}, 1, None, definitions={"subgraphs": [1, {"nodes": 7}]}), [], []),
        (saved(definitions=[1]), [], []),
        (json.dumps({"1": {"class_type": "A", "inputs": [1]}}), [], ["A"]),
    ],
)
def test_what_runs_is_needed(
    registry: Registry, content: str, models: list[tuple[str, str]] | None, nodes: list[str] | None
):
    """Notes and what is switched off need nothing; files are found by their widgets, and odd is odd."""
    whole = needs(json.dumps(API), registry)

    found = needs(content, registry)

    if models is None or nodes is None:
        assert found == whole
        return
    assert [(model.category, model.name) for model in found.models] == models
    assert [node.name for node in found.nodes] == nodes


def test_an_embedding_is_found_without_its_ending(registry: Registry):
    """As a prompt names it."""
    there = Inventory.of(
        [FileRecord(path="models/embeddings/sub/bad.v2.pt", size_bytes=1, sha256=None, how="unknown")]
    )

    (model,) = needs(
        saved({"type": "A", "widgets_values": ["embedding:sub/bad.v2, x"]}), registry, there
    ).models

    assert model.there == "models/embeddings/sub/bad.v2.pt"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"a": 1}', '{"nodes": 1}', "not json", pytest.param("[" * 100_000, id="deep")],
)
def test_something_else_is_refused(registry: Registry, content: str):
    """It says what to export."""
    with pytest.raises(InvalidArgument, match=r"^(Invalid workflow: |Not a ComfyUI workflow)"):
        needs(content, registry)


SAID = {
    "an input": "mine.safetensors",
    "an input of Windows": "sub\\mine.safetensors",
    "another case": "Mine.SafeTensors",
    "a list": ["x", {"on": True, "lora": "mine.safetensors"}],
    "among others": "first.safetensors,mine.safetensors",
    "a prompt": "a cat <lora:mine:0.8>",
    "an embedding": "bad hands, (embedding:mine:1.2)",
}


@pytest.mark.parametrize("message", SAID.values(), ids=SAID.keys())
@pytest.mark.parametrize("form", ["API", "editor"])
def test_a_file_that_a_workflow_may_mean(message: Any, form: str):
    """Whoever names it, in either form and however deep: it may be meant, and its neighbours are not."""
    graph = {"1": {"class_type": "Unheard", "inputs": {"x": message}}}
    saved = {"nodes": [{"type": "Unheard", "widgets_values": [message]}]}
    found = texts(json.dumps(graph if form == "API" else saved))

    assert may_mean("models/loras/sub/mine.safetensors", found)
    assert not may_mean("models/loras/other.safetensors", found)
    assert not may_mean("models/loras/mine2.safetensors", found)


def test_a_cached_repository_that_a_workflow_may_mean():
    """Nodes that read a Hugging Face cache are told a repository, not a file."""
    graph = {"1": {"class_type": "Unheard", "inputs": {"repo": "SWivid/F5-TTS"}}}
    found = texts(json.dumps(graph))

    assert may_mean("huggingface-cache/hub/models--SWivid--F5-TTS/snapshots/0/model.pt", found)
    assert not may_mean("huggingface-cache/hub/models--SWivid--E2-TTS/snapshots/0/model.pt", found)


RGTHREE: dict[str, Any] = {
    "header": {"type": "PowerLoraLoaderHeaderWidget"},
    "lora_1": {"on": True, "lora": "style\\ink.safetensors", "strength": 0.8},
    "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1},
    "deeper": [[{"models": ["upscale_models/x.pth"]}]],
}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"2": {"class_type": "Power Lora Loader (rgthree)", "inputs": RGTHREE}}),
        saved({"type": "Power Lora Loader (rgthree)", "widgets_values": list(RGTHREE.values())}),
    ],
    ids=["API form", "editor form"],
)
def test_names_at_any_depth_are_needed(registry: Registry, content: str):
    """Node packs keep names within values; what is switched off there is not needed."""
    found = needs(content, registry)

    assert [(model.category, model.name) for model in found.models] == [
        (None, "upscale_models/x.pth"),
        ("loras", "style/ink.safetensors"),
    ]


def test_a_lora_tag_is_needed_where_a_node_reads_it(registry: Registry):
    """ComfyUI's own text encoder leaves tags alone; a tag has no ending."""
    text = "a cat <lora:sub/ink:0.8>, <lora:none>"
    inputs = {"text": text}
    graph = {
        "1": {"class_type": "Loader", "inputs": inputs},
        "2": {"class_type": "CLIPTextEncode", "inputs": inputs},
    }
    there = Inventory.of(
        [{"path": "models/loras/sub/ink.safetensors", "size_bytes": 1, "sha256": None, "how": "unknown"}]
    )

    found = needs(json.dumps(graph), registry, there)

    assert [(model.name, model.there) for model in found.models] == [
        ("none", None),
        ("sub/ink", "models/loras/sub/ink.safetensors"),
    ]
    only = needs(json.dumps({"2": graph["2"]}), registry)
    assert only.models == ()


def test_models_that_a_workflow_lists_itself_are_needed(registry: Registry):
    """The list stands at the root, or in a subgraph that is used; an unused one does not count."""
    listed = {"name": "umt5_xxl.safetensors", "directory": "text_encoders", "url": "https://x/y"}
    inner = {"id": "inner", "nodes": [], "models": [{"name": "in.safetensors", "directory": "vae"}]}
    unused = {"id": "unused", "nodes": [], "models": [{"name": "no.safetensors", "directory": "vae"}]}
    content = {
        "nodes": [{"id": 1, "type": "inner", "mode": 0}],
        "models": [listed],
        "definitions": {"subgraphs": [inner, unused]},
    }

    found = needs(json.dumps(content), registry)

    assert [(model.category, model.name) for model in found.models] == [
        ("text_encoders", "umt5_xxl.safetensors"),
        ("vae", "in.safetensors"),
    ]


def test_the_address_that_a_workflow_carries_becomes_the_command(registry: Registry):
    """Templates name address and folder of their models; whoever lacks one need not look them up."""
    address = "https://huggingface.co/o/n/resolve/main/a b.safetensors?download=true"
    listed = {"name": "a b.safetensors", "directory": "clip", "url": address}

    found = needs(json.dumps({"nodes": [], "models": [listed]}), registry)

    assert [model.how_to_add for model in found.models] == [
        f"inv models.add '{address}' --path 'text_encoders/a b.safetensors'"
    ]


def test_a_name_with_decomposed_letters_is_the_same_model():
    """macOS writes an accent as a letter of its own; ComfyUI's workflow then names the model that way."""
    graph = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": "cafe\u0301.safetensors"}}}
    file = ModelFile(
        path="loras/caf\u00e9.safetensors",
        volume_path="models/loras/caf\u00e9.safetensors",
        source="hf:o/n:x",
    )
    known = Registry(path=Path("r.yaml"), required=(Model(name="accent", files=(file,)),))

    (needed,) = needs(json.dumps(graph), known).models

    assert needed.provided_by == "accent"
