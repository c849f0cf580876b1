"""One ComfyUI stand-in as a program, and a small client of it."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import websockets.sync.client

from tests.support.deadlines import HANG_S

Graph = dict[str, dict[str, Any]]


def safetensors(architecture: str = "stable-diffusion-v1-base") -> bytes:
    """Make a whole, tiny safetensors file."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"modelspec.architecture": architecture}, "t": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def txt2img(seed: int = 42, checkpoint: str = "tiny.safetensors", size: tuple[int, int] = (64, 96)) -> Graph:
    """Make the graph that every ComfyUI user knows."""
    return {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": seed,
                "steps": 3,
                "cfg": 7.0,
                "sampler_name": "euler_ancestral",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": size[0], "height": size[1], "batch_size": 1},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "fox", "images": ["8", 0]}},
    }


def slow(steps: int = 3, delay: float = 0.01, *, preview: bool = False) -> Graph:
    """Make a graph that takes `steps` times `delay` seconds."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 3},
        },
        "2": {
            "class_type": "EmulatorSlow",
            "inputs": {"image": ["1", 0], "steps": steps, "delay": delay, "preview": preview},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "slow"}},
    }


class ComfyUI:
    """A small client of one ComfyUI; `folder` is its base directory."""

    def __init__(self, url: str, folder: Path, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.folder = folder
        self.process = process
        self.http = httpx.Client(base_url=url, timeout=HANG_S, trust_env=False)

    def socket(self, client_id: str) -> websockets.sync.client.ClientConnection:
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={client_id}"
        return websockets.sync.client.connect(address, max_size=None)

    def add_model(self, path: str, content: bytes | None = None) -> Path:
        """Put a file under the models folder, a tiny safetensors file unless told otherwise."""
        file = self.folder / "models" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(safetensors() if content is None else content)
        return file

    def emulate(self, **knobs: Any) -> None:
        """Turn knobs of the stand-in."""
        assert self.http.patch("/_emulator/knobs", json=knobs).is_success

    def run(self, graph: Graph, hello: dict[str, Any] | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Run a graph to its end; return what the socket said, and the history entry."""
        client_id = uuid.uuid4().hex
        with self.socket(client_id) as socket:
            if hello is not None:
                socket.send(json.dumps(hello))
            reply = self.http.post("/prompt", json={"prompt": graph, "client_id": client_id})
            assert reply.status_code == 200, reply.text
            prompt_id = reply.json()["prompt_id"]
            heard = list(until_the_end(socket))
        return heard, self.http.get(f"/history/{prompt_id}").json()[prompt_id]


def until_the_end(socket: websockets.sync.client.ClientConnection) -> Iterator[Any]:
    while True:
        frame = socket.recv(timeout=HANG_S)
        message = frame if isinstance(frame, bytes) else json.loads(frame)
        yield message
        if isinstance(message, dict) and message["type"] == "executing" and message["data"]["node"] is None:
            return


def kinds(heard: list[Any]) -> list[str]:
    return [
        f"binary {struct.unpack('>I', one[:4])[0]}" if isinstance(one, bytes) else one["type"]
        for one in heard
    ]


@contextlib.contextmanager
def running_comfyui(folder: Path, *flags: str) -> Iterator[ComfyUI]:
    """Run a stand-in on a base directory, on a free port, and end it afterwards."""
    command = [
        sys.executable,
        "-m",
        "emulator.comfyui",
        "--port",
        "0",
        "--base-directory",
        str(folder),
        *flags,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    try:
        for line in process.stderr:
            if "To see the GUI go to: " in line:
                break
        else:
            raise RuntimeError(f"the stand-in ended with {process.wait()}")
        # A pipe that fills up would stop the program.
        drain.start()
        client = ComfyUI(line.rpartition(" ")[2].strip(), folder, process)
        yield client
        client.http.close()
    finally:
        process.terminate()
        process.wait(HANG_S)
        if drain.is_alive():
            drain.join(HANG_S)
        process.stderr.close()
