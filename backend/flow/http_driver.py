"""Drivers: perform the steps of flows over HTTP, synchronously or asynchronously.

Only this module and `backend.flow.http_answers` use httpx. It knows steps, not
services: what a status means to a conversation is decided in the flow.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache
from typing import Any, BinaryIO, Final, NoReturn, Self, TypeVar
from urllib.request import getproxies

from backend.errors import Unavailable
from backend.flow import steps as flows
from backend.flow.atomic_download import Landing
from backend.flow.connection_pools import Spread, read_widely
from backend.flow.http_answers import CHUNK_BYTES, StreamReply, aread_reply, read_reply, translated
from backend.flow.http_request import fetch, request
from backend.flow.httpx_library import httpx
from backend.flow.log_redaction import keep_secrets
from backend.flow.request_slots import async_slot, slot
from backend.flow.steps import Download, Downloaded, Flow, Progress, Reply, Send, Sleep, Upload, Work

logger = logging.getLogger(__name__)

T = TypeVar("T")
OnProgress = Callable[[Mapping[str, Any]], object]

ONCE_IDLE_S: Final = 1.0
"""How long a connection may have been idle that takes a request which cannot be repeated."""
_LOOPBACK: Final = ("all://localhost", "all://127.0.0.1", "all://[::1]")


@cache
def _tls() -> Any:
    """What servers' certificates are checked with; loading it takes some milliseconds."""
    return httpx.create_ssl_context()


def _options(kind: Callable[..., Any], once: bool) -> dict[str, Any]:
    """Keywords of the httpx clients. A proxy is never asked for this machine's own servers."""
    keep_secrets()
    limits = httpx.Limits(keepalive_expiry=ONCE_IDLE_S) if once else httpx.Limits()
    transport = Spread(lambda: kind(verify=_tls(), limits=limits))
    headers = {"user-agent": "comfyform", "accept-encoding": "gzip, deflate"}
    options = {"mounts": dict.fromkeys(_LOOPBACK, transport), "headers": headers}
    # httpx heeds a proxy of the environment only where it is given no transport.
    if getproxies():
        return {**options, "verify": _tls(), "limits": limits}
    return {**options, "transport": transport}


def _log_wait(step: Sleep) -> None:
    """Log a wait, and the failure that it follows."""
    if step.reason:
        logger.info("Trying again in %.1f s: %s", step.seconds, step.reason)
    else:
        logger.debug("Waiting %.1f s", step.seconds)


def _is_once(step: Send | Upload) -> bool:
    return isinstance(step, Send) and step.once


def _advance(flow: Flow[Any], answer: object, error: BaseException | None) -> flows.Step:
    """Return a flow the answer to its step, or the exception, and take its next step."""
    return flow.send(answer) if error is None else flow.throw(error)


