"""The supervisor: starts the process that stands for a container image when a job waits, and ends it.

Which workers there should be is decided in `fleet`; what a job becomes when its worker dies, in `jobs`.
Every worker is a process group of its own, so that what it started ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
from pathlib import Path

from emulator.document import Document
from emulator.jobs.queue import IN_PROGRESS, IN_QUEUE
from emulator.state import Endpoint, State
from emulator.usage import Run
from emulator.workers import fleet
from emulator.workers.complaints import Complaints
from emulator.workers.environment import worker_environment
from emulator.workers.fleet import Worker
from emulator.workers.start_command import container_command, is_base_image

TICK_S = 0.25
PULL_AGAIN_S = 60.0


class Supervisor:
    """Keeps every endpoint's workers as they should be."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._loop: asyncio.Task[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reaper: asyncio.subprocess.Process | None = None
        self.complaints = Complaints(state)
        state.on_reset.append(self.kill_all)
        state.on_close.append(self.close)

    async def start(self) -> None:
        """Begin to supervise."""
        reaper = Path(__file__).with_name("reaper.py")
        self._reaper = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(reaper), stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        self._loop = asyncio.create_task(self._run())
        self._loop.add_done_callback(_complain)

    async def close(self) -> None:
        """End all workers, and then the reaper."""
        if self._loop is not None:
            self._loop.cancel()
        await self.kill_all()
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            await self._reaper.wait()

    async def kill_all(self) -> None:
        """End all workers at once, without grace, and wait until they are gone."""
        for worker in list(self._state.fleet.workers.values()):
            self._dismiss(worker)
            self.signal(worker, signal.SIGKILL)
        self._state.fleet.workers.clear()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def signal(self, worker: Worker, number: int) -> None:
        """Send a signal to a worker: SIGKILL to all that it started, others to its main process."""
        if worker.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(worker.pid, number)
            else:
                os.kill(worker.pid, number)

    async def _run(self) -> None:
        while True:
            self.tick()
            await self._state.bells.wait(TICK_S, "tick")

    def tick(self) -> None:
        """Look at everything once: overdue and lost jobs, workers too many or too few."""
        state = self._state
        state.jobs.expire()
        now = state.clock.now()
        for worker in list(state.fleet.workers.values()):
            worker.stamp(now)
            if worker.endpoint_id not in state.resources.endpoints:
                self.stop(worker)
        for endpoint_id in {job.endpoint_id for job in state.jobs.all()} - state.resources.endpoints.keys():
            state.jobs.drop_endpoint(endpoint_id)
        self._lose_silent_jobs()
        self._end_stuck_workers()
        for endpoint_id, endpoint in state.resources.endpoints.items():
            if endpoint.body["type"] == "QUEUE":
                self._balance(endpoint_id, endpoint, now)

    def _balance(self, endpoint_id: str, endpoint: Endpoint, now: float) -> None:
        state = self._state
        jobs = state.jobs.of_endpoint(endpoint_id)
        workers = state.fleet.of_endpoint(endpoint_id)
        surplus = fleet.surplus(
            endpoint.body,
            endpoint.version,
            workers,
            queued=any(job.status == IN_QUEUE for job in jobs),
            idle_scale=state.limits.idle_timeout_scale,
            now=now,
        )
        for worker in surplus:
            self.stop(worker)
        workers = [worker for worker in workers if worker not in surplus]
        for worker in workers:
            if worker.place is None:
                self._place(worker, endpoint)
        for _ in range(len(workers), fleet.wanted(endpoint.body, jobs, workers, now)):
            self._add(endpoint_id, endpoint, now)

    def _lose_silent_jobs(self) -> None:
        """Take jobs from workers that no longer speak of them."""
        state = self._state
        silent_since = state.clock.real() - state.limits.worker_lost_s
        for job in state.jobs.all():
            if job.status == IN_PROGRESS and job.seen_at < silent_since:
                worker = state.fleet.workers.get(job.worker_id or "")
                if worker is not None:
                    worker.jobs.discard(job.id)
                state.jobs.lose(job)

    def _end_stuck_workers(self) -> None:
        """Kill a worker that goes on with a job which was cancelled or has timed out."""
        state = self._state
        for worker in state.fleet.workers.values():
            open_jobs = {job.id for job in state.jobs.of_endpoint(worker.endpoint_id, IN_PROGRESS)}
            if worker.jobs <= open_jobs:
                worker.stuck_since = None
            elif worker.stuck_since is None:
                worker.stuck_since = state.clock.real()
            elif state.clock.real() > worker.stuck_since + state.limits.worker_stuck_s:
                worker.events.append("container killed: it did not stop a job that had ended")
                worker.jobs &= open_jobs
                self.signal(worker, signal.SIGKILL)

    def _add(self, endpoint_id: str, endpoint: Endpoint, now: float) -> None:
        state = self._state
        worker_id = state.new_id(14)
        worker = Worker(
            id=worker_id,
            endpoint_id=endpoint_id,
            key="rpa_worker_" + secrets.token_hex(16),
            version=endpoint.version,
            image=endpoint.body["image"],
            args=endpoint.body["args"],
            gpu_count=endpoint.body["gpu"]["count"] if "gpu" in endpoint.body else 0,
            log=state.root / "logs" / f"{worker_id}.log",
            created_at=now,
            idle_since=now,
        )
        state.fleet.workers[worker_id] = worker
        self._place(worker, endpoint)

    def _place(self, worker: Worker, endpoint: Endpoint) -> None:
        worker.place = fleet.place(endpoint.body, self._state.resources.volumes, self._state.limits)
        if worker.place is not None:
            environment = worker_environment(self._state, worker, endpoint)
            self._tasks[worker.id] = asyncio.create_task(self._live(worker, environment))

    async def _live(self, worker: Worker, environment: dict[str, str]) -> None:
        """Run a worker's process, again when it ends by itself, until it is to be stopped."""
        scratch = self._state.root / "scratch" / worker.id
        try:
            image_command = self._state.images.get(worker.image)
            if image_command is None and not is_base_image(worker.image):
                worker.events.append(f"error pulling image {worker.image}: not found; retrying")
                self.complaints.no_image(worker)
                while not worker.stopping:
                    await self._pause(worker, PULL_AGAIN_S)
                return
            worker.events.append(f"create container {worker.image}")
            await self._pause(worker, self._state.limits.cold_start_s)
            scratch.mkdir(parents=True, exist_ok=True)
            while not worker.stopping:
                await self._run_once(worker, image_command, environment, scratch)
                await self._pause(worker, min(10.0, 0.25 * 2**worker.crashes))
        finally:
            self._state.fleet.workers.pop(worker.id, None)
            self._tasks.pop(worker.id, None)
            shutil.rmtree(scratch, ignore_errors=True)
            self._state.bells.ring("tick")

    async def _pause(self, worker: Worker, seconds: float) -> None:
        """Wait, but not once the worker is to be stopped: cancelling could leave a process behind."""
        if not worker.stopping:
            await self._state.bells.wait(seconds, ("stop", worker.id))

    async def _run_once(
        self, worker: Worker, image_command: str | None, environment: dict[str, str], cwd: Path
    ) -> None:
        with worker.log.open("ab") as log:
            begins = log.tell()
            try:
                command = container_command(image_command, worker.args)
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            except (OSError, ValueError) as error:  # ValueError: a NUL in the environment, or BadCommand
                worker.events.append(f"error starting container: {error}")
                self.complaints.not_started(worker, error)
                worker.crashes += 1
                return
        worker.pid, worker.started_at = process.pid, self._state.clock.now()
        self._tell_reaper(process.pid)
        worker.events.append("start container")
        self._bill(worker)
        if worker.stopping:
            self.signal(worker, signal.SIGKILL)
        try:
            code = await process.wait()
            # To end well is what a worker may do that has had its jobs, as after refresh_worker.
            if not worker.stopping and (code or not worker.ready):
                self.complaints.ended(worker, code, worker.log_lines(begins))
        finally:
            # What it started and left behind ends with it, as in a container.
            self.signal(worker, signal.SIGKILL)
            self._tell_reaper(-process.pid)
            worker.pid, worker.ready = None, False
            self._state.ledger.end(worker.id)
            self._state.bells.ring(("stop", worker.id))
        worker.events.append(f"container exited with {code}")
        for job_id in list(worker.jobs):
            worker.jobs.discard(job_id)
            job = self._state.jobs.get(worker.endpoint_id, job_id)
            if job is not None and job.worker_id == worker.id:
                self._state.jobs.lose(job)
        if code == 0:
            # It ended on its own will, as after refresh_worker: another one takes its place.
            worker.stopping = True
        worker.crashes += 1

    def _bill(self, worker: Worker) -> None:
        """Begin to count the seconds of a worker's process."""
        endpoint, place = self._state.resources.endpoints.get(worker.endpoint_id), worker.place
        if endpoint is None or place is None:
            return
        cpu: Document = endpoint.body["cpu"][0] if place.gpu_type is None else {"id": None, "vcpuCount": 0}
        self._state.ledger.start(
            Run(
                endpoint_id=worker.endpoint_id,
                worker_id=worker.id,
                gpu_type=place.gpu_type,
                gpus=worker.gpu_count,
                cpu=cpu["id"],
                vcpus=cpu["vcpuCount"],
                disk_gb=endpoint.body["disk"],
                started_at=self._state.clock.now(),
            )
        )

    def _tell_reaper(self, group: int) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.write(f"{group}\n".encode())

    def stop(self, worker: Worker) -> None:
        """End a worker: its long polls are answered, it gets SIGTERM and some time."""
        if worker.stopping:
            return
        self._dismiss(worker)
        if worker.id not in self._tasks:
            self._state.fleet.workers.pop(worker.id, None)
            return
        self.signal(worker, signal.SIGTERM)
        asyncio.get_running_loop().call_later(
            self._state.limits.worker_grace_s, self.signal, worker, signal.SIGKILL
        )

    def _dismiss(self, worker: Worker) -> None:
        """Let a worker's own task and its long polls know that it is to go."""
        worker.stopping = True
        self._state.bells.ring(("stop", worker.id))


def _complain(task: asyncio.Task[None]) -> None:
    """Tell at once when the supervisor has failed: without it no job would ever start."""
    if not task.cancelled() and task.exception():
        context = {"message": "the emulator's supervisor failed", "exception": task.exception()}
        asyncio.get_running_loop().call_exception_handler(context)
