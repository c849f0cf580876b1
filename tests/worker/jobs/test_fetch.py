"""URLs of a job: https, public addresses only, checked again at every redirect."""

import hashlib
import http.server
import threading
import time

import pytest

from backend.errors import InvalidArgument, SourceMissing, TransferError
from tests.support.deadlines import HANG_S
from tests.support.dripping_server import HEADS, serving_slowly
from worker.jobs.cancellation import Stopped, StopSign
from worker.jobs.fetch import checked_addresses, fetch

CONTENT = bytes(range(256)) * 8192


class Server(http.server.BaseHTTPRequestHandler):
    """A host with a file, a short answer, and redirects."""

    def do_GET(self):
        host = self.headers["Host"]
        location = {
            "/moved": f"http://{host}/file",
            "/inside": f"http://{host.replace('127.0.0.1', 'localhost')}/file",
            "/metadata": "http://169.254.169.254/latest/meta-data",
            "/loop": f"http://{host}/loop",
        }.get(self.path)
        if location:
            self.send_response(302)
            self.send_header("Location", location)
            self.end_headers()
        elif self.path in {"/file?x=1", "/file", "/short"}:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path != "/short" else CONTENT[:1000])
        else:
            self.send_error(404)

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture(scope="module")
def base():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_allowed_host_is_fetched_also_over_a_redirect(base, tmp_path):
    """The operator's setting opens that host, plain http and private address included."""
    sha256 = fetch(f"{base}/moved", tmp_path / "a.bin", ("127.0.0.1",), StopSign())

    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/inside", "/metadata"])
def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(base, tmp_path, path):
    """An outside server cannot send the worker to a neighbour or to the metadata service."""
    with pytest.raises(InvalidArgument, match="plain http"):
        fetch(base + path, tmp_path / "a.bin", ("127.0.0.1",), StopSign())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/nothing", SourceMissing, "answered 404"),
        ("/loop", SourceMissing, "redirects more than 5 times"),
        ("/short", TransferError, "too early"),
    ],
)
def test_a_file_that_does_not_come_whole_leaves_nothing(base, tmp_path, path, error, says):
    """Half a file is no file."""
    with pytest.raises(error, match=says):
        fetch(base + path, tmp_path / "a.bin", ("127.0.0.1",), StopSign())

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_is_given_up(base, tmp_path):
    """A job cannot fill the container's disk."""
    with pytest.raises(TransferError, match="larger than 1000 bytes"):
        fetch(f"{base}/file", tmp_path / "a.bin", ("127.0.0.1",), StopSign(), largest_bytes=1000)

    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_stops_fetching(base, tmp_path):
    """Nobody waits for the file any more."""
    stop = StopSign()
    stop.raised.set()

    with pytest.raises(Stopped):
        fetch(f"{base}/file", tmp_path / "a.bin", ("127.0.0.1",), stop)

    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_one_sentence(tmp_path):
    """The message names the URL without its query, which may hold a signature."""
    with pytest.raises(TransferError, match=r"^http://127\.0\.0\.1:9/a\.bin could not be fetched: "):
        fetch("http://127.0.0.1:9/a.bin?X-Signature=s3cret", tmp_path / "a", ("127.0.0.1",), StopSign())


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_every_address_of_the_host_must_be_public(address, fine):
    """One private address among public ones is enough to refuse: the name could lead there."""
    addresses = ["93.184.216.34", address]

    if fine:
        assert checked_addresses("https://example.com/a", (), lambda _: addresses) == addresses
    else:
        with pytest.raises(InvalidArgument, match="not a public address"):
            checked_addresses("https://example.com/a", (), lambda _: addresses)


def test_a_host_is_looked_up_once():
    """What was checked is what is connected to: a second answer could be another address."""
    answers = [["93.184.216.34"], ["10.0.0.1"]]

    assert checked_addresses("https://example.com/a", (), lambda _: answers.pop(0)) == ["93.184.216.34"]


@pytest.mark.parametrize(
    "url", ["https://user:pw@example.com/a", "https://example.com:x/a", "ftp://example.com", "a"]
)
def test_what_is_not_a_plain_https_url_is_refused(url):
    """Credentials in a URL would end in logs."""
    with pytest.raises(InvalidArgument):
        checked_addresses(url, (), lambda _: ["93.184.216.34"])


@pytest.fixture(params=HEADS.values(), ids=list(HEADS))
def dripping(request):
    """Serve one way of never ending."""
    with serving_slowly(request.param) as server:
        yield server


def test_a_stop_ends_a_download_while_bytes_come(dripping, tmp_path):
    """A cancelled job must not hold the worker for as long as a server pleases."""
    stop = StopSign()

    def cancel():
        dripping.reached.wait(HANG_S)
        stop.raised.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Stopped):
        fetch(dripping.url, tmp_path / "a", ("127.0.0.1",), stop)
    canceller.join()

    assert list(tmp_path.iterdir()) == []


def test_the_jobs_time_ends_a_download_while_bytes_come(dripping, tmp_path):
    """A timeout for each read never ends one that gets a byte."""
    url = dripping.url

    with pytest.raises(TransferError, match="could not be fetched"):
        fetch(url, tmp_path / "a", ("127.0.0.1",), StopSign(), end=time.monotonic() + 0.5)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dripping", [HEADS["body"]], indirect=True)
def test_a_server_that_is_too_slow_is_given_up(dripping, tmp_path, monkeypatch):
    """Long before the job's time is over, where the body drips."""
    monkeypatch.setattr("worker.jobs.fetch.SLOW_S", 0.2)

    with pytest.raises(TransferError, match="bytes a second: given up"):
        fetch(dripping.url, tmp_path / "a", ("127.0.0.1",), StopSign())


@pytest.mark.parametrize("path", ["/\u00e4?x=1", "/a b", "/%zz", "/a?b=\u56fe c"])
def test_an_address_with_other_letters_is_asked_for_quoted(base, tmp_path, path):
    """Not an untyped error of the library below."""
    with pytest.raises(SourceMissing, match="answered 404"):
        fetch(base + path, tmp_path / "a", ("127.0.0.1",), StopSign())


def test_a_resolver_that_does_not_answer_ends_with_the_jobs_time(tmp_path, monkeypatch):
    """The lookup takes no deadline of its own; the job's holds, and a stop too."""
    release = threading.Event()

    def hanging(url: str, allow_hosts: object) -> list[str]:
        release.wait(60)
        return []

    monkeypatch.setattr("worker.jobs.fetch.checked_addresses", hanging)
    stopped = StopSign()
    stopped.raised.set()
    try:
        with pytest.raises(TransferError, match="longer than the job has time"):
            fetch("https://slow.test/a", tmp_path / "a", [], StopSign(), end=time.monotonic() + 0.3)
        with pytest.raises(Stopped):
            fetch("https://slow.test/a", tmp_path / "a", [], stopped)
    finally:
        release.set()
