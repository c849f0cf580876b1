"""RunPod's job plane as flows: submit, wait, cancel.

Nothing here knows what a job does. Two rules keep money safe: a POST that may
have been taken is never repeated, and whoever stops waiting for a `call`
cancels its job.

Source: docs.runpod.io, serverless/endpoints/send-requests (read 2026-08-20).
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from backend.contract import RUN_LIMIT_BYTES, RUNSYNC_LIMIT_BYTES
from backend.errors import (
    ApiError,
    ComfyformError,
    InvalidJson,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    RateLimited,
    Unavailable,
    WaitTimeout,
)
from backend.flow import RETRY, Flow, Reply, Retry, Send, ask, check, send
from backend.flow.polling import pause_if_passing, poll
from backend.flow.request_slots import most_at_once
from backend.jobs.polling import Absence, OnStatus
from backend.jobs.status import JobStatus, gone, outcome, too_late
from backend.runpod.job_lookup import StatusAnswers, id_of, news_since
from backend.runpod.job_request import body, execution_policy, submit_once
from backend.settings import Secret
from backend.validation.checks import check_id

HOLD_S: Final = 2.0
"""How long RunPod is asked to hold an answer back until the job ends: short jobs then cost two calls and
no delay. Progress comes only with the plain polls after it."""
UNKNOWN_GRACE_S: Final = 150.0
"""A status may answer 404 for a while after the job was accepted (seen live, 2026)."""
_NO_HOLD: Final = (400, 404, 405, 501)
"""Answers of a RunPod without status-sync; a 404 may also mean that the job is not known there yet."""
MAX_HELD: Final = most_at_once() // 2
"""Jobs that are waited for at the same time of which answers are held back: each holds a connection."""
POLLS_PER_S: Final = 100
"""All polls of one endpoint together; RunPod allows 2,000 in 10 s."""


def poll_delay(waited_s: float, waiting: int = 1) -> float:
    """Tell how long to wait before asking again: soon at first, then a share of the time waited.

    Args:
        waited_s: time since the job was submitted.
        waiting: jobs of this endpoint that are being waited for at the same time.

    Returns:
        Seconds, at most 5 for a single job: an answer comes late by no more than 4 % and 10 ms.
    """
    return max(min(0.01 + 0.04 * waited_s, 5.0), (waiting - 1) / POLLS_PER_S)


class JobPlane:
    """The jobs of one account. Safe to share between threads and tasks.

    Args:
        base_url: for example ``https://api.runpod.ai/v2``.
        api_key: RunPod's key.
        clock: monotonic seconds.
        retry: for calls that may be repeated.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Secret,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry: Retry = RETRY,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = api_key
        self._clock = clock
        self._retry = retry
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._holds = True

    def submit(
        self, endpoint_id: str, job_input: Mapping[str, Any], *, policy: Mapping[str, Any] | None = None
    ) -> Flow[str]:
        """Put a job into the queue and return its id.

        Args:
            endpoint_id: which endpoint.
            job_input: the job, at most 10 MB as JSON.
            policy: RunPod's own, ``executionTimeout`` and ``ttl`` in milliseconds.

        Raises:
            Unavailable: with ``.sent`` True the job may be in the queue, under an unknown id.
        """
        content = body(job_input, policy, limit=RUN_LIMIT_BYTES, way="/run")
        return (yield from self._start(endpoint_id, "run", content, timeout_s=60.0)).id

    def submit_sync(
        self,
        endpoint_id: str,
        job_input: Mapping[str, Any],
        *,
        hold_s: float = HOLD_S,
        policy: Mapping[str, Any] | None = None,
    ) -> Flow[JobStatus]:
        """Submit a job that may be short: the answer comes when it ends, or after ``hold_s`` at the latest.

        Args:
            endpoint_id, job_input, policy: as for `submit`; at most 20 MB.
            hold_s: 1 to 300.
        """
        content = body(job_input, policy, limit=RUNSYNC_LIMIT_BYTES, way="/runsync")
        wait_ms = round(min(max(hold_s, 1.0), 300.0) * 1000)
        return (
            yield from self._start(endpoint_id, "runsync", content, timeout_s=hold_s + 60.0, wait=wait_ms)
        )

    def status(self, endpoint_id: str, job_id: str) -> Flow[JobStatus]:
        """Ask how a job is.

        Raises:
            NotFound: RunPod does not know it (any more).
        """
        step = self._get(endpoint_id, "status", job_id)
        reply = yield from ask(step, f"Ask for job {job_id}", retry=self._retry)
        return JobStatus.from_json(reply.object(), job_id)

    def wait(
        self,
        endpoint_id: str,
        job_id: str,
        *,
        deadline_s: float,
        fresh: bool = False,
        on_status: OnStatus | None = None,
    ) -> Flow[Any]:
        """Wait for a job to end and return its output. The job lives on whatever happens here.

        Yields its progress updates, and ``{"progress": "job", "state", "job_id"}`` whenever the
        state changes.

        Args:
            endpoint_id, job_id: which job.
            deadline_s: seconds from now.
            fresh: it was submitted just now, so that RunPod may not know it everywhere yet.
            on_status: called with every answer, for whoever keeps a journal.

        Raises:
            JobFailed, JobCancelled, JobExpired: its end.
            WaitTimeout: the deadline passed.
        """
        start = self._clock()
        seen: JobStatus | None = None
        hold, held, attempt, waited = True, False, 0, 0.0
        absence, answers = Absence(), StatusAnswers()

        def ask_once() -> Flow[Reply]:
            nonlocal hold, held, waited
            waited = self._clock() - start
            held = hold and self._holds and waited < HOLD_S and self._waiting[endpoint_id] <= MAX_HELD
            reply = yield from send(self._look(endpoint_id, job_id, held))
            if held and reply.status in _NO_HOLD:
                self._holds, hold, held = reply.status == 404, False, False
                reply = yield from send(self._look(endpoint_id, job_id, held))
            return reply

        def look() -> Flow[JobStatus | None]:
            nonlocal absence, attempt, seen
            job = answers.read(check((yield from ask_once()), f"Ask for job {job_id}"), job_id)
            absence, attempt = Absence(), 0
            if on_status is not None:
                yield from on_status(job)
            if job.ended:
                return job
            yield from news_since(seen, job)
            seen = job
            return None

        def pause_after(error: ApiError) -> float | None:
            nonlocal attempt
            if isinstance(error, NotFound):
                early = fresh and not seen and waited <= UNKNOWN_GRACE_S
                if "endpoint" in error.body or (absence.confirmed(self._clock()) and not early):
                    raise gone(job_id, error) from error
                return 0.1
            attempt += 1
            passing = pause_if_passing(error)
            return None if passing is None else max(passing, self._retry.backoff(attempt))

        with self._counted(endpoint_id):
            job = yield from poll(
                look,
                deadline_s=deadline_s,
                # A wait whose answer is held back does not poll, so it takes no share of the polls.
                delay=lambda _: poll_delay(waited, 1 if held else self._waiting[endpoint_id]),
                clock=self._clock,
                too_late=lambda trouble: too_late(job_id, deadline_s, seen, trouble),
                pause_after=pause_after,
            )
        return outcome(job)

    def call(
        self,
        endpoint_id: str,
        job_input: Mapping[str, Any],
        *,
        deadline_s: float,
        short: bool = False,
        policy: Mapping[str, Any] | None = None,
        on_status: OnStatus | None = None,
    ) -> Flow[Any]:
        """Submit a job, wait for its output, and cancel it if the wait ends early.

        Args:
            endpoint_id, job_input: the job.
            deadline_s: for all of it together; also how long the worker may run.
            short: it is done in a moment and costs next to nothing to ask again, so ``/runsync`` it:
                until that answers, the job's id is unknown, and its result is kept for a minute only.
            policy: RunPod's own; by default the worker may run until the deadline.
            on_status: called with every answer, the first as soon as the job has an id.
        """
        start = self._clock()
        policy = policy or execution_policy(deadline_s)
        if short:
            hold_s = min(HOLD_S, deadline_s)
            job = yield from self.submit_sync(endpoint_id, job_input, hold_s=hold_s, policy=policy)
        else:
            job_id = yield from self.submit(endpoint_id, job_input, policy=policy)
            job = JobStatus(id=job_id, state="IN_QUEUE")
        try:
            if on_status is not None:
                yield from on_status(job)
            if job.ended:
                return outcome(job)
            left = max(0.0, deadline_s - (self._clock() - start))
            return (
                yield from self.wait(endpoint_id, job.id, deadline_s=left, fresh=True, on_status=on_status)
            )
        except (GeneratorExit, InvalidJson, JobFailed, JobCancelled, JobExpired):
            raise
        except BaseException as error:
            try:
                last = yield from self._stop(endpoint_id, job.id)
                if on_status is not None:
                    yield from on_status(last)
            except ComfyformError:
                raise error from None
            if isinstance(error, WaitTimeout):
                if last.state != "CANCELLED":
                    return outcome(last)
                error.hint = "It was cancelled. COMFYFORM_TIMEOUT_S gives jobs more time."
            raise

    def _stop(self, endpoint_id: str, job_id: str) -> Flow[JobStatus]:
        """Cancel a job that may have ended just now, and say how it ended.

        RunPod says CANCELLED to whoever cancels, also of a job that has ended, so its state is asked first.
        """
        with contextlib.suppress(Unavailable, RateLimited, NotFound):
            reply = yield from send(self._get(endpoint_id, "status", job_id))
            job = JobStatus.from_json(check(reply, f"Ask for job {job_id}").object(), job_id)
            if job.ended:
                return job
        yield from self.cancel(endpoint_id, job_id)
        return JobStatus(id=job_id, state="CANCELLED")

    def cancel(self, endpoint_id: str, job_id: str) -> Flow[bool]:
        """Cancel a job; False where RunPod does not know it (any more)."""
        step = Send("POST", self._url(endpoint_id, "cancel", job_id), key=self._key, timeout_s=10.0)
        retry = Retry(attempts=3, first_s=self._retry.first_s, jitter=self._retry.jitter)
        try:
            yield from ask(step, f"Cancel job {job_id}", retry=retry)
        except NotFound:
            return False
        return True

    def find(self, endpoint_id: str, key: str) -> Flow[str | None]:
        """Look in the endpoint's list of requests for the job that carries a key; return its id, or None.

        Source: ``GET /requests`` is in RunPod's OpenAPI document, without the form of its answer. So any
            object counts that has an ``id`` and holds the key anywhere.
        """
        reply = yield from ask(self._get(endpoint_id, "requests"), "List the requests", retry=self._retry)
        return id_of(reply.json(), key)

    def health(self, endpoint_id: str) -> Flow[Mapping[str, Any]]:
        """Count an endpoint's jobs and workers: ``{"jobs": {…}, "workers": {…}}``. Starts no worker."""
        step = self._get(endpoint_id, "health")
        return (yield from ask(step, f"Health of endpoint {endpoint_id}", retry=self._retry)).object()

    def _start(
        self, endpoint_id: str, operation: str, content: bytes, *, timeout_s: float, **query: int
    ) -> Flow[JobStatus]:
        step = Send(
            "POST",
            self._url(endpoint_id, operation),
            headers={"content-type": "application/json"},
            query=query,
            content=content,
            timeout_s=timeout_s,
            key=self._key,
            once=True,
        )
        return submit_once(step, endpoint_id, retry=self._retry, clock=self._clock)

    def _look(self, endpoint_id: str, job_id: str, held: bool) -> Send:
        """Ask for a job, held back until it ends or now.

        Source: status-sync is what RunPod's JavaScript SDK 1.1.2 calls; the docs do not list it.
        """
        if not held:
            return self._get(endpoint_id, "status", job_id)
        url = self._url(endpoint_id, "status-sync", job_id)
        # On the connection that the submission has just used, which saves a short job a new one.
        return Send(
            "GET", url, query={"wait": round(HOLD_S * 1000)}, key=self._key, timeout_s=HOLD_S + 30, once=True
        )

    def _get(self, endpoint_id: str, *operation: str) -> Send:
        return Send("GET", self._url(endpoint_id, *operation), key=self._key)

    def _url(self, endpoint_id: str, operation: str, job_id: str | None = None) -> str:
        """The address of an operation; no id from outside gets into it that could change its path.

        Raises:
            InvalidArgument: an id is not one.
        """
        parts = [self._base_url, check_id(endpoint_id, "endpoint id"), operation]
        return "/".join(parts if job_id is None else [*parts, check_id(job_id)])

    @contextlib.contextmanager
    def _counted(self, endpoint_id: str) -> Iterator[None]:
        with self._lock:
            self._waiting[endpoint_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[endpoint_id] -= 1
