"""What clients of RunPod other than ours rely on: how they are pointed here, limits, headers, shapes."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.jobs.queue import split
from tests.emulator.test_jobs import ENDPOINT, Worker, run, status
from tests.support.echo_endpoint import endpoint as echo_endpoint
from tests.support.emulation import Emulator


@pytest.fixture
def endpoint(emu: Emulator) -> str:
    """Make an endpoint whose worker never starts, and return its id."""
    return str(emu.rest("POST", "/serverless", ENDPOINT).json()["id"])


@pytest.mark.slow
def test_a_handler_that_blocks_for_longer_than_a_server_waits_keeps_its_result(emu: Emulator) -> None:
    """The SDK sends the result on the connection of its last request, which must still be open after 7 s."""
    endpoint_id = echo_endpoint(emu)
    first = run(emu, endpoint_id, input={"a": 1})
    second = run(emu, endpoint_id, input={"do": "sleep", "seconds": 7})

    ended = emu.jobs("GET", f"/{endpoint_id}/status-sync/{second}?wait=60000").json()

    assert status(emu, endpoint_id, first)["status"] == "COMPLETED"
    assert (ended["status"], ended["output"], ended.get("retries")) == ("COMPLETED", {"slept": 7}, None)
    assert emu.jobs("GET", f"/{endpoint_id}/health").json()["jobs"]["retried"] == 0


@pytest.mark.slow
def test_the_env_file_alone_points_the_runpod_client_here(emu: Emulator) -> None:
    """`RUNPOD_ENDPOINT_BASE_URL` is in it, and GraphQL is refused here, not asked at the real RunPod."""
    endpoint_id = echo_endpoint(emu)
    script = """
import os, sys, runpod
runpod.api_key = os.environ["RUNPOD_API_KEY"]
print(runpod.Endpoint(sys.argv[1]).run_sync({"input": {"a": 1}}, timeout=120))
try:
    runpod.get_gpus()
except Exception as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, endpoint_id],
        env={**emu.env, "HOME": str(emu.root)},
        capture_output=True,
        text=True,
        check=True,
    )

    answer, refusal = done.stdout.splitlines()[-2:]
    assert answer == "{'echo': {'a': 1}, 'keys': ['id', 'input']}"
    assert "GraphQL is not emulated" in refusal


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("POST", "/graphql", 501, "GraphQL is not emulated"),
        ("POST", "/rest/graphql", 501, "use REST v2"),
        ("GET", "/v1/endpoints", 501, "REST v1 is not emulated"),
        ("GET", "/rest/v1/pods", 501, "REST v1 is not emulated"),
        ("GET", "/nowhere", 404, "nothing is served at /nowhere"),
    ],
)
def test_what_is_not_emulated_says_so_in_json(
    emu: Emulator, method: str, path: str, code: int, words: str
) -> None:
    """A client that decodes every answer as JSON can show why."""
    origin = emu.url("control").removesuffix("/_emulator")

    reply = httpx.request(method, origin + path, json={"query": "{myself{id}}"})

    assert (reply.status_code, reply.headers["content-type"]) == (code, "application/json")
    assert words in reply.json()["detail"]
    assert words in reply.json()["errors"][0]["message"]


def test_a_method_that_a_path_does_not_have_names_those_that_it_has(emu: Emulator, endpoint: str) -> None:
    """RFC 9110 §15.5.6: 405 comes with Allow."""
    reply = emu.jobs("GET", f"/{endpoint}/run")

    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_documented_rates_hold_when_they_are_turned_on(emu: Emulator, endpoint: str) -> None:
    """Off by default; RunPod's table says two purges of a queue in 10 s."""
    free = [emu.jobs("POST", f"/{endpoint}/purge-queue").status_code for _ in range(4)]
    emu.set(job_rates_as_documented=True)
    limited = [emu.jobs("POST", f"/{endpoint}/purge-queue") for _ in range(4)]

    assert free == [200] * 4
    assert [reply.status_code for reply in limited] == [200, 200, 429, 429]
    assert limited[-1].headers["retry-after"] == "1"
    emu.set(job_rate_per_10s={"purge-queue": 5})
    assert emu.jobs("POST", f"/{endpoint}/purge-queue").status_code == 200


def test_a_long_string_is_streamed_in_chunks(emu: Emulator, endpoint: str) -> None:
    """RunPod documents at most 1 MB a chunk; here the limit is a knob, and nothing is lost."""
    emu.set(stream_chunk_bytes=1000)
    job_id = run(emu, endpoint)
    worker = Worker(emu, endpoint)
    worker.take()
    worker.ask("POST", "job-stream", job_id, output="ä" * 1250)
    worker.ask("POST", "job-stream", job_id, output={"big": "x" * 2000})

    chunks = emu.jobs("GET", f"/{endpoint}/stream/{job_id}").json()["stream"]

    texts = [chunk["output"] for chunk in chunks[:-1]]
    assert [len(text.encode()) for text in texts] == [1000, 1000, 500]
    assert "".join(texts) == "ä" * 1250
    assert chunks[-1]["output"] == {"big": "x" * 2000}


@given(text=st.text(st.characters()), limit=st.integers(1, 12))
def test_pieces_of_a_string_are_whole_characters_and_together_the_string(text: str, limit: int) -> None:
    """No piece is longer than the limit, unless one character is."""
    pieces = split(text, limit)

    assert "".join(pieces) == text
    assert all(
        len(piece) == 1 or len(piece.encode("utf-8", "surrogatepass")) <= limit for piece in pieces[:-1]
    )


@pytest.mark.slow
def test_a_worker_has_the_documented_variables(emu: Emulator) -> None:
    """Handlers read them with `os.environ[...]`."""
    names = ["RUNPOD_PUBLIC_IP", "RUNPOD_MEM_GB", "RUNPOD_CPU_COUNT", "RUNPOD_POD_HOSTNAME"]
    endpoint_id = echo_endpoint(emu)

    wish = {"input": {"do": "env", "names": names}}
    seen = emu.jobs("POST", f"/{endpoint_id}/runsync?wait=60000", wish).json()["output"]

    assert seen["RUNPOD_PUBLIC_IP"] == "127.0.0.1"
    assert int(seen["RUNPOD_MEM_GB"]) >= 1
    assert None not in seen.values()
