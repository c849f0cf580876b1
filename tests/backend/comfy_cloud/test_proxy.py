"""The cloud backend through the official comfy-api-proxy, a process before the stand-in ComfyUI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from backend import Backend, JobFailed, Settings, WaitTimeout, get_backend
from tests.support.comfyui_program import ComfyUI, slow
from tests.support.deadlines import HANG_S
from tests.support.emulation import until
from tests.support.ports import free_port
from tests.support.studio_models import complete_comfyui, write_wav

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI with every model."""
    with complete_comfyui(tmp_path_factory.mktemp("comfyui")) as program:
        yield program


@pytest.fixture(scope="module")
def proxy_url(comfyui: ComfyUI) -> Iterator[str]:
    """The proxy before it, with a key."""
    port = free_port()
    program = Path(sys.executable).with_name("comfy-api-proxy")
    command = [str(program), "run", "--comfyui", comfyui.url, "--port", str(port), "--token", "secret"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "the proxy ended"
        try:
            return httpx.get(f"{url}/api/v2/health", headers={"Authorization": "Bearer secret"}).is_success
        except httpx.ConnectError:
            return False

    try:
        until(answers)
        yield url
    finally:
        process.terminate()
        process.wait(HANG_S)


@pytest.fixture
def cloud(proxy_url: str, tmp_path: Path) -> Iterator[Backend]:
    env = {"COMFY_API_URL": proxy_url, "COMFY_API_KEY": "secret", "COMFYFORM_STATE_DIR": str(tmp_path / "s")}
    with get_backend("cloud", settings=Settings.from_env(env | {"COMFYFORM_TIMEOUT_S": "600"})) as backend:
        yield backend


def test_the_whole_chain_runs_through_the_proxy(cloud, tmp_path):
    """Portrait, speech and film, each the next one's input where it lies; the film comes here."""
    voice = write_wav(tmp_path / "voice.wav")

    face = cloud.portrait(prompt="a face", seed=7, width=64, height=96).raise_for_failure()
    speech = cloud.tts(text="Hello there, my dear old friend.", voice_reference=voice).raise_for_failure()
    film = cloud.lipsync(
        portrait_image=face.files[0],
        audio=speech.files[0],
        inference_steps=2,
        output_path=tmp_path / "film.mp4",
    ).raise_for_failure()

    assert (face.seed, film.warnings) == (7, ())
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
    assert film.files[0].size_bytes == (tmp_path / "film.mp4").stat().st_size


def test_the_proxys_health_names_the_comfyui_behind_it(cloud, comfyui):
    """It is the proxy's own word."""
    health = cloud.health_check()

    assert (health.healthy, health.details) == (True, {"status": "healthy", "upstream": comfyui.url})


def test_a_refused_graph_and_a_failed_node_are_typed(cloud, comfyui):
    """ComfyUI's problems and its failures come through, with what helps."""
    refused = cloud.portrait(prompt="x", model="nope.safetensors")
    comfyui.emulate(oom_in="KSampler")
    failed = cloud.portrait(prompt="x", width=64, height=64)
    comfyui.emulate(oom_in="")

    assert isinstance(refused.exception, JobFailed)
    assert "nope.safetensors" in str(refused.error)
    assert isinstance(failed.exception, JobFailed)
    assert "node sampler (KSampler) failed" in str(failed.error)
    assert "out of memory" in str(failed.error)


def test_the_deadline_cancels_the_run_behind_the_proxy(cloud, comfyui):
    """Nothing is left in ComfyUI's queue."""
    result = cloud.workflow(slow(1000, 0.05), timeout_s=3.0)

    assert isinstance(result.exception, WaitTimeout)
    until(lambda: comfyui.http.get("/queue").json() == {"queue_running": [], "queue_pending": []})


def test_a_late_history_is_waited_out(cloud, comfyui, tmp_path):
    """The proxy calls a job expired while ComfyUI has it in neither queue nor history."""
    comfyui.emulate(history_delay_s=0.15)
    result = cloud.workflow(slow(), output_path=tmp_path / "x.png")
    comfyui.emulate(history_delay_s=0.005)

    assert result.raise_for_failure().files[0].size_bytes == (tmp_path / "x.png").stat().st_size