class Http:
    """The synchronous driver. Safe to share between threads; connections are pooled.

    Args:
        wait: how to wait for some seconds; it may raise to end the flow. By default an
            uninterrupted wait, which Ctrl-C ends.
    """

    def __init__(self, *, wait: Callable[[float], object] | None = None) -> None:
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _client(self, once: bool = False) -> httpx.Client:
        with self._lock:
            if once not in self._clients:
                read_widely()
                self._clients[once] = httpx.Client(**_options(httpx.HTTPTransport, once))
            return self._clients[once]

    def run(self, flow: Flow[T], *, on_progress: OnProgress | None = None) -> T:
        """Drive a flow to its end and return its result.

        Whatever goes wrong in a step, Ctrl-C too, is raised inside the flow, which may
        still yield steps to tidy up before it passes the exception on.
        """
        answer: object = None
        error: BaseException | None = None
        while True:
            try:
                step = _advance(flow, answer, error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = error = None
            try:
                answer = self._perform(step, on_progress)
            except BaseException as failure:  # noqa: BLE001  # raised again, inside the flow
                error = failure

    def _perform(self, step: flows.Step, on_progress: OnProgress | None) -> object:
        match step:
            case Send() | Upload():
                return self.send(step)
            case Download():
                return self.download(step)
            case Sleep():
                _log_wait(step)
                self._wait(step.seconds)
            case Progress():
                if on_progress is not None:
                    on_progress(step.event)
            case Work():
                return step.function()
        return None

    def send(self, step: Send | Upload) -> Reply:
        """Perform one request.

        Raises:
            Unavailable: no answer came; ``.sent`` is False where nothing reached the server.
        """
        with slot(), contextlib.ExitStack() as opened:
            keywords = request(step, opened)
            with translated(step.method, step.url) as call:
                client = self._client(_is_once(step))
                response = client.send(
                    client.build_request(**keywords),
                    stream=True,
                    follow_redirects=isinstance(step, Send) and step.follow_redirects,
                )
                call.status = response.status_code
                return read_reply(response, step.method)

    def download(self, step: Download) -> Downloaded:
        """Fetch a file; see `backend.flow.Download`."""
        with slot(), self.stream(fetch(step)) as reply:
            if reply.status != 200:
                _refuse(reply.read(), step.what)
            with Landing(step) as landing:
                landing.check_type(reply.headers.get("content-type", ""))
                for chunk in reply.iter_bytes():
                    landing.write(chunk)
                return landing.settle()

    @contextlib.contextmanager
    def stream(self, step: Send) -> Iterator[StreamReply]:
        """Perform a request and hand out the body as it comes, within a ``with``.

        Raises:
            Unavailable: no answer came.
        """
        with contextlib.ExitStack() as opened:
            keywords = request(step, opened)
            keywords["headers"].setdefault("Accept-Encoding", "identity")  # for the file's own bytes
            with translated(step.method, step.url) as call:
                client = self._client()
                response = client.send(
                    client.build_request(**keywords),
                    stream=True,
                    follow_redirects=step.follow_redirects,
                )
                call.status = response.status_code
            try:
                yield StreamReply.of(response, step.method)
            finally:
                response.close()


def _refuse(reply: Reply, what: str) -> NoReturn:
    """Raise the error of a download that did not answer 200."""
    flows.check(reply, f"Fetch {what}")
    raise Unavailable(f"Fetch {what}: {reply.url} answered {reply.status}, not 200.", status=reply.status)


class AsyncHttp:
    """The asynchronous driver: the same steps, on an event loop. Connections belong to that loop."""

    def __init__(self) -> None:
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._tidying: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let cancelled flows finish tidying up, and close the connections; a later call opens new ones."""
        if self._tidying:
            await asyncio.wait(set(self._tidying))
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _tidied(self, task: asyncio.Task[Any]) -> None:
        self._tidying.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain that nobody did

    def _client(self, once: bool = False) -> httpx.AsyncClient:
        if once not in self._clients:
            self._clients[once] = httpx.AsyncClient(**_options(httpx.AsyncHTTPTransport, once))
        return self._clients[once]

    async def run(self, flow: Flow[T], *, on_progress: OnProgress | None = None) -> T:
        """Drive a flow to its end and return its result; see `Http.run`.

        When the awaiting task is cancelled, the flow's own tidying up still runs to its end.
        """
        return await self._drive(flow, None, on_progress)

    async def _drive(self, flow: Flow[T], error: BaseException | None, on_progress: OnProgress | None) -> T:
        answer: object = None
        while True:
            try:
                step = _advance(flow, answer, error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = error = None
            try:
                answer = await self._perform(step, on_progress)
            except asyncio.CancelledError as cancelled:
                # A task of its own, since whoever cancelled us may well cancel every further await.
                tidying = asyncio.create_task(self._drive(flow, cancelled, None))
                self._tidying.add(tidying)
                tidying.add_done_callback(self._tidied)
                await asyncio.wait({tidying})
                raise
            except BaseException as failure:  # noqa: BLE001  # raised again, inside the flow
                error = failure

    async def _perform(self, step: flows.Step, on_progress: OnProgress | None) -> object:
        match step:
            case Send() | Upload():
                return await self._send(step)
            case Download():
                return await self._download(step)
            case Sleep():
                _log_wait(step)
                await asyncio.sleep(step.seconds)
            case Progress():
                if on_progress is not None:
                    on_progress(step.event)
            case Work():
                return await asyncio.to_thread(step.function)
        return None

    async def _send(self, step: Send | Upload) -> Reply:
        async with async_slot():
            with contextlib.ExitStack() as opened, translated(step.method, step.url) as call:
                keywords = request(step, opened)
                if isinstance(step, Upload):
                    keywords["content"] = _chunks(keywords["content"])
                client = self._client(_is_once(step))
                response = await client.send(
                    client.build_request(**keywords),
                    stream=True,
                    follow_redirects=isinstance(step, Send) and step.follow_redirects,
                )
                call.status = response.status_code
                return await aread_reply(response, step.method)

    async def _download(self, step: Download) -> Downloaded:
        async with async_slot():
            with contextlib.ExitStack() as opened, translated("GET", step.url) as call:
                keywords = request(fetch(step), opened)
                keywords["headers"].setdefault("Accept-Encoding", "identity")
                client = self._client()
                response = await client.send(
                    client.build_request(**keywords), stream=True, follow_redirects=True
                )
                call.status = response.status_code
                try:
                    if response.status_code != 200:
                        _refuse(await aread_reply(response, "GET"), step.what)
                    with Landing(step) as landing:
                        landing.check_type(response.headers.get("content-type", ""))
                        async for chunk in response.aiter_raw(CHUNK_BYTES):
                            landing.write(chunk)
                        return await asyncio.to_thread(landing.settle)
                finally:
                    await response.aclose()


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk
