"""The stand-in as a program: ComfyUI's flags, the versions it can be, and how it can go wrong."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from backend.validation.printable import plain
from tests.support.comfyui_program import running_comfyui, safetensors, slow, txt2img
from tests.support.deadlines import HANG_S

pytestmark = pytest.mark.slow


def test_models_come_from_the_folders_that_the_yaml_names(tmp_path):
    """extra_model_paths.yaml adds folders by category, old names mean new ones, new files show at once."""
    volume = tmp_path / "volume"
    for name in ("models/checkpoints/a/b.safetensors", "models/unet/u.safetensors", "more/c.ckpt"):
        (volume / name).parent.mkdir(parents=True, exist_ok=True)
        (volume / name).write_bytes(safetensors())
    config = tmp_path / "extra.yaml"
    config.write_text(
        f"volume:\n  base_path: {volume}\n  is_default: true\n"
        "  checkpoints: |\n    models/checkpoints\n    more\n"
        "  unet: models/unet\n  voices: models/voices\n"
    )

    with running_comfyui(tmp_path / "base", "--extra-model-paths-config", str(config)) as comfyui:
        before = comfyui.http.get("/models/checkpoints").json()
        (volume / "models/checkpoints/new.safetensors").write_bytes(safetensors())
        after = comfyui.http.get("/models/checkpoints").json()
        listed = {name: comfyui.http.get(f"/models/{name}").json() for name in ("diffusion_models", "voices")}
        legacy = comfyui.http.get("/models/clip").status_code
        metadata = comfyui.http.get("/view_metadata/checkpoints?filename=a/b.safetensors").json()

    assert before == ["a/b.safetensors", "c.ckpt"]
    assert after == ["a/b.safetensors", "c.ckpt", "new.safetensors"]
    assert listed == {"diffusion_models": ["u.safetensors"], "voices": []}
    assert legacy == 404
    assert metadata == {"modelspec.architecture": "stable-diffusion-v1-base"}


def test_folders_can_be_moved_and_unknown_flags_are_ignored(tmp_path):
    """Each folder has its flag; a flag of the real program that the stand-in lacks does not stop it."""
    moved = {name: tmp_path / f"my-{name}" for name in ("models", "input", "output", "temp")}
    flags = [text for name, path in moved.items() for text in (f"--{name}-directory", str(path))]

    with running_comfyui(tmp_path / "base", *flags, "--fast", "--cuda-device", "0") as comfyui:
        (moved["models"] / "checkpoints").mkdir(parents=True)
        (moved["models"] / "checkpoints/tiny.safetensors").write_bytes(safetensors())
        comfyui.run(txt2img())

    assert [path.name for path in moved["output"].iterdir()] == ["fox_00001_.png"]


@pytest.mark.parametrize(
    ("version", "jobs", "load_audio", "save_outputs", "system"),
    [
        ("0.29.0", 200, "COMBO", ["IMAGE"], "linux"),
        ("0.3.64", 404, [], [], "posix"),
    ],
)
def test_it_can_be_either_version(tmp_path, version, jobs, load_audio, save_outputs, system):
    """The two recorded versions differ in /api/jobs, combos, outputs, and in what they say of folders."""
    with running_comfyui(tmp_path, "--pretend-version", version) as comfyui:
        get = comfyui.http.get
        stats = get("/system_stats").json()["system"]

        first, *others = get("/experiment/models").json()
        folders = [str(tmp_path / "models/checkpoints"), str(tmp_path / "output/checkpoints")]
        weights = [".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft"]

        assert (stats["comfyui_version"], stats["os"]) == (version, system)
        assert first == {"name": "checkpoints", "folders": folders} | (
            {"extensions": weights} if version == "0.29.0" else {}
        )
        assert {entry["name"] for entry in others} == {*get("/models").json()} - {
            *("checkpoints", "configs", "custom_nodes")
        }
        assert get("/internal/folder_paths").json()["checkpoints"] == folders
        assert get("/api/jobs").status_code == jobs
        audio = get("/object_info/LoadAudio").json()["LoadAudio"]["input"]["required"]["audio"]
        assert audio[0] == load_audio
        assert get("/object_info/SaveImage").json()["SaveImage"]["output"] == save_outputs
        assert get("/object_info/Nope").json() == {}


def test_large_bodies_are_refused_before_they_are_read(tmp_path):
    """Over --max-upload-size the answer is 413 with the size in bytes."""
    with running_comfyui(tmp_path, "--max-upload-size", "1") as comfyui:
        files = {"image": ("x.png", bytes(1 << 20), "image/png")}
        reply = comfyui.http.post("/upload/image", files=files)

    assert (reply.status_code, reply.text) == (413, "Maximum request body size 1048576 exceeded.")


def test_it_can_die_in_the_middle_of_a_prompt(tmp_path):
    """With die_in it ends like a process that the kernel killed, and the connection with it."""
    with running_comfyui(tmp_path, "--emulate", "die_in=EmulatorSlow") as comfyui:
        comfyui.http.post("/prompt", json={"prompt": slow()})
        status = comfyui.process.wait(HANG_S)
        with pytest.raises(httpx.TransportError):
            comfyui.http.get("/queue")

    assert status == 137


def test_it_can_lack_nodes_and_run_out_of_memory(tmp_path):
    """A pack that failed to import is simply not there; a full GPU is torch's own error."""
    flags = ("--emulate", "missing_nodes=SONICTLoader,SaveImage", "--emulate", "vram_gb=0.001")
    with running_comfyui(tmp_path, *flags) as comfyui:
        comfyui.add_model("checkpoints/tiny.safetensors")
        graph = txt2img()
        refused = comfyui.http.post("/prompt", json={"prompt": graph})
        graph["9"]["class_type"] = "PreviewImage"
        _, entry = comfyui.run(graph)

    assert refused.json()["error"]["type"] == "missing_node_type"
    assert entry["status"]["messages"][-1][1]["exception_type"] == "torch.OutOfMemoryError"


