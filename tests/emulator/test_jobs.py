"""The job plane of the emulator: states, waits, limits and words, and the `runpod` client against it."""

from __future__ import annotations

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from tests.support.emulation import Emulator

ENDPOINT = {
    "name": "e",
    "type": "QUEUE",
    "image": "nobody/nothing",
    "cpu": [{"id": "cpu3c", "vcpuCount": 2}],
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "workers": {"max": 1},
}
PAUSED = {
    "status": 409,
    "title": "Conflict",
    "detail": "Endpoint is paused (max_workers=0). Set max_workers > 0 to accept work.",
    "code": "ENDPOINT_PAUSED",
}
UNKNOWN_JOB = {"status": 404, "title": "Not Found", "detail": "job not found"}


class Worker:
    """A worker played by the test over the real protocol: the image of ENDPOINT never starts."""

    def __init__(self, emu: Emulator, endpoint_id: str) -> None:
        self._emu = emu
        self._endpoint_id = endpoint_id
        self._worker = emu.state()["workers"][0]

    def ask(
        self, method: str, operation: str, *rest: str, query: str = "?gpu=CPU", **body: Any
    ) -> httpx.Response:
        path = "/".join([self._emu.url("jobs"), self._endpoint_id, operation, self._worker["id"], *rest])
        content = json.dumps(body) if method == "POST" else None
        return httpx.request(
            method, path + query, content=content, headers={"Authorization": self._worker["key"]}
        )

    def take(self) -> dict[str, Any]:
        return dict(self.ask("GET", "job-take").json())

    def done(self, job_id: str, **body: Any) -> httpx.Response:
        return self.ask("POST", "job-done", job_id, query="?gpu=CPU&isStream=false", **body)


@pytest.fixture
def endpoint(emu: Emulator) -> str:
    """Return the id of an endpoint whose worker never starts."""
    return str(emu.rest("POST", "/serverless", ENDPOINT).json()["id"])


def run(emu: Emulator, endpoint_id: str, **body: Any) -> str:
    return str(emu.jobs("POST", f"/{endpoint_id}/run", {"input": {"a": 1}} | body).json()["id"])


def status(emu: Emulator, endpoint_id: str, job_id: str) -> dict[str, Any]:
    return dict(emu.jobs("GET", f"/{endpoint_id}/status/{job_id}").json())


@pytest.mark.slow
def test_a_job_goes_through_its_states(emu: Emulator, endpoint: str) -> None:
    """IN_QUEUE, IN_PROGRESS with the latest progress as output, COMPLETED; late progress changes nothing."""
    job_id = run(emu, endpoint, policy={"lowPriority": False})
    worker = Worker(emu, endpoint)
    queued = status(emu, endpoint, job_id)
    used = worker.take()
    worker.done(job_id, status="IN_PROGRESS", output={"step": 1})
    running = status(emu, endpoint, job_id)
    worker.done(job_id, output={"ok": True})
    worker.done(job_id, status="IN_PROGRESS", output={"step": 2})
    finished = status(emu, endpoint, job_id)

    assert queued == {"id": job_id, "status": "IN_QUEUE"}
    assert used == {"id": job_id, "input": {"a": 1}, "policy": {"lowPriority": False}}
    assert (running["status"], running["output"]) == ("IN_PROGRESS", {"step": 1})
    assert (finished["status"], finished["output"]) == ("COMPLETED", {"ok": True})
    assert set(finished) == {"delayTime", "executionTime", "id", "output", "status", "workerId"}


def test_an_error_fails_the_job_and_it_can_be_retried(emu: Emulator, endpoint: str) -> None:
    """FAILED keeps error and output; retry queues the same id again without them; only then."""
    job_id = run(emu, endpoint)
    worker = Worker(emu, endpoint)
    early = emu.jobs("POST", f"/{endpoint}/retry/{job_id}")
    worker.take()
    worker.done(job_id, error="no such model", output={"hint": "x"})
    failed = status(emu, endpoint, job_id)
    retried = emu.jobs("POST", f"/{endpoint}/retry/{job_id}").json()

    assert early.status_code == 400
    assert (failed["status"], failed["error"], failed["output"]) == ("FAILED", "no such model", {"hint": "x"})
    assert retried == {"id": job_id, "status": "IN_QUEUE"}
    assert status(emu, endpoint, job_id) == {"id": job_id, "status": "IN_QUEUE"}


def test_runsync_waits_and_then_answers_200_with_the_state(emu: Emulator, endpoint: str) -> None:
    """A job that takes longer than the wait is no error: the id says how to go on."""
    reply = emu.jobs("POST", f"/{endpoint}/runsync?wait=1000", {"input": {"a": 1}})

    assert reply.status_code == 200
    assert (reply.json()["id"].startswith("sync-"), reply.json()["status"]) == (True, "IN_QUEUE")


