"""The MCP server on a local ComfyUI, driven by the SDK's own client over stdio."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mcp.shared.exceptions import MCPError
from mcp.types import BlobResourceContents, ImageContent, ResourceLink, TextResourceContents

from mcp_server.resources import READ_LIMIT_BYTES
from tests.support.comfyui_program import ComfyUI, running_comfyui
from tests.support.mcp_sessions import ERAS, data_of, over_stdio, settings, text_of

pytestmark = pytest.mark.slow
CHECKPOINT = "checkpoints/sd_xl_base_1.0.safetensors"
TOOLS = [
    "imagine", "lipsync", "portrait", "talk", "tts", "job", "backend_status",
    "scanLocalModels", "listRemoteModels", "compareModels",
]  # fmt: skip


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as comfyui:
        comfyui.add_model(CHECKPOINT)
        yield comfyui


@pytest.fixture
def env(comfyui: ComfyUI, tmp_path: Path) -> dict[str, str]:
    models = str(comfyui.folder / "models")
    return settings(tmp_path, COMFYUI_URL=comfyui.url, COMFYUI_MODELS_DIR=models)


async def test_clients_are_shown_every_tool(env: dict[str, str]) -> None:
    """Names, titles, both schemas, and hints that say what is read, what may end something, what costs."""
    async with over_stdio(env) as client:
        tools = (await client.list_tools()).tools

    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        assert tool.title
        assert tool.description
        assert tool.output_schema is not None
        for schema in (tool.input_schema, tool.output_schema):
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
    hints = {tool.name: tool.annotations for tool in tools}
    costs = {tool.name: (tool.meta or {})["comfyform/costs"] for tool in tools}
    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == {*TOOLS[6:]}
    assert {name for name, hint in hints.items() if hint and hint.destructive_hint} == {"job"}
    assert {name for name, cost in costs.items() if cost == "gpu"} == {*TOOLS[:5]}


@pytest.mark.parametrize("era", ERAS)
async def test_a_portrait_comes_as_file_picture_and_link(
    env: dict[str, str], tmp_path: Path, era: str
) -> None:
    """The file is where it was wanted, whole; its bytes go along while they are few; nobody is asked."""
    heard: list[str | None] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with over_stdio(env, era=era) as client:
        await client.list_tools()  # so that the client checks the answer against the output schema
        arguments = {"prompt": "Odin", "seed": 7, "width": 64, "height": 64, "output_path": "odin"}
        result = await client.call_tool("portrait", arguments, progress_callback=listen)
        data = data_of(result)
        links = [block for block in result.content if isinstance(block, ResourceLink)]
        read = await client.read_resource(links[0].uri)

    path = tmp_path / "outputs" / "odin.png"
    content = path.read_bytes()
    assert (data["status"], data["seed"], data["backend"]) == ("done", 7, "local")
    assert [(file["path"], file["uri"]) for file in data["files"]] == [
        (str(path), "comfyform://outputs/odin.png")
    ]
    assert data["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert str(path) in text_of(result)
    assert [block.mime_type for block in result.content if isinstance(block, ImageContent)] == ["image/png"]
    assert isinstance(read.contents[0], BlobResourceContents)
    assert heard
    assert heard[0] is not None
    assert heard[0].startswith("portrait: ")


async def test_wrong_calls_are_sentences(env: dict[str, str], tmp_path: Path) -> None:
    """Bad arguments, a bad place, a file that is not there: each is a tool error that says what to mend."""
    async with over_stdio(env) as client:
        arguments = await client.call_tool("portrait", {"steps": 0, "colour": "red"})
        place = await client.call_tool("portrait", {"prompt": "x", "output_path": "../x.png"})
        source = await client.call_tool(
            "lipsync", {"portrait_image": str(tmp_path / "none.png"), "audio": "a.wav"}
        )
        backend = await client.call_tool("portrait", {"prompt": "x", "backend": "moon"})
        job = await client.call_tool("job", {"action": "wait", "job": "nothing"})
        without = await client.call_tool("job", {"action": "cancel"})
        cursor = await client.call_tool("job", {"action": "list", "cursor": "x"})
        with pytest.raises(MCPError, match="Unknown tool 'video'"):
            await client.call_tool("video", {})

    results = (arguments, place, source, backend, job, without, cursor)
    assert [result.is_error for result in results] == [True] * 7
    words = [text_of(result) for result in results]
    assert "prompt must be given" in words[0]
    assert "unknown argument 'colour'" in words[0]
    assert "outside the output folder" in words[1]
    assert "not found on this machine" in words[2]
    assert words[3].startswith("Unknown backend 'moon'. Available: ")
    assert words[4].startswith("Job 'nothing' not found in this machine's journal.")
    assert words[5].startswith('job: the action "cancel" needs a job.')
    assert words[6].startswith("'x' is not a cursor.")
    assert [word for word in words if "Traceback" in word] == []


async def test_a_missing_model_names_what_provides_it(env: dict[str, str], tmp_path: Path) -> None:
    """A failed run is a tool error with the node, the file, and the registry's entry that has it."""
    registry = tmp_path / "models.yaml"
    registry.write_text(
        "required:\n  juggernaut:\n    license: MIT\n    files:\n"
        "      - {path: checkpoints/juggernaut.safetensors, source: 'url:https://example.com/j'}\n"
    )
    async with over_stdio(env, "--registry", str(registry)) as client:
        result = await client.call_tool("portrait", {"prompt": "x", "model": "juggernaut.safetensors"})

    assert result.is_error
    assert "'juggernaut.safetensors' is not available" in text_of(result)


async def test_a_job_outlasts_the_callers_patience(env: dict[str, str], comfyui: ComfyUI) -> None:
    """The answer names the job; the job tool shows it, waits for it, and has it afterwards."""
    comfyui.emulate(step_s=0.05)
    try:
        async with over_stdio(env) as client:
            await client.list_tools()
            arguments = {"prompt": "x", "steps": 20, "timeout_s": 0, "output_path": "slow.png"}
            first = data_of(await client.call_tool("portrait", arguments))
            job = first["job"]
            status = data_of(await client.call_tool("job", {"action": "status", "job": job}))
            done = data_of(await client.call_tool("job", {"action": "wait", "job": job}))
            again = data_of(await client.call_tool("job", {"action": "wait", "job": job}))
    finally:
        comfyui.emulate(step_s=0.0)

    assert (first["status"], first["files"]) == ("running", [])
    assert (status["status"], status["verb"]) == ("running", "portrait")
    assert (done["status"], [file["filename"] for file in done["files"]]) == ("done", ["slow.png"])
    assert again == done


async def test_a_job_is_cancelled(env: dict[str, str], comfyui: ComfyUI) -> None:
    """Cancelling ends the run in ComfyUI, and whoever waits is told."""
    comfyui.emulate(step_s=0.2)
    try:
        async with over_stdio(env) as client:
            arguments = {"prompt": "x", "steps": 200, "timeout_s": 0}
            job = data_of(await client.call_tool("portrait", arguments))["job"]
            cancelled = data_of(await client.call_tool("job", {"action": "cancel", "job": job}))
            queue = comfyui.http.get("/queue").json()
    finally:
        comfyui.emulate(step_s=0.0)

    assert cancelled["status"] == "cancelled"
    assert queue == {"queue_running": [], "queue_pending": []}


async def test_the_models_of_this_machine_are_listed(env: dict[str, str]) -> None:
    """scanLocalModels answers with categories, as the seed's JSON has them."""
    async with over_stdio(env) as client:
        await client.list_tools()
        data = data_of(await client.call_tool("scanLocalModels", {}))

    assert [file["name"] for file in data["categories"]["checkpoints"]] == ["sd_xl_base_1.0.safetensors"]
    assert (data["files"], data["next_cursor"]) == (1, None)


async def test_status_says_what_is_ready_and_what_is_missing(env: dict[str, str]) -> None:
    """The local ComfyUI is ready, RunPod is not configured, and the answer says how to."""
    async with over_stdio(env) as client:
        await client.list_tools()
        data = data_of(await client.call_tool("backend_status", {}))

    local, runpod = data["backends"]
    assert (local["backend"], local["healthy"], local["version"]) == ("local", True, "0.29.0")
    assert (runpod["backend"], runpod["configured"]) == ("runpod", False)
    assert "is not set" in runpod["error"]
    assert data["output_dir"] == env["COMFYFORM_OUTPUT_DIR"]


async def test_resources_are_listed_read_and_bounded(env: dict[str, str], tmp_path: Path) -> None:
    """The registry and generated files are there; a film that is too large is named by its path."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "film.mp4").write_bytes(bytes(READ_LIMIT_BYTES + 1))
    registry = tmp_path / "models.yaml"
    registry.write_text("required: {}\n")
    async with over_stdio(env, "--registry", str(registry)) as client:
        listed = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        text = (await client.read_resource("comfyform://registry")).contents[0]
        with pytest.raises(MCPError, match=f"It is on this machine: {outputs / 'film.mp4'}"):
            await client.read_resource("comfyform://outputs/film.mp4")
        with pytest.raises(MCPError, match="Call compareModels first"):
            await client.read_resource("comfyform://comparison")
        with pytest.raises(MCPError, match="outside the output folder"):
            await client.read_resource("comfyform://outputs/../models.yaml")
        with pytest.raises(MCPError, match="Unknown resource 'file:///etc/passwd'"):
            await client.read_resource("file:///etc/passwd")

    assert [resource.uri for resource in listed] == ["comfyform://registry", "comfyform://outputs/film.mp4"]
    assert [template.uri_template for template in templates] == ["comfyform://outputs/{+path}"]
    assert isinstance(text, TextResourceContents)
    assert text.text == "required: {}\n"