def test_a_misspelled_knob_is_refused_at_start(tmp_path: Path):
    """`--emulate` names the knobs that there are."""
    command = [sys.executable, "-m", "emulator.comfyui", "--base-directory", str(tmp_path)]
    done = subprocess.run([*command, "--emulate", "stepp=1"], capture_output=True, text=True, timeout=HANG_S)

    assert done.returncode == 2
    assert "unknown knob 'stepp'; available: step_s," in done.stderr


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path):
    """Two on one port: the second names the address and ends, without a traceback."""
    with running_comfyui(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        command = [sys.executable, "-m", "emulator.comfyui", "--port", port]
        done = subprocess.run(
            [*command, "--base-directory", str(tmp_path)], capture_output=True, text=True, timeout=HANG_S
        )

    assert (done.returncode, plain(done.stderr)) == (
        1,
        f"[ERROR] cannot listen on 127.0.0.1:{port}: Address already in use\n",
    )


def test_the_queue_keeps_its_order_and_gives_up_what_waits(tmp_path):
    """`front` goes first, a waiting prompt can be taken out, and removing an unknown one is no failure."""
    with running_comfyui(tmp_path, "--emulate", "hang_in=EmulatorSlow") as comfyui:
        ids = [
            comfyui.http.post("/prompt", json={"prompt": slow(), **more}).json()["prompt_id"]
            for more in ({}, {}, {"front": True}, {})
        ]
        waiting = [one[1] for one in comfyui.http.get("/queue").json()["queue_pending"]]
        comfyui.http.post("/queue", json={"delete": [ids[1], "unknown"]})
        after = [one[1] for one in comfyui.http.get("/queue").json()["queue_pending"]]
        cancelled = comfyui.http.post(f"/api/jobs/{ids[3]}/cancel").json()
        status = comfyui.http.get(f"/api/jobs/{ids[0]}").json()["status"]
        comfyui.http.post("/queue", json={"clear": True})
        comfyui.http.post("/interrupt")

    assert waiting == [ids[2], ids[1], ids[3]]
    assert after == [ids[2], ids[3]]
    assert (json.dumps(cancelled), status) == ('{"cancelled": true}', "in_progress")