def test_a_cancelled_job_is_dropped_by_its_worker(emu: Emulator, endpoint: str) -> None:
    """Cancel ends a queued and a running job; the worker is told which, and its result is ignored."""
    running, queued = run(emu, endpoint), run(emu, endpoint)
    worker = Worker(emu, endpoint)
    worker.take()
    answers = [emu.jobs("POST", f"/{endpoint}/cancel/{job_id}").json() for job_id in (running, queued)]
    stops = worker.ask("GET", "job-stop").json()
    worker.done(running, output=1)

    assert answers == [{"id": job_id, "status": "CANCELLED"} for job_id in (running, queued)]
    assert stops == {"jobsToStop": [running]}
    assert status(emu, endpoint, running)["status"] == "CANCELLED"


def test_purge_removes_only_what_waits(emu: Emulator, endpoint: str) -> None:
    """Queued jobs are gone, a running one stays, and health counts it."""
    running, queued = run(emu, endpoint), run(emu, endpoint)
    Worker(emu, endpoint).take()
    purged = emu.jobs("POST", f"/{endpoint}/purge-queue").json()
    health = emu.jobs("GET", f"/{endpoint}/health").json()

    assert purged == {"removed": 1, "status": "completed"}
    assert status(emu, endpoint, queued) == UNKNOWN_JOB
    assert status(emu, endpoint, running)["status"] == "IN_PROGRESS"
    assert health["jobs"] == {"completed": 0, "failed": 0, "inProgress": 1, "inQueue": 0, "retried": 0}


def test_a_stream_is_drained(emu: Emulator, endpoint: str) -> None:
    """Each call gives the chunks since the last one, and the state."""
    job_id = run(emu, endpoint)
    worker = Worker(emu, endpoint)
    worker.take()
    for word in ("a", "b"):
        worker.ask("POST", "job-stream", job_id, output=word)
    first = emu.jobs("GET", f"/{endpoint}/stream/{job_id}").json()
    worker.done(job_id, output=[])
    second = emu.jobs("GET", f"/{endpoint}/stream/{job_id}").json()

    assert first == {"status": "IN_PROGRESS", "stream": [{"output": "a"}, {"output": "b"}]}
    assert second == {"status": "COMPLETED", "stream": []}


@pytest.mark.parametrize(("sync", "seconds"), [(False, 1801), (True, 91)])
def test_results_are_kept_for_a_while(emu: Emulator, endpoint: str, sync: bool, seconds: float) -> None:
    """Half an hour for /run, a minute or as long as the wait for /runsync; then the job is unknown."""
    reply = emu.jobs("POST", f"/{endpoint}/" + ("runsync?wait=1000" if sync else "run"), {"input": {"a": 1}})
    job_id = reply.json()["id"]
    worker = Worker(emu, endpoint)
    worker.take()
    worker.done(job_id, output=1)
    emu.advance(seconds / 2)
    remaining = status(emu, endpoint, job_id)
    emu.advance(seconds / 2)

    assert remaining["status"] == "COMPLETED"
    assert status(emu, endpoint, job_id) == UNKNOWN_JOB


def test_an_expired_job_is_unknown(emu: Emulator, endpoint: str) -> None:
    """Past its ttl a job is deleted, whatever its state."""
    job_id = run(emu, endpoint, policy={"ttl": 10_000})
    emu.advance(11)

    assert status(emu, endpoint, job_id) == UNKNOWN_JOB


@pytest.mark.parametrize("outcome", ["TIMED_OUT", "FAILED"])
def test_a_job_that_runs_too_long_is_ended(emu: Emulator, endpoint: str, outcome: str) -> None:
    """The job's own policy goes over the endpoint's timeout; the worker is told to drop it."""
    emu.set(timeout_status=outcome)
    job_id = run(emu, endpoint, policy={"executionTimeout": 5_000})
    worker = Worker(emu, endpoint)
    worker.take()
    emu.advance(6)
    ended = status(emu, endpoint, job_id)

    assert (ended["status"], ended["error"]) == (outcome, "job timed out")
    assert worker.ask("GET", "job-stop").json() == {"jobsToStop": [job_id]}


def test_a_paused_endpoint_refuses_and_needs_a_moment_to_come_back(emu: Emulator, endpoint: str) -> None:
    """workers.max 0 is 409 ENDPOINT_PAUSED, and so are the first seconds after it is raised."""
    emu.set(unpause_delay_s=12.0)
    emu.rest("PATCH", f"/serverless/{endpoint}", {"workers": {"max": 0}})
    paused = emu.jobs("POST", f"/{endpoint}/run", {"input": {"a": 1}})
    emu.rest("PATCH", f"/serverless/{endpoint}", {"workers": {"max": 1}})
    still = emu.jobs("POST", f"/{endpoint}/run", {"input": {"a": 1}})
    emu.advance(13)
    back = emu.jobs("POST", f"/{endpoint}/run", {"input": {"a": 1}})

    assert (paused.status_code, paused.json()) == (409, PAUSED)
    assert still.json() == PAUSED
    assert back.json()["status"] == "IN_QUEUE"


