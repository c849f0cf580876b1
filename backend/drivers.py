"""Drivers: perform the steps of flows over HTTP, synchronously or asynchronously.

The only module that imports httpx, and the one place where its exceptions
become ours. It knows steps, not services: what a status means to a
conversation is decided in the flow.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, NoReturn, Self, TypeVar
from urllib.request import getproxies

import httpx

from backend import flow as flows
from backend.errors import InvalidArgument, Unavailable
from backend.flow import Download, Downloaded, Flow, Progress, Reply, Send, Sleep, Upload, Work, shown
from backend.httpx_log import keep_secrets
from backend.landing import Landing
from backend.pools import Spread, read_widely
from backend.wire import fetch, request

logger = logging.getLogger(__name__)

T = TypeVar("T")
OnProgress = Callable[[Mapping[str, Any]], object]

CHUNK_BYTES: Final = 1024 * 1024
# What certainly happened before any byte of the request was on its way.
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_LOOPBACK: Final = ("all://localhost", "all://127.0.0.1", "all://[::1]")


def _options(kind: Callable[..., Any]) -> dict[str, Any]:
    """Keywords of both httpx clients. A proxy is never asked for this machine's own servers."""
    keep_secrets()
    tls = httpx.create_ssl_context()
    transport = Spread(lambda: kind(verify=tls, limits=httpx.Limits()))
    options = {"mounts": dict.fromkeys(_LOOPBACK, transport), "headers": {"user-agent": "comfyform"}}
    # httpx heeds a proxy of the environment only where it is given no transport.
    return options if getproxies() else {**options, "transport": transport}


@contextlib.contextmanager
def _translated(method: str, url: str) -> Iterator[None]:
    """Turn httpx's exceptions into ours, and log the call."""
    address = shown(url)
    start = time.monotonic()
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidArgument(f"{address!r} is not an http or https address: {error}.") from None
    except httpx.HTTPError as error:
        sent = not isinstance(error, _NEVER_SENT)
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            reason = "it did not answer in time" if sent else "no connection in time"
        logger.info("%s %s failed after %.0f ms", method, address, (time.monotonic() - start) * 1000)
        # Without the cause: an httpx exception holds the request, and the request holds the key.
        raise Unavailable(
            f"{method} {address} {'was not answered' if sent else 'could not be sent'}: {reason}.",
            sent=sent,
            method=method,
            url=address,
        ) from None
    logger.info("%s %s took %.0f ms", method, address, (time.monotonic() - start) * 1000)


def _reply(response: httpx.Response, method: str) -> Reply:
    return Reply(
        status=response.status_code,
        headers=dict(response.headers),
        content=response.content,
        url=shown(str(response.url)),
        method=method,
    )


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer whose body is read as it comes."""

    status: int
    headers: Mapping[str, str]
    url: str
    method: str
    _response: httpx.Response = field(repr=False)

    def iter_bytes(self, chunk_bytes: int | None = CHUNK_BYTES) -> Iterator[bytes]:
        """Give the body in chunks, as it was sent (no content encoding is undone or asked for).

        Args:
            chunk_bytes: size of a chunk; None gives bytes at once as they arrive.

        Raises:
            Unavailable: the connection broke in the middle, or fewer bytes came than were announced.
        """
        with _translated(self.method, self.url):
            yield from self._response.iter_raw(chunk_bytes)

    def read(self) -> Reply:
        """Read the rest, for ``backend.flow.check``."""
        with _translated(self.method, self.url):
            self._response.read()
        return _reply(self._response, self.method)


def _advance(flow: Flow[Any], answer: object, error: BaseException | None) -> flows.Step:
    """Give a flow the answer to its step, or the exception, and take its next step."""
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
        self._made: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    @property
    def _client(self) -> httpx.Client:
        with self._lock:
            if self._made is None:
                read_widely()
                self._made = httpx.Client(**_options(httpx.HTTPTransport))
            return self._made

    def run(self, flow: Flow[T], *, on_progress: OnProgress | None = None) -> T:
        """Drive a flow to its end and give its result.

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
        with contextlib.ExitStack() as opened:
            keywords = request(step, opened)
            with _translated(step.method, step.url):
                response = self._client.send(
                    self._client.build_request(**keywords),
                    follow_redirects=isinstance(step, Send) and step.follow_redirects,
                )
            return _reply(response, step.method)

    def download(self, step: Download) -> Downloaded:
        """Fetch a file; see `backend.flow.Download`."""
        with self.stream(fetch(step)) as reply:
            if reply.status != 200:
                _refuse(reply.read(), step.what)
            with Landing(step) as landing:
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
            with _translated(step.method, step.url):
                response = self._client.send(
                    self._client.build_request(**keywords),
                    stream=True,
                    follow_redirects=step.follow_redirects,
                )
            try:
                url = shown(str(response.url))
                yield StreamReply(response.status_code, dict(response.headers), url, step.method, response)
            finally:
                response.close()


def _refuse(reply: Reply, what: str) -> NoReturn:
    """Raise the error of a download that did not answer 200."""
    flows.check(reply, f"Fetch {what}")
    raise Unavailable(f"Fetch {what}: {reply.url} answered {reply.status}, not 200.", status=reply.status)


class AsyncHttp:
    """The asynchronous driver: the same steps, on an event loop. Connections belong to that loop."""

    def __init__(self) -> None:
        self._made: httpx.AsyncClient | None = None
        self._tidying: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let cancelled flows finish tidying up, and close the connections; a later call opens new ones."""
        if self._tidying:
            await asyncio.wait(set(self._tidying))
        made, self._made = self._made, None
        if made is not None:
            await made.aclose()

    def _tidied(self, task: asyncio.Task[Any]) -> None:
        self._tidying.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain that nobody did

    @property
    def _client(self) -> httpx.AsyncClient:
        if self._made is None:
            self._made = httpx.AsyncClient(**_options(httpx.AsyncHTTPTransport))
        return self._made

    async def run(self, flow: Flow[T], *, on_progress: OnProgress | None = None) -> T:
        """Drive a flow to its end and give its result; see `Http.run`.

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
                await asyncio.sleep(step.seconds)
            case Progress():
                if on_progress is not None:
                    on_progress(step.event)
            case Work():
                return await asyncio.to_thread(step.function)
        return None

    async def _send(self, step: Send | Upload) -> Reply:
        with contextlib.ExitStack() as opened:
            keywords = request(step, opened)
            if isinstance(step, Upload):
                keywords["content"] = _chunks(keywords["content"])
            with _translated(step.method, step.url):
                response = await self._client.send(
                    self._client.build_request(**keywords),
                    follow_redirects=isinstance(step, Send) and step.follow_redirects,
                )
            return _reply(response, step.method)

    async def _download(self, step: Download) -> Downloaded:
        with contextlib.ExitStack() as opened:
            keywords = request(fetch(step), opened)
            keywords["headers"].setdefault("Accept-Encoding", "identity")
            with _translated("GET", step.url):
                response = await self._client.send(
                    self._client.build_request(**keywords), stream=True, follow_redirects=True
                )
                try:
                    if response.status_code != 200:
                        await response.aread()
                        _refuse(_reply(response, "GET"), step.what)
                    with Landing(step) as landing:
                        async for chunk in response.aiter_raw(CHUNK_BYTES):
                            landing.write(chunk)
                        return await asyncio.to_thread(landing.settle)
                finally:
                    await response.aclose()


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk
