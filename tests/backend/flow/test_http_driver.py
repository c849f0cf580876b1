"""Both drivers over real sockets: one set of claims, a sync and an async face each."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import HashMismatch, InvalidArgument, NotFound, TransferError, Unavailable
from backend.flow import (
    Download,
    Downloaded,
    Flow,
    Form,
    FormFile,
    Progress,
    Send,
    Sleep,
    Upload,
    Work,
    download,
    send,
)
from backend.flow import Retry as RetryPolicy
from backend.flow.http_driver import AsyncHttp, Http
from backend.settings import Secret
from tests.support.small_server import Answer, Seen, serving

Run = Callable[..., Any]
ONCE = RetryPolicy(attempts=1)


def run_sync(flow: Flow[Any], **options: Any) -> Any:
    with Http() as http:
        return http.run(flow, **options)


def run_async(flow: Flow[Any], **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncHttp() as http:
            return await http.run(flow, **options)

    return asyncio.run(main())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Drive a flow, by each driver in turn."""
    driver: Run = request.param
    return driver


def test_a_key_is_sent_to_its_own_host_only(run):
    """A redirect to another host does not carry the key along."""
    with serving(lambda _: Answer(body=b"secret-free")) as other:
        moved = Answer(302, headers={"location": other.url.replace("127.0.0.1", "localhost") + "/there"})
        with serving(lambda _: moved) as first:
            step = Send("GET", first.url, key=Secret("rpa_1"), follow_redirects=True)
            reply = run(send(step))

    assert reply.content == b"secret-free"
    assert first.seen[0].headers["authorization"] == "Bearer rpa_1"
    assert "authorization" not in other.seen[0].headers


def test_a_redirect_is_an_answer_unless_it_may_be_followed(run):
    """By default a redirect comes back as it is."""
    with serving(lambda _: Answer(302, headers={"location": "http://127.0.0.1:9/"})) as server:
        reply = run(send(Send("GET", server.url)))

    assert reply.status == 302


def test_a_form_keeps_the_name_of_its_file(run, tmp_path):
    """The name goes out as raw UTF-8, not percent-encoded, and the fields and bytes with it."""
    path = tmp_path / "x"
    path.write_bytes(b"pixels")
    form = Form(fields={"type": "input"}, file=FormFile(name="image", filename="naïve 图.png", source=path))

    with serving(lambda _: Answer()) as server:
        run(send(Send("POST", server.url, form=form)))

    body = server.seen[0].body
    assert 'name="image"; filename="naïve 图.png"'.encode() in body
    assert b'name="type"\r\n\r\ninput\r\n' in body
    assert b"\r\n\r\npixels\r\n" in body


def test_an_upload_streams_a_file_with_its_length(run, tmp_path):
    """S3 wants a Content-Length, which a chunked body has not."""
    path = tmp_path / "x"
    path.write_bytes(b"0123456789" * 300_000)

    with serving(lambda _: Answer()) as server:
        run(send(Upload(url=server.url, source=path)))

    assert server.seen[0].headers["content-length"] == "3000000"
    assert hashlib.sha256(server.seen[0].body).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_source_that_is_gone_is_said(run, tmp_path):
    """A file that cannot be read is a transfer error, not a traceback."""
    with pytest.raises(TransferError, match="cannot be read: No such file"):
        run(send(Upload(url="http://127.0.0.1:9/", source=tmp_path / "gone")))


