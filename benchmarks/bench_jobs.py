"""What waiting for RunPod costs: python benchmarks/bench_jobs.py

One job plane on loopback (starlette and uvicorn in a process of its own) whose
jobs take 0.3 s, asked by our client and by RunPod's own SDK in the same run:
one job, then a hundred at once. And the time until a program can submit:
import and client, each in fresh interpreters, over bare Python.

Other peers (``benchmarks/requirements.txt``):

- mirror-fit-sdk 0.3: by its runsync, its address set after it was made; it waits with no poll and no job id.
  Its asynchronous way asks ``/{id}/status``, which RunPod does not have.
- comfy-gen 0.2: cannot. RunPod's address is fixed in its source, and it looks every 5 s.
- comfy-sdk: cannot. It speaks the Comfy API v2; `bench_result` has it.

Prints JSON: seconds, and the ratios that DESIGN section 8 promises.
"""

import asyncio
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

JOB_S = 0.3
AT_ONCE = 100
TICK_S = 0.001
"""Timers may fire a moment early, when the job has not ended yet."""
PORT_LINE = "listening on "


def serve() -> None:
    """Be the job plane: a job ends JOB_S after it was submitted."""
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    ends: dict[str, float] = {}
    numbers = itertools.count()

    def shown(job_id: str) -> JSONResponse:
        done = time.monotonic() >= ends[job_id]
        output = {"output": {"ok": True}} if done else {}
        return JSONResponse({"id": job_id, "status": "COMPLETED" if done else "IN_PROGRESS", **output})

    async def submit(request: Request) -> JSONResponse:
        await request.body()
        job_id = f"job-{next(numbers)}"
        ends[job_id] = time.monotonic() + JOB_S
        if request.url.path.endswith("runsync"):
            await asyncio.sleep(JOB_S + TICK_S)
            return shown(job_id)
        return JSONResponse({"id": job_id, "status": "IN_QUEUE"})

    async def status(request: Request) -> JSONResponse:
        job_id = request.path_params["job"]
        if "status-sync" in request.url.path:
            await asyncio.sleep(max(0.0, ends[job_id] - time.monotonic()) + TICK_S)
        return shown(job_id)

    app = Starlette(
        routes=[
            Route("/{endpoint}/run", submit, methods=["POST"]),
            Route("/{endpoint}/runsync", submit, methods=["POST"]),
            Route("/{endpoint}/status/{job}", status),
            Route("/{endpoint}/status-sync/{job}", status),
        ]
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"{PORT_LINE}{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_keep_alive=75)).run(sockets=[listener])


@contextmanager
def job_plane() -> Any:
    """Run the job plane in its own process and yield its address."""
    process = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().removeprefix(PORT_LINE).strip()}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def best(times: int, measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(times))


def ours(url: str) -> dict[str, float]:
    from backend.flow.http_driver import AsyncHttp, Http
    from backend.runpod.job_api import JobPlane
    from backend.settings import Secret

    plane = JobPlane(url, Secret("rpa_bench"))
    with Http() as http:

        def one() -> float:
            start = time.perf_counter()
            http.run(plane.call("ep", {"a": 1}, deadline_s=30))
            return time.perf_counter() - start

        one()
        alone = best(5, one)

    async def crowd() -> float:
        async with AsyncHttp() as client:
            await client.run(plane.call("ep", {"a": 1}, deadline_s=30))
            start = time.perf_counter()
            calls = (client.run(plane.call("ep", {"a": n}, deadline_s=30)) for n in range(AT_ONCE))
            await asyncio.gather(*calls)
            return time.perf_counter() - start

    return {"one_s": alone, "hundred_s": best(5, lambda: asyncio.run(crowd()))}


SDK = """
import asyncio, json, sys, time
import aiohttp, runpod
from runpod import AsyncioEndpoint, Endpoint

runpod.api_key = "rpa_bench"

def one():
    start = time.perf_counter()
    Endpoint("ep").run({"a": 1}).output(timeout=30)
    return time.perf_counter() - start

async def crowd():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        endpoint = AsyncioEndpoint("ep", session)
        async def call(n):
            return await (await endpoint.run({"a": n})).output(timeout=30)
        start = time.perf_counter()
        await asyncio.gather(*(call(n) for n in range(100)))
        return time.perf_counter() - start

one()
print(json.dumps({"one_s": min(one() for _ in range(3)), "hundred_s": asyncio.run(crowd())}))
"""


def peer(program: str, url: str) -> dict[str, float]:
    env = os.environ | {"RUNPOD_ENDPOINT_BASE_URL": url}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


MIRROR_FIT = """
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from mirror_fit.serverless import ServerlessClient

def one(_=0):
    client = ServerlessClient("rpa_bench", "ep")
    client.base_url = os.environ["RUNPOD_ENDPOINT_BASE_URL"] + "/ep"
    start = time.perf_counter()
    assert client.run_sync({"1": {"class_type": "A", "inputs": {}}}, [])["output"] == {"ok": True}
    return time.perf_counter() - start

one()
alone = min(one() for _ in range(3))
with ThreadPoolExecutor(100) as pool:
    start = time.perf_counter()
    list(pool.map(one, range(100)))
    print(json.dumps({"one_s": alone, "hundred_s": time.perf_counter() - start}))
"""


def until_ready() -> dict[str, float]:
    """Seconds of a fresh interpreter, over those of one that does nothing."""
    programs = {
        "bare": "pass",
        "backend": "import backend; backend.get_backend('local')",
        "runpod": "import runpod",
    }

    # Compiled modules are kept, as on any machine where a program is used twice.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)
        return time.perf_counter() - start

    # Taken in turns, so that whatever else this machine does hits all of them.
    rounds = [{name: run(code) for name, code in programs.items()} for _ in range(7)]
    least = {name: min(times[name] for times in rounds) for name in programs}
    return {name: least[name] - least["bare"] for name in ("backend", "runpod")}


def main() -> None:
    ready = until_ready()
    with job_plane() as url:
        mine, theirs = ours(url), peer(SDK, url)
        mirror = peer(MIRROR_FIT, url) if importlib.util.find_spec("mirror_fit") else "not installed"
    report = {
        "import_s": ready,
        "import_ratio": ready["backend"] / ready["runpod"],
        "job_s": JOB_S,
        "ours": mine,
        "runpod_sdk": theirs,
        "mirror_fit_sdk": mirror,
        "one_over_promise": mine["one_s"] / (1.05 * JOB_S + 0.02),
        "hundred_over_promise": mine["hundred_s"] / 0.5,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
