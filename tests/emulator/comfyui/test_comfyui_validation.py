"""What the stand-in says about bad graphs: the words of ComfyUI v0.29 and v0.3.64, as recorded."""

import copy
from pathlib import Path
from typing import Any

import pytest

import emulator.comfyui.nodes  # noqa: F401 - for the node classes that it registers
from emulator.comfyui.graph.validation import ServerTrouble, Verdict, validate
from emulator.comfyui.model_files import Library
from emulator.comfyui.nodes.declarations import NODES
from emulator.comfyui.nodes.sampling import SAMPLERS
from emulator.comfyui.settings import Folders, Settings

EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 7}}
SCALE = {
    "class_type": "ImageScale",
    "inputs": {"image": ["1", 0], "upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"},
}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "e"}}


def changed(node: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """Copy a node with other inputs; None takes one away."""
    copied = copy.deepcopy(node)
    copied["inputs"] |= inputs
    copied["inputs"] = {name: value for name, value in copied["inputs"].items() if value is not None}
    return copied


def judge(graph: Any, folder: Path, *, modern: bool = True, targets: list[str] | None = None) -> Verdict:
    settings = Settings(Folders.under(folder), (0, 29, 0) if modern else (0, 3, 64))
    return validate(copy.deepcopy(graph), NODES, Library(settings), modern=modern, targets=targets)


def test_a_good_graph_has_no_complaint(tmp_path):
    """Outputs are named, and nothing else."""
    assert judge({"1": EMPTY, "2": SAVE}, tmp_path) == Verdict(["2"])


@pytest.mark.parametrize(
    ("graph", "at", "kind", "details", "dependents"),
    [
        ({"1": changed(EMPTY, color=None), "2": SAVE}, "1", "required_input_missing", "color", ["2"]),
        ({"1": EMPTY, "2": changed(SAVE, images=None)}, "2", "required_input_missing", "images", ["2"]),
        ({"1": changed(EMPTY, width=0), "2": SAVE}, "1", "value_smaller_than_min", "width", ["2"]),
        ({"1": changed(EMPTY, width=999999), "2": SAVE}, "1", "value_bigger_than_max", "width", ["2"]),
        (
            {"1": changed(EMPTY, width="abc"), "2": SAVE},
            "1",
            "invalid_input_type",
            "width, abc, invalid literal for int() with base 10: 'abc'",
            ["2"],
        ),
        (
            {"1": EMPTY, "3": changed(SCALE, upscale_method="magic"), "2": changed(SAVE, images=["3", 0])},
            "3",
            "value_not_in_list",
            "upscale_method: 'magic' not in ['nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos']",
            ["2"],
        ),
        (
            {"1": {"class_type": "LoadImage", "inputs": {"image": "nope.png"}}, "2": SAVE},
            "1",
            "custom_validation_failed",
            "image - Invalid image file: nope.png",
            ["2"],
        ),
        (
            {
                "1": {
                    "class_type": "EmptyLatentImage",
                    "inputs": {"width": 64, "height": 64, "batch_size": 1},
                },
                "2": SAVE,
            },
            "2",
            "return_type_mismatch",
            "images, received_type(LATENT) mismatch input_type(IMAGE)",
            ["2"],
        ),
        ({"2": changed(SAVE, images=["99", 0])}, "2", "exception_during_validation", "'99'", ["2"]),
        ({"1": EMPTY, "2": changed(SAVE, images=[1, 0])}, "2", "exception_during_validation", "1", ["2"]),
        (
            {"1": changed(SCALE, image=["99", 0]), "2": SAVE},
            "1",
            "exception_during_inner_validation",
            "'99'",
            ["2"],
        ),
        (
            {"1": EMPTY, "2": changed(SAVE, images=["1", 7])},
            "2",
            "exception_during_validation",
            "tuple index out of range",
            ["2"],
        ),
        ({"1": EMPTY, "2": changed(SAVE, images=["1", 0, 1])}, "2", "bad_linked_input", "images", ["2"]),
        ({"1": {"class_type": "PreviewImage"}}, "1", "exception_during_validation", "'inputs'", ["1"]),
        (
            {
                "1": changed(SCALE, image=["3", 0]),
                "3": changed(SCALE, image=["1", 0]),
                "2": SAVE,
            },
            "1",
            "dependency_cycle",
            "1 (ImageScale) -> 3 (ImageScale) -> 1 (ImageScale)",
            ["2"],
        ),
    ],
)
def test_bad_graphs_get_the_recorded_words(tmp_path, graph, at, kind, details, dependents):
    """Each kind of mistake has ComfyUI's type and details, at the node that has it."""
    verdict = judge(graph, tmp_path)

    assert verdict.error is not None
    assert verdict.error["type"] == "prompt_outputs_failed_validation"
    found = verdict.node_errors[at]
    assert [(error["type"], error["details"]) for error in found["errors"]] == [(kind, details)]
    assert found["dependent_outputs"] == dependents
    assert found["class_type"] == graph[at]["class_type"]


def test_only_the_output_nodes_own_errors_are_in_the_summary(tmp_path):
    """`error.details` is empty when the mistake is upstream: clients must read node_errors."""
    upstream = judge({"1": changed(EMPTY, width=0), "2": SAVE}, tmp_path).error
    own = judge({"1": EMPTY, "2": changed(SAVE, images=None)}, tmp_path).error

    assert upstream is not None
    assert own is not None
    assert (upstream["details"], own["details"]) == ("", "Required input is missing: images")


def test_a_missing_model_names_those_that_are_there(tmp_path):
    """A model that is not on disk is a value that is not in the list of files."""
    folder = tmp_path / "models/checkpoints"
    (folder / "video").mkdir(parents=True)
    for name in ("b.safetensors", "a.ckpt", "notes.txt", "video/svd.safetensors"):
        (folder / name).touch()
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}}
    preview = {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}}
    latent = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}

    verdict = judge({"1": preview, "3": latent, "4": loader, "2": SAVE}, tmp_path)
    (error,) = verdict.node_errors["4"]["errors"]

    names = ["a.ckpt", "b.safetensors", "video/svd.safetensors"]
    assert error["details"] == f"ckpt_name: 'sd15.safetensors' not in {names}"
    assert error["extra_info"] == {
        "input_name": "ckpt_name",
        "input_config": [names, {}],
        "received_value": "sd15.safetensors",
    }


