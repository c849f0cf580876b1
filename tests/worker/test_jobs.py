"""The whole worker, on the real `runpod` SDK: jobs, models from the hub, pictures from ComfyUI."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio, until

pytestmark = pytest.mark.slow
WHISPER = "hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:"
SDXL = "hf:stabilityai/stable-diffusion-xl-base-1.0:sd_xl_base_1.0.safetensors"
CHECKPOINT = "models/checkpoints/sd_xl_base_1.0.safetensors"


def wanted(path: str, source: str) -> dict[str, Any]:
    return {"path": path, "source": source}


def test_the_ops_image_looks_after_models(emu: Emulator) -> None:
    """Provision, inventory, verify and remove, on the volume that RunPod mounted; what cannot be is said."""
    ops = Studio(emu, "comfyform/ops")
    path = "models/sonic/whisper-tiny/model.safetensors"
    created = ops.output(action="provision", models=[wanted(path, f"{WHISPER}model.safetensors")])["models"]
    content = (ops.volume / path).read_bytes()
    again = ops.output(action="provision", models=[wanted(path, f"{WHISPER}model.safetensors")])["models"]
    listed = ops.output(action="inventory")["inventory"]
    (ops.volume / path).write_bytes(b"damaged")
    verified = ops.output(action="verify", models=[wanted(path, f"{WHISPER}model.safetensors")])["models"]
    removed = ops.output(action="remove", paths=[path, "models/none.safetensors"])
    refused = ops.error(action="portrait", prompt="Odin")

    sha256 = hashlib.sha256(content).hexdigest()
    assert created == [
        {
            "path": path,
            "status": "fetched",
            "size_bytes": len(content),
            "sha256": sha256,
            "fetched_bytes": len(content),
        }
    ]
    assert [file["status"] for file in again] == ["kept"]
    assert [(file["path"], file["sha256"], file["how"]) for file in listed] == [(path, sha256, "recorded")]
    assert [file["ok"] for file in verified] == [False]
    assert (removed["removed"], removed["missing"]) == ([path], ["models/none.safetensors"])
    assert refused.startswith("This worker has no ComfyUI, so it cannot do 'portrait'.")


def test_a_model_that_cannot_be_had_fails_in_one_sentence(emu: Emulator) -> None:
    """No traceback, no JSON in a string: what the source is, what happened, what to do."""
    ops = Studio(emu, "comfyform/ops")
    missing = ops.error(action="provision", models=[wanted("models/x.bin", f"{WHISPER}nothing.bin")])
    escaping = ops.error(action="provision", models=[wanted("../x.bin", f"{WHISPER}config.json")])
    malformed = ops.error(action="provision", models=[{"path": "models/x.bin", "allow_pickle": 1}, 7])

    assert "has no file 'nothing.bin'" in missing
    assert "'../x.bin' is not a" in escaping
    assert malformed == (
        "models[0].source is missing; models[0].allow_pickle is 1, not true or false; "
        "models[1] is not an object."
    )
    assert "Traceback" not in missing + escaping + malformed


def test_models_are_fetched_side_by_side_and_a_file_by_one_writer(emu: Emulator) -> None:
    """Two files at the same time; of two jobs for the same file one fetches it and the other finds it."""
    ops = Studio(emu, "comfyform/ops")
    ops.output(action="health")
    emu.fault("/cdn/hub/*", times=2, delay_s=1.0)
    other = "models/checkpoints/video/svd_xt.safetensors"
    svd = "hf:stabilityai/stable-video-diffusion-img2vid-xt:svd_xt.safetensors"
    first = ops.submit(action="provision", models=[wanted(CHECKPOINT, SDXL)])
    second = ops.submit(action="provision", models=[wanted(other, svd)])
    third = ops.submit(action="provision", models=[wanted(CHECKPOINT, SDXL)])
    until(lambda: all(ops.status(job)["status"] == "IN_PROGRESS" for job in (first, second, third)))
    ended = [ops.wait(job)["output"]["models"][0]["status"] for job in (first, second, third)]

    assert sorted([ended[0], ended[2]]) == ["fetched", "kept"]
    assert ended[1] == "fetched"


def test_a_picture_is_imagined_as_its_quality_says(emu: Emulator) -> None:
    """The origin's name for the description, steps that follow the quality, and words of a mistake."""
    studio = Studio(emu, "comfyform/worker")
    studio.output(action="provision", models=[wanted(CHECKPOINT, SDXL)])
    output = studio.output(action="imagine", prompt="a fox", style="ink", quality="draft", width=64, seed=7)
    wrong = studio.error(action="imagine", description="a fox", quality="best")

    (file,) = output["files"]
    graph = json.loads(Image.open(io.BytesIO(base64.b64decode(file["data"]))).text["prompt"])  # type: ignore[attr-defined]
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert (output["action"], output["seed"], file["type"]) == ("imagine", 7, "image")
    assert by_class["KSampler"]["steps"] == 15
    assert by_class["EmptyLatentImage"]["width"] == 64
    assert "a fox, ink" in json.dumps(graph)
    assert wrong == ("imagine: quality must be one of draft, standard, high, ultra, got 'best'.")


def test_a_portrait_is_made_on_the_volumes_model(emu: Emulator) -> None:
    """ComfyUI finds the checkpoint through the generated paths; the picture comes back inside the answer."""
    studio = Studio(emu, "comfyform/worker")
    studio.output(action="provision", models=[wanted(CHECKPOINT, SDXL)])
    output = studio.output(prompt="Odin", seed=7, save_to_avatars=True, avatar_name="odin")
    large = studio.output(action="portrait", prompt="Odin", seed=7, deliver="volume")
    health = studio.output(action="health")
    debug = studio.output(action="debug")
    missing = studio.error(prompt="Odin", model="juggernaut.safetensors")

    (file,) = output["files"]
    content = base64.b64decode(file["data"])
    assert content.startswith(b"\x89PNG")
    assert (file["size_bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (output["seed"], output["action"], output["status"]) == (7, "portrait", "success")
    assert (output["avatar_saved"], output["lipsync_ready"]) == ("avatars/odin.png", True)
    assert (studio.volume / "avatars" / "odin.png").read_bytes() == content
    (remaining,) = large["files"]
    assert (studio.volume / remaining["volume_path"]).stat().st_size == remaining["size_bytes"]
    assert (health["healthy"], health["comfyui"]["state"]) == (True, "ready")
    assert [record["path"] for record in debug["inventory"]["checkpoints"]] == [CHECKPOINT]
    assert debug["avatars_contents"] == ["odin.png"]
    assert "models/checkpoints/juggernaut.safetensors is not on this worker's volume" in missing