def test_a_download_is_whole_and_hashed(run, tmp_path):
    """The file is there under its name, with the size and sha256 of its bytes, and nothing else is."""
    content = b"film" * 1_000_000
    to = tmp_path / "deep" / "film.mp4"

    with serving(lambda _: Answer(body=content)) as server:
        got = run(download(Download(url=server.url, to=to)))

    assert got == Downloaded(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert to.read_bytes() == content
    assert [path.name for path in to.parent.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("answer", [Answer(body=b"half", length=8), Answer(404, b"{}")], ids=["cut", "404"])
def test_a_failed_download_leaves_the_old_file(run, tmp_path, answer):
    """Neither a body that breaks off nor a refusal touches what was there."""
    to = tmp_path / "a"
    to.write_bytes(b"old")

    with serving(lambda _: answer) as server, pytest.raises((Unavailable, NotFound)):
        run(download(Download(url=server.url, to=to), retry=ONCE))

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_download_with_wrong_bytes_is_refused(run, tmp_path):
    """Bytes that are not those that were asked for never get the file's name."""
    with serving(lambda _: Answer(body=b"evil")) as server, pytest.raises(HashMismatch) as caught:
        run(download(Download(url=server.url, to=tmp_path / "a", sha256="0" * 64)))

    assert caught.value.actual == hashlib.sha256(b"evil").hexdigest()
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_tried_again(run, tmp_path):
    """A connection that breaks once costs a retry, not the file."""
    answers = [Answer(body=b"ha", length=4), Answer(body=b"half")]

    with serving(lambda _: answers.pop(0)) as server:
        got = run(download(Download(url=server.url, to=tmp_path / "a"), retry=RetryPolicy(first_s=0.0)))

    assert got.size_bytes == 4


def test_no_server_is_unavailable_and_not_sent(run):
    """A refused connection certainly sent nothing, and the message holds no key."""
    with pytest.raises(Unavailable) as caught:
        run(send(Send("POST", "http://127.0.0.1:9/run?key=1", key=Secret("rpa_1"))))

    assert caught.value.sent is False
    assert "rpa_1" not in repr(pickle.dumps(caught.value))
    assert str(caught.value).startswith("POST http://127.0.0.1:9/run could not be sent")


def test_a_lost_answer_is_unavailable_and_sent(run):
    """A server that takes the request and dies may have acted on it."""
    with serving(lambda _: Answer(body=b"", length=10)) as server, pytest.raises(Unavailable) as caught:
        run(send(Send("POST", server.url)))

    assert caught.value.sent is True


def test_a_bad_address_is_the_callers(run):
    """An address that is none is an argument error, not a network one."""
    with pytest.raises(InvalidArgument, match="not an http or https address"):
        run(send(Send("GET", "ftp://127.0.0.1/")))


def test_loopback_never_goes_through_a_proxy(run, monkeypatch):
    """A proxy of the environment is not asked for this machine's own servers."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with serving(lambda _: Answer(body=b"direct")) as server:
        assert run(send(Send("GET", server.url))).content == b"direct"
        assert run(send(Send("GET", server.url.replace("127.0.0.1", "localhost")))).content == b"direct"


def test_every_call_is_one_line_in_the_log_without_secrets(run, caplog):
    """Method, address, status and time; no query, no key."""
    with serving(lambda _: Answer()) as server, caplog.at_level(logging.DEBUG, "backend.flow.http_answers"):
        run(send(Send("GET", server.url + "/x", query={"token": "t0"}, key=Secret("rpa_1"))))

    (line,) = [record.getMessage() for record in caplog.records if record.name == "backend.flow.http_answers"]
    assert line.startswith(f"GET {server.url}/x: 200 in ")
    assert "t0" not in line


def test_the_library_under_it_logs_no_query_either(run, caplog):
    """A program that logs at INFO would else keep the signature of every result's link."""
    with serving(lambda _: Answer()) as server, caplog.at_level(logging.INFO):
        run(send(Send("GET", f"{server.url}/a", query={"Signature": "hidden"})))

    assert f"GET {server.url}/a" in caplog.text
    assert "hidden" not in caplog.text


def test_progress_and_work_reach_the_caller(run):
    """Progress is told in order, work gives its value, sleep gives nothing."""
    events: list[Any] = []

    def flow() -> Flow[Any]:
        yield Progress({"step": 1})
        value = yield Work(lambda: 41)
        slept = yield Sleep(0.0)
        yield Progress({"step": 2})
        return value + 1, slept

    result = run(flow(), on_progress=events.append)

    assert (result, events) == ((42, None), [{"step": 1}, {"step": 2}])


def test_a_callback_that_raises_ends_the_flow_in_its_own_words(run):
    """What a progress callback raises goes through the flow, which can tidy up, to the caller."""
    tidied: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield Progress({})
        except KeyError:
            yield Work(lambda: tidied.append("yes"))
            raise

    def stop(_: object) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run(flow(), on_progress=stop)

    assert tidied == ["yes"]


def test_ctrl_c_lets_a_flow_tidy_up():
    """The interrupt that ends a wait is raised inside the flow, which may still send."""

    def wait(_: float) -> None:
        raise KeyboardInterrupt

    def flow(url: str) -> Flow[None]:
        try:
            yield Sleep(60)
        except KeyboardInterrupt:
            yield from send(Send("POST", url + "/cancel"))
            raise

    with serving(lambda _: Answer()) as server, Http(wait=wait) as http, pytest.raises(KeyboardInterrupt):
        http.run(flow(server.url))

    assert [request.path for request in server.seen] == ["/cancel"]


def test_a_cancelled_task_lets_its_flow_tidy_up():
    """Cancelling the awaiting task cancels the job: the flow still sends, and closing waits for it."""

    def flow(url: str, started: asyncio.Event) -> Flow[None]:
        try:
            yield Progress({})
            yield Sleep(60)
        except asyncio.CancelledError:
            yield from send(Send("POST", url + "/cancel"))
            raise

    async def main(url: str) -> None:
        started = asyncio.Event()
        async with AsyncHttp() as http:
            task = asyncio.create_task(http.run(flow(url, started), on_progress=lambda _: started.set()))
            await started.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serving(lambda _: Answer()) as server:
        asyncio.run(main(server.url))

    assert [request.path for request in server.seen] == ["/cancel"]


def test_many_threads_share_one_driver():
    """A driver may be used from any number of threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    def echo(request: Seen) -> Answer:
        return Answer(body=request.path.encode())

    with serving(echo) as server, Http() as http, ThreadPoolExecutor(16) as pool:

        def one(number: int) -> bytes:
            return http.run(send(Send("GET", f"{server.url}/{number}"))).content

        answers = list(pool.map(one, range(100)))

    assert answers == [f"/{number}".encode() for number in range(100)]
