"""Flows: conversations with servers as generators of steps, with no I/O of their own.

A flow yields a step and receives its answer; what it returns is its result.
``backend.flow.http_driver`` performs the steps, synchronously or asynchronously, so
every conversation is written once, and a test can hold it by hand with
``next()`` and ``.send()``. Steps know nothing about an HTTP library.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from backend.errors import ComfyformError, InvalidJson, InvalidRequest, RateLimited, Unavailable, error_class
from backend.flow.error_body import BODY_SHOWN, retry_after_s, said
from backend.flow.retry import RETRY, Attempts, Retry, When, may_pass
from backend.settings import Secret
from backend.validation.json_reader import read_json
from backend.validation.printable import shown as shown  # noqa: PLC0414  # part of this public module

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """The file of a multipart form: bytes in memory, or a path that is streamed."""

    name: str
    filename: str
    source: Path | bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A multipart form. The file's name goes out as raw UTF-8, as browsers send it.

    Source: ComfyUI stores a percent-encoded name as it came, so ``图.png`` would be called
        ``%E5%9B%BE.png`` permanently (recordings upload_image, upload_image_unquoted).
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    file: FormFile | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; the answer is a `Reply`, whatever its status.

    A failure to get any answer is raised into the flow as ``Unavailable``.

    Attributes:
        key: sent as ``Authorization: Bearer``, to this host and never on to another by a redirect.
        query: appended to the URL, percent-encoded.
        json, content, form: the body; at most one of them.
        once: it cannot be repeated, so it goes out on a connection that is new or was used a moment ago:
            a server may close an idle one just then, and whether it took the request is not known.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True, repr=False)
    query: Mapping[str, str | int] = field(default_factory=dict, kw_only=True, repr=False)
    json: Any = field(default=None, kw_only=True, repr=False)
    content: bytes | None = field(default=None, kw_only=True, repr=False)
    form: Form | None = field(default=None, kw_only=True)
    timeout_s: float = field(default=30.0, kw_only=True)
    key: Secret | None = field(default=None, kw_only=True)
    follow_redirects: bool = field(default=False, kw_only=True)
    once: bool = field(default=False, kw_only=True)

    @property
    def full_url(self) -> str:
        """The URL with its query."""
        return with_query(self.url, self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Send a file as the whole body, streamed; the answer is a `Reply`."""

    url: str
    source: Path
    method: str = "PUT"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 300.0
    key: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Fetch a URL into a file; the answer is a `Downloaded`.

    The file appears complete or not at all: it is written aside, hashed on the
    way, flushed to the disk and renamed. A status other than 200 is raised as
    its ``ApiError``.

    Attributes:
        sha256: what the bytes must be, lower-case hex; else ``HashMismatch`` and no file.
        media: it is a picture, video or sound, so neither a web page nor nothing is taken for it.
    """

    url: str
    to: Path
    query: Mapping[str, str | int] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: Secret | None = None
    sha256: str | None = None
    timeout_s: float = 60.0
    what: str = "the file"
    media: bool = False

    @property
    def full_url(self) -> str:
        """The URL with its query."""
        return with_query(self.url, self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """What a download wrote."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; the reason, for the log, is what failed before."""

    seconds: float
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell the caller how far it is; the answer is None."""

    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """Run a function that touches this machine's disk or processor; the answer is what it returns.

    The asynchronous driver runs it in a thread, so that hashing a video does not stop an event loop.
    """

    function: Callable[[], Any]


Step: TypeAlias = Send | Upload | Download | Sleep | Progress | Work
Flow: TypeAlias = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole.

    Attributes:
        headers: names in lower case.
        url: where it came from in the end, without its query.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str
    method: str = "GET"

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are not become replacement characters."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Parse the body.

        Raises:
            Unavailable: it is not JSON, as when a proxy answers in the server's place, or cannot be read.
        """
        try:
            return read_json(self.content, what="the body")
        except InvalidJson as error:
            raise Unavailable(
                f"{self.method} {self.url} answered {self.status}, but {error.message}",
                hint="Check that the address is the right server's.",
                status=self.status,
                method=self.method,
                url=self.url,
                body=self.text[:BODY_SHOWN],
            ) from None

    def object(self) -> Mapping[str, Any]:
        """Parse the body, which must be a JSON object.

        Raises:
            Unavailable: it is something else.
        """
        value = self.json()
        if not isinstance(value, dict):
            raise Unavailable(
                f"{self.method} {self.url} answered with something that is not an object.",
                hint="Check that the address is the right server's.",
                status=self.status,
                method=self.method,
                url=self.url,
            )
        return value


def send(step: Send | Upload) -> Flow[Reply]:
    """Send, with the type of the answer."""
    reply: Reply = yield step
    return reply


def work(function: Callable[[], T]) -> Flow[T]:
    """Run a function off the event loop, with the type of its answer."""
    result: T = yield Work(function)
    return result


def check(reply: Reply, what: str) -> Reply:
    """Let a good answer through and raise the typed error of a bad one.

    Args:
        reply: any answer.
        what: what was asked, to begin the sentence: ``"Submit the job"``.

    Raises:
        ApiError: the class that ``backend.errors.STATUS_ERRORS`` names for the status.
    """
    if reply.ok:
        return reply
    call: dict[str, Any] = {
        "status": reply.status,
        "method": reply.method,
        "url": reply.url,
        "request_id": reply.headers.get("x-request-id"),
        "body": reply.text[:BODY_SHOWN],
    }
    message = (
        f"{what}: {urlsplit(reply.url).netloc} answered {reply.status}{said(reply.content, reply.headers)}"
    )
    kind = error_class(reply.status)
    if 300 <= reply.status < 400:
        kind = InvalidRequest
    if kind is RateLimited:
        raise RateLimited(message, retry_after_s=retry_after_s(reply.headers), **call)
    raise kind(message, hint=_HINTS.get(reply.status), **call)


_HINTS: Final[Mapping[int, str]] = {
    401: "Check the key: it is missing, mistyped or revoked.",
    403: "Check the permissions of the key, and the license of what was requested.",
}


def ask(step: Send | Upload, what: str, *, retry: Retry = RETRY) -> Flow[Reply]:
    """Send a request that may safely be repeated, until it is answered.

    Raises:
        ApiError: a definite no, or the last failure when the attempts are used up.
    """
    return (yield from persist(lambda: _checked(step, what), retry=retry))


def _checked(step: Send | Upload, what: str) -> Flow[Reply]:
    return check((yield from send(step)), what)


def persist(
    make: Callable[[], Flow[T]],
    *,
    retry: Retry = RETRY,
    when: When = may_pass,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Run a flow that may safely be repeated, again while it fails for a passing reason.

    Args:
        make: gives a fresh flow for each attempt.
        retry: how often.
        when: which errors are worth another attempt.
        clock: monotonic seconds, for the policy's budget.
    """
    attempts = Attempts(retry, when=when, clock=clock)
    while True:
        try:
            return (yield from make())
        except ComfyformError as error:
            delay, reason = attempts.delay_after(error), error.message
        yield Sleep(delay, reason)


def download(step: Download, *, retry: Retry = RETRY) -> Flow[Downloaded]:
    """Download, again while it fails for a passing reason."""

    def once() -> Flow[Downloaded]:
        done: Downloaded = yield step
        return done

    return (yield from persist(once, retry=retry))


def with_query(url: str, query: Mapping[str, str | int]) -> str:
    """Append a query to a URL."""
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query, quote_via=quote, safe='')}"
