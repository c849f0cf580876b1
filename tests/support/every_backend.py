"""Every backend before its real services, as fixtures: what the suite of the verbs runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import Settings, get_async_backend, get_backend
from tests.support.emulation import running_emulator
from tests.support.studio_models import complete_comfyui, fill_hub, fill_models, write_wav
from tests.support.worker_endpoint import Studio

Call = Callable[..., Any]
COMFYUI = ["local", "runpod", "cloud"]


@pytest.fixture(scope="module")
def local_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A ComfyUI on this machine with every model."""
    with complete_comfyui(tmp_path_factory.mktemp("comfyui")) as comfyui:
        yield Settings(comfyui_url=comfyui.url, comfyform_timeout_s=60.0)


@pytest.fixture(scope="module")
def runpod_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An endpoint of our worker on an emulated RunPod, its volume with every model."""
    folder = tmp_path_factory.mktemp("runpod")
    with running_emulator(folder) as emu:
        studio = Studio(emu, "comfyform/worker")
        fill_models(studio.volume / "models")
        fill_hub(studio.volume / "huggingface-cache" / "hub")
        env = emu.env | {
            "RUNPOD_ENDPOINT_ID": studio.endpoint_id,
            "RUNPOD_VOLUME_ID": studio.volume_id,
            "COMFYFORM_STATE_DIR": str(folder / "state"),
            "COMFYFORM_TIMEOUT_S": "60",
        }
        yield Settings.from_env(env)


@pytest.fixture(scope="module")
def cloud_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An emulated Comfy API v2 with every model."""
    folder = tmp_path_factory.mktemp("cloud")
    fill_models(folder / "comfyui" / "models")
    fill_hub(folder / "comfyui" / "huggingface-cache" / "hub")
    with running_emulator(folder) as emu:
        env = {"COMFYFORM_STATE_DIR": str(folder / "state"), "COMFYFORM_TIMEOUT_S": "60"}
        yield Settings.from_env(emu.env | env)


@pytest.fixture(scope="module")
def hedra_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An emulated Hedra."""
    folder = tmp_path_factory.mktemp("hedra")
    with running_emulator(folder) as emu:
        emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.05)
        env = {"COMFYFORM_STATE_DIR": str(folder / "state"), "HEDRA_POLL_S": "0.05"}
        yield Settings.from_env(emu.env | env | {"COMFYFORM_TIMEOUT_S": "60"})


@pytest.fixture(scope="module", params=COMFYUI)
def where(request: pytest.FixtureRequest) -> tuple[str, Settings]:
    """A backend's name and its settings."""
    return request.param, request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, where: tuple[str, Settings]) -> Call:
    """Call a verb of the backend, through a face."""
    name, settings = where

    def sync(verb: str, **params: Any) -> Any:
        with get_backend(name, settings=settings) as backend:
            return getattr(backend, verb)(**params)

    def awaited(verb: str, **params: Any) -> Any:
        async def main() -> Any:
            async with get_async_backend(name, settings=settings) as backend:
                return await getattr(backend, verb)(**params)

        return asyncio.run(main())

    return sync if request.param == "sync" else awaited


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory, where: tuple[str, Settings]) -> Path | str:
    """A recording with a transcript beside it; at Hedra, which clones none, the name of a voice."""
    if where[0] == "hedra":
        return "Aria"
    return write_wav(tmp_path_factory.mktemp("voices") / "my voice ü.wav")
