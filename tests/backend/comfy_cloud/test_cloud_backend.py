"""The cloud backend on an emulated Comfy API v2: where the key goes, and where files lie."""

from __future__ import annotations

import pytest

from backend import (
    Backend,
    NotSupported,
    Settings,
    get_backend,
)
from tests.support.cloud_server import API, envelope, flows_for, job_body
from tests.support.comfyui_program import Graph, slow
from tests.support.small_server import Answer, Seen, serving
from tests.support.studio_models import write_wav

pytest_plugins = ["tests.support.cloud_backend"]

SAVE_BOTH: Graph = {
    **slow(),
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    "5": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "second"}},
}


# --- where the key goes -----------------------------------------------------------


def test_the_key_does_not_follow_a_redirect_to_another_port(emu, cloud, tmp_path):
    """The content is fetched from where the server sends it, with nothing of ours."""
    with serving(lambda _: Answer(body=b"from elsewhere")) as elsewhere:
        link = {"location": f"{elsewhere.url}/signed?x=1"}
        emu.fault(f"{API}/assets/*/content", method="GET", status=302, headers=link)
        result = cloud.workflow(slow(), output_path=tmp_path / "x.png")

    assert (tmp_path / "x.png").read_bytes() == b"from elsewhere"
    assert result.files[0].size_bytes == len(b"from elsewhere")
    assert [(seen.path, "authorization" in seen.headers) for seen in elsewhere.seen] == [
        ("/signed?x=1", False)
    ]


def test_the_key_goes_to_no_link_off_the_server(emu, cloud, tmp_path):
    """Neither a result nor a job is asked for with it where another host is named."""
    with serving(lambda _: Answer(body=b"signed")) as elsewhere:
        output = {
            "node_id": "3",
            "name": "a.png",
            "type": "image",
            "id": "a1",
            "url": f"{elsewhere.url}/a.png",
        }
        away = {"self": f"{elsewhere.url}/jobs/j1"}
        body = job_body("succeeded", outputs=[output], urls=away)
        emu.fault(f"{API}/jobs", method="POST", status=201, body=job_body("queued", urls=away))
        emu.fault(f"{API}/jobs/*", method="GET", status=200, body=body)
        cloud.workflow(slow(), output_path=tmp_path / "x.png").raise_for_failure()

    assert [(seen.path, "authorization" in seen.headers) for seen in elsewhere.seen] == [("/a.png", False)]


def test_a_link_that_has_died_is_asked_for_again(emu, cloud, tmp_path):
    """Signed links live for an hour, results longer."""
    emu.fault(f"{API}/assets/*/content", method="GET", status=403, body=envelope("forbidden"))

    cloud.workflow(slow(), output_path=tmp_path / "x.png").raise_for_failure()

    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_links_without_a_host_are_the_servers_own(emu, cloud, tmp_path):
    """They are resolved against scheme and host, never appended to the path that was configured."""
    real = cloud.workflow(slow()).raise_for_failure()
    path = str(real.files[0].remote_url).partition(":")[2].partition("/comfy-api")[2]
    output = {"node_id": "3", "name": "a.png", "type": "image", "id": "a1", "url": f"/comfy-api{path}"}
    emu.fault(f"{API}/jobs/*", method="GET", status=200, body=job_body("succeeded", outputs=[output]))

    cloud.workflow(slow(), output_path=tmp_path / "x.png").raise_for_failure()

    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_key_is_told_by_the_health(emu, tmp_path):
    """Before a job is tried."""
    with Backend(flows_for(emu, tmp_path, COMFY_API_KEY="nobodys")) as stranger:
        health = stranger.health_check()

    assert not health.healthy
    assert "Check the key" in str(health.error)


def test_a_proxy_that_is_not_well_says_so(tmp_path):
    """A server that tells its health is believed, and no job is asked for."""

    def answer(seen: Seen) -> Answer:
        return Answer(body=b'{"status": "degraded", "upstream": "http://127.0.0.1:8188"}')

    with serving(answer) as proxy:
        settings = Settings(comfy_api_url=proxy.url, comfyform_state_dir=str(tmp_path))
        with get_backend("cloud", settings=settings) as backend:
            health = backend.health_check()

    assert (health.healthy, health.error) == (False, f"{proxy.url} says that it is degraded.")
    assert [seen.path for seen in proxy.seen] == ["/api/v2/health"]


# --- files ------------------------------------------------------------------------


def test_the_same_bytes_are_sent_up_once(emu, cloud, tmp_path):
    """Whatever they are called, as long as the server keeps them; then they are sent again."""
    voice = write_wav(tmp_path / "naïve 图.wav")
    graph = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "voice"}},
        "2": {"class_type": "SaveAudio", "inputs": {"audio": ["1", 0], "filename_prefix": "v"}},
    }

    for _ in range(2):
        cloud.workflow(graph, inputs={"voice": voice}).raise_for_failure()
    once = len(emu.requests("POST", f"{API}/assets"))
    emu.fault(f"{API}/assets/*", method="GET", status=404, body=envelope("not_found"))
    cloud.workflow(graph, inputs={"voice": voice}).raise_for_failure()

    assert (once, len(emu.requests("POST", f"{API}/assets"))) == (1, 2)


def test_a_result_is_an_input_where_it_lies(emu, cloud):
    """Nothing comes here and nothing goes up."""
    created = cloud.workflow(slow()).raise_for_failure().files[0]
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "it"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
    }

    again = cloud.workflow(graph, inputs={"it": created}).raise_for_failure()

    assert again.files[0].filename.startswith("again")
    assert emu.requests("POST", f"{API}/assets") == []


def test_previews_are_no_results(cloud, tmp_path):
    """What nodes only show is left out where something is saved, and given where nothing is."""
    both = cloud.workflow(SAVE_BOTH, output_path=tmp_path / "a.png").raise_for_failure()
    shown = {node_id: SAVE_BOTH[node_id] for node_id in ("1", "2", "4")}
    only = cloud.workflow(shown).raise_for_failure()

    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a-2.png", "a.png"]
    assert len(both.files) == 2
    assert len(only.files) == 1


def test_a_text_is_an_output_too(cloud, tmp_path):
    """Nodes that show a text give it in the result, and as a file where one is wanted."""
    graph = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello ü"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }

    result = cloud.workflow(graph, output_path=tmp_path / "t.txt").raise_for_failure()

    assert (result.files[0].type, result.files[0].text) == ("text", "hello ü")
    assert (tmp_path / "t.txt").read_text("utf-8") == "hello ü"


def test_what_only_a_comfyui_of_ones_own_can_names_it(cloud):
    """An avatar lies in a folder that this API has not."""
    with pytest.raises(NotSupported, match="local and runpod backends can"):
        cloud.portrait(prompt="odin", save_to_avatars=True)