def test_a_job_may_be_unknown_at_first(emu: Emulator, endpoint: str) -> None:
    """With a propagation delay /status is 404 for a moment although /run has answered."""
    emu.set(propagation_delay_s=30.0)
    job_id = run(emu, endpoint)
    first = status(emu, endpoint, job_id)
    emu.advance(31)

    assert first == UNKNOWN_JOB
    assert status(emu, endpoint, job_id)["status"] == "IN_QUEUE"


def test_what_is_wrong_is_refused(emu: Emulator, endpoint: str) -> None:
    """Keys, endpoints, bodies, sizes and rates, in the job plane's shape."""
    emu.set(run_body_bytes=100, job_rate_per_10s={"status": 1})
    url = f"{emu.url('jobs')}/{endpoint}"
    key = {"Authorization": emu.env["RUNPOD_API_KEY"]}
    replies = [
        httpx.get(f"{url}/health"),
        httpx.get(f"{url}/health", headers={"Authorization": "Bearer rpa_no"}),
        emu.jobs("GET", "/nope/health"),
        emu.jobs("POST", f"/{endpoint}/run", {"prompt": 1}),
        emu.jobs("POST", f"/{endpoint}/run", {"input": {}, "policy": {"executionTimeout": 10}}),
        emu.jobs("POST", f"/{endpoint}/run", {"input": {}, "policy": 7}),
        emu.jobs("POST", f"/{endpoint}/run", {"input": "x" * 200}),
        emu.jobs("POST", f"/{endpoint}/runsync?wait=soon", {"input": {}}),
        emu.jobs("GET", f"/{endpoint}/status/nope"),
        emu.jobs("GET", f"/{endpoint}/status/nope"),
        emu.jobs("GET", f"/{endpoint}/requests"),
        emu.jobs("DELETE", f"/{endpoint}/run"),
    ]

    assert [(reply.status_code, reply.json()["detail"]) for reply in replies] == [
        (401, "no token provided"),
        (401, "invalid api key"),
        (404, "endpoint not found"),
        (400, "input is required"),
        (400, "policy.executionTimeout must be from 5000 to 604800000 milliseconds"),
        (400, "policy must be an object"),
        (400, "request body is larger than 100 bytes"),
        (400, "wait must be a number of milliseconds"),
        (404, "job not found"),
        (429, "rate limit exceeded"),
        (501, f"emulator: GET /jobs/v2/{endpoint}/requests is not emulated"),
        (405, "method not allowed"),
    ]
    assert replies[9].headers["retry-after"] == "1"
    assert httpx.get(f"{url}/health", headers=key).status_code == 200


def test_a_webhook_is_posted_when_the_job_ends_and_again_when_it_is_refused(
    emu: Emulator, endpoint: str
) -> None:
    """The job's object goes to the URL that came with it, up to three times; the job does not care."""
    emu.set(webhook_retry_s=0.01)
    heard: list[tuple[str | None, dict[str, Any]]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.headers["User-Agent"], body))
            self.send_response(500 if len(heard) < 3 else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        job_id = run(emu, endpoint, webhook=url)
        worker = Worker(emu, endpoint)
        worker.take()
        worker.done(job_id, output="x")
        for _ in range(3):
            server.handle_request()
    agent, body = heard[-1]

    assert agent == "Go-http-client/2.0"
    assert body == status(emu, endpoint, job_id) | {"input": {"a": 1}, "webhook": url}
    assert [entry for _, entry in heard] == [body] * 3


@pytest.mark.slow
def test_the_runpod_client_works_unmodified(emu: Emulator) -> None:
    """runpod.Endpoint runs, polls, cancels and reads health here as on RunPod."""
    endpoint_id = emu.rest("POST", "/serverless", ENDPOINT | {"image": "echo"}).json()["id"]
    script = """
import json, sys, runpod
endpoint = runpod.Endpoint(sys.argv[1], api_key=sys.argv[2])
sync = endpoint.run_sync({"input": {"a": 1}}, timeout=120)
job = endpoint.run({"input": {"do": "error", "message": "boom"}})
failed = job.output(timeout=120)
waiting = endpoint.run({"input": {"do": "sleep", "seconds": 0.1}})
print(json.dumps([sync, failed, job.status(), waiting.cancel(), endpoint.health()["jobs"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, endpoint_id, emu.env["RUNPOD_API_KEY"]],
        env={"RUNPOD_ENDPOINT_BASE_URL": emu.url("jobs"), "HOME": str(emu.root)},
        capture_output=True,
        check=True,
    )
    sync, failed, state, cancelled, jobs = json.loads(done.stdout.splitlines()[-1])

    assert sync == {"echo": {"a": 1}, "keys": ["id", "input"]}
    assert (failed, state, cancelled["status"]) == (None, "FAILED", "CANCELLED")
    assert (jobs["completed"], jobs["failed"]) == (1, 1)