def test_long_lists_are_only_counted(tmp_path):
    """More than 20 options are not spelled out, and the definition is left out of the error."""
    sampler = {"class_type": "KSampler", "inputs": {"sampler_name": "magic"}}
    decode = {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}}

    verdict = judge({"1": decode, "2": SAVE, "3": sampler}, tmp_path)
    errors = verdict.node_errors["3"]["errors"]
    (error,) = [error for error in errors if error["type"] == "value_not_in_list"]

    assert error["details"] == f"sampler_name: 'magic' not in (list of length {len(SAMPLERS)})"
    assert error["extra_info"]["input_config"] is None


def test_one_good_output_is_enough(tmp_path):
    """A bad output beside a good one is reported on success, and only the good one runs."""
    bad = changed(SAVE, images=None)

    verdict = judge({"1": EMPTY, "2": SAVE, "5": bad}, tmp_path)

    assert (verdict.outputs, verdict.error, list(verdict.node_errors)) == (["2"], None, ["5"])


@pytest.mark.parametrize(
    ("modern", "kind", "message"),
    [
        (True, "missing_node_type", "Node 'My Missing' not found. The custom node may not be installed."),
        (False, "invalid_prompt", "Cannot execute because node Nope does not exist."),
    ],
)
def test_an_unknown_class_is_told_in_two_ways(tmp_path, modern, kind, message):
    """The two versions have different types and words for a node that is not installed."""
    graph = {"1": {"class_type": "Nope", "inputs": {}, "_meta": {"title": "My Missing"}}, "2": SAVE}

    error = judge(graph, tmp_path, modern=modern).error

    assert error is not None
    assert (error["type"], error["message"], error["details"]) == (kind, message, "Node ID '#1'")


@pytest.mark.parametrize("graph", [[], {"nodes": [], "links": []}, "text"])
def test_what_is_no_api_graph_makes_the_server_stumble(tmp_path, graph):
    """Lists, texts and workflows of the editor's format raise inside ComfyUI."""
    with pytest.raises(ServerTrouble):
        judge(graph, tmp_path)


def test_values_are_coerced_as_comfyui_does(tmp_path):
    """`"8"` and 8.9 are whole numbers to it; unknown inputs are ignored."""
    graph = {"1": changed(EMPTY, width="8", height=8.9, bogus=5), "2": SAVE}
    settings = Settings(Folders.under(tmp_path))
    verdict = validate(graph, NODES, Library(settings), modern=True)

    assert verdict.error is None
    assert (graph["1"]["inputs"]["width"], graph["1"]["inputs"]["height"]) == (8, 8)
