"""Servers as they are: right bytes, or one sentence that names what came; never wrong bytes under a name."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from backend.contract import ProvisionedFile, WantedFile
from backend.errors import ComfyformError
from backend.flow.http_driver import Http
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from ops.stores.s3 import S3Store
from tests.support.emulation import Emulator
from tests.support.ops_places import QUICK, safetensors
from tests.support.ops_shelf import Shelf
from tests.support.small_server import Answer, Seen, serving

PIECE = 16 * 1024
PACE = replace(QUICK, piece_bytes=PIECE)
BODY = safetensors(5 * PIECE + 123, seed=1)
OTHER = safetensors(5 * PIECE + 123, seed=2)
SHA256 = hashlib.sha256(BODY).hexdigest()
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(BODY)}\n".encode()


def archive() -> bytes:
    """A ZIP archive with a model in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("x.safetensors", BODY)
    return file.getvalue()


@dataclass
class Server:
    """A server of a good file, which each behaviour changes a little.

    Attributes:
        body: the file.
        etag: names its version; a function gives another one with each request.
        headers: of every answer.
        ranges: what a request for a part is answered; by default properly.
        whole: answers a request for everything; None as usual.
    """

    body: bytes = BODY
    etag: str | Callable[[int], str | None] | None = '"v1"'
    headers: dict[str, str] | None = None
    ranges: Callable[[int, int, Server], Answer] | None = None
    whole: Callable[[int], Answer | None] | None = None

    def answerer(self) -> Callable[[Seen], Answer]:
        """What `tests.support.small_server` calls."""
        numbers = itertools.count(1)

        def answer(seen: Seen) -> Answer:
            number = next(numbers)
            etag = self.etag(number) if callable(self.etag) else self.etag
            headers = {"ETag": etag} if etag else {}
            headers |= self.headers or {}
            requested = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.headers.get("range", ""))
            if requested and seen.headers.get("if-range", etag) == etag:
                start, end = int(requested[1]), min(int(requested[2]) + 1, len(self.body))
                reply = self.ranges(start, end, self) if self.ranges else part(start, end, self)
            else:
                reply = (self.whole and self.whole(number)) or Answer(body=self.body)
            reply.headers = headers | reply.headers
            return reply

        return answer


def part(start: int, end: int, server: Server, total: str = "", unit: str = "bytes ") -> Answer:
    """Answer a request for a part as a good server does."""
    if start >= len(server.body):
        return Answer(416, headers={"Content-Range": f"bytes */{len(server.body)}"})
    where = f"{unit}{start}-{end - 1}/{total or len(server.body)}"
    return Answer(206, server.body[start:end], {"Content-Range": where})


def refuse(status: int) -> Callable[[int, int, Server], Answer]:
    """Refuse every part."""
    return lambda *_: Answer(status, b"no parts")


def flipping(number: int) -> str:
    return f'"node{number % 2}"'


def multipart(start: int, end: int, server: Server) -> Answer:
    head = f"--b\r\nContent-Range: bytes {start}-{end - 1}/{len(server.body)}\r\n\r\n".encode()
    return Answer(206, head + server.body[start:end], {"Content-Type": "multipart/byteranges; boundary=b"})


PACKED = gzip.compress(BODY)
RIGHT: dict[str, Server] = {
    "good": Server(),
    "weak ETag": Server(etag='W/"v1"'),
    "no ETag": Server(etag=None),
    "only a date": Server(etag=None, headers={"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}),
    "another ETag with each answer": Server(etag=flipping),
    "an ETag now and then": Server(etag=lambda number: '"v1"' if number % 3 else None),
    "a long ETag": Server(etag=f'"{"x" * 4000}"'),
    "declared as a page": Server(headers={"Content-Type": "text/html"}),
    "declared as JSON": Server(headers={"Content-Type": "application/json"}),
    **{
        f"{status} for a part": Server(ranges=refuse(status))
        for status in (400, 401, 403, 404, 405, 412, 416)
    },
    **{f"{status} for a part": Server(ranges=refuse(status)) for status in (500, 501, 503, 505)},
    "204 for a part": Server(ranges=lambda *_: Answer(204)),
    "200 with everything for a part": Server(ranges=lambda _s, _e, server: Answer(body=server.body)),
    "200 with the part": Server(ranges=lambda s, e, server: Answer(body=server.body[s:e])),
    "206 with everything for a part": Server(ranges=lambda _s, _e, server: part(0, len(server.body), server)),
    "206 that does not say which": Server(ranges=lambda s, e, server: Answer(206, server.body[s:e])),
    "206 with an unknown total": Server(ranges=lambda s, e, server: part(s, e, server, total="*")),
    "206 with the part's size as total": Server(ranges=lambda s, e, server: part(s, e, server, str(e - s))),
    "206 in another spelling": Server(ranges=lambda s, e, server: part(s, e, server, unit="Bytes: ")),
    "206 with rubbish for a range": Server(
        ranges=lambda s, e, server: Answer(206, server.body[s:e], {"Content-Range": "bytes x-y/z"})
    ),
    "206 of another part": Server(
        ranges=lambda s, e, server: part(s + 1, e, server) if s else part(s, e, server)
    ),
    "206 multipart": Server(ranges=multipart),
    "parts of at most 5,000 bytes": Server(ranges=lambda s, e, server: part(s, min(e, s + 5000), server)),
    "longer parts than asked for": Server(
        ranges=lambda s, e, server: part(s, min(e + 999, len(server.body)), server)
    ),
    "parts for a while": Server(
        ranges=lambda s, e, server: part(s, e, server) if s < 2 * PIECE else Answer(403, b"enough")
    ),
    "parts compressed without being asked": Server(
        ranges=lambda s, e, server: Answer(
            206,
            gzip.compress(server.body[s:e]),
            {"Content-Range": f"bytes {s}-{e - 1}/{len(server.body)}", "Content-Encoding": "gzip"},
        ),
    ),
    "everything compressed without being asked": Server(
        body=PACKED,
        headers={"Content-Encoding": "gzip"},
        ranges=lambda _s, _e, server: Answer(body=server.body),
    ),
    "the connection closed in the middle once": Server(
        ranges=refuse(403),
        whole=lambda number: Answer(body=BODY[:50_000], length=len(BODY)) if number < 4 else None,
    ),
    "a page once": Server(
        etag=None, whole=lambda number: Answer(body=b"<html>busy</html>") if number == 1 else None
    ),
    "too early once": Server(whole=lambda number: Answer(425) if number < 3 else None, ranges=refuse(425)),
}
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
WRONG: dict[str, tuple[bytes, str]] = {
    "a pointer of Git LFS": (LFS, "pointer of Git LFS"),
    "a login page": (PAGE, "web page"),
    "a page after a byte order mark": (b"\xef\xbb\xbf\n" + PAGE, "web page"),
    "an error of a storage": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    "an error in JSON": (b'{"error":"Unauthorized","message":"Log in"}', "JSON answer.*Unauthorized"),
    "a list in JSON": (b"[1, 2]", "JSON answer"),
    "an error in words": (b"Entry not found", "text, not a model.*Entry not found"),
    "a ZIP archive": (archive(), "ZIP archive"),
    "compressed with gzip": (PACKED, "compressed with gzip"),
    "compressed with zstd": (b"\x28\xb5\x2f\xfd" + bytes(range(200)), "compressed with zstd"),
    "a 7-Zip archive": (b"7z\xbc\xaf\x27\x1c" + bytes(200), "7-Zip archive"),
    "a RAR archive": (b"Rar!\x1a\x07\x01\x00" + bytes(200), "RAR archive"),
    "a GGUF file": (b"GGUF" + bytes(200), "GGUF file"),
    "half of it": (BODY[: len(BODY) // 2], "its header promises"),
    "a header without its end": (BODY[:60], "its end is missing"),
    "more than it should be": (BODY + b"x", "its header promises"),
    "zeros": (bytes(len(BODY)), "zeros only"),
    "nothing": (b"", "too short"),
    "eight bytes": (b"\x00" * 8, "header is damaged"),
    "a pickle": (b"\x80\x02}q\x00." + bytes(100), "not a safetensors file"),
}


@dataclass
class Ends:
    """Both transports, each with a volume of its own."""

    stores: dict[str, FolderStore | S3Store]
    roots: dict[str, Path]


@pytest.fixture
def ends(emu: Emulator, tmp_path: Path) -> Iterator[Ends]:
    """Yield a folder as a worker sees it, and a volume over S3."""
    with Http() as http:
        sources = Sources(http, allow_hosts=("127.0.0.1",))
        shelf = Shelf(emu, http, tmp_path / "machine")
        yield Ends(
            {"job": FolderStore(tmp_path / "volume", sources, pace=PACE), "s3": shelf.store(pace=PACE)},
            {"job": tmp_path / "volume", "s3": shelf.folder},
        )


def wanted(url: str, path: str, sha256: str | None) -> WantedFile:
    value: dict[str, Any] = {"path": path, "source": f"url:{url}/x.safetensors"}
    return cast("WantedFile", value | ({"sha256": sha256} if sha256 else {}))


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
@pytest.mark.parametrize("name", RIGHT)
def test_every_server_that_has_the_file_is_enough(ends: Ends, name: str, transport: str):
    """Pinned and unknown: the bytes arrive, and are the right ones."""
    for number, sha256 in enumerate((SHA256, None)):
        path = f"models/loras/{number}.safetensors"
        with serving(RIGHT[name].answerer()) as server:
            (answer,) = ends.stores[transport].provision([wanted(server.url, path, sha256)])

        assert answer["sha256"] == SHA256
        assert (ends.roots[transport] / path).read_bytes() == BODY


def announcing(answer: Callable[[Seen], Answer], sha256: str) -> Callable[[Seen], Answer]:
    """Announce the file's hash as CivitAI does, and serve its bytes as `answer` does."""
    version = {"files": [{"id": 1, "primary": True, "hashes": {"SHA256": sha256.upper()}}]}
    description = json.dumps(version).encode()
    return lambda seen: Answer(body=description) if seen.path.startswith("/api/v1/") else answer(seen)


def fetch_announced(store: FolderStore | S3Store, url: str, path: str) -> ProvisionedFile:
    """Let a store take a server for CivitAI, and fetch a file from it that the registry does not pin."""
    store._sources = replace(store._sources, civitai_url=url)
    return store.provision([WantedFile(path=path, source="civitai:77")])[0]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
@pytest.mark.parametrize("name", RIGHT)
def test_an_announced_hash_is_enough(ends: Ends, name: str, transport: str):
    """The registry pins nothing and the service announces the hash: the same servers give the same bytes."""
    path = "models/loras/announced.safetensors"
    with serving(announcing(RIGHT[name].answerer(), SHA256)) as server:
        answer = fetch_announced(ends.stores[transport], server.url, path)

    assert answer["sha256"] == SHA256
    assert (ends.roots[transport] / path).read_bytes() == BODY


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("announced", ["the real file", "what comes"])
def test_what_came_instead_of_the_announced_file_is_named(
    ends: Ends, name: str, transport: str, announced: str
):
    """No announcement makes a page a model, also not the right hash of the page."""
    body, says = WRONG[name]
    path = "models/loras/announced.safetensors"
    sha256 = SHA256 if announced == "the real file" else hashlib.sha256(body).hexdigest()
    answerer = announcing(Server(body).answerer(), sha256)
    with serving(answerer) as server, pytest.raises(ComfyformError) as caught:
        fetch_announced(ends.stores[transport], server.url, path)

    assert re.search(says, str(caught.value)), str(caught.value)
    assert "pin" not in str(caught.value)
    assert not (ends.roots[transport] / path).exists()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["job", "s3"])
@pytest.mark.parametrize("name", WRONG)
def test_what_came_instead_is_named(ends: Ends, name: str, transport: str):
    """Unknown, pinned to the real hash, and pinned to the hash of what comes: refused, nothing is kept."""
    body, says = WRONG[name]
    path = "models/loras/x.safetensors"
    for sha256 in (None, SHA256, hashlib.sha256(body).hexdigest()):
        with serving(Server(body).answerer()) as server, pytest.raises(ComfyformError) as caught:
            ends.stores[transport].provision([wanted(server.url, path, sha256)])

        assert re.search(says, str(caught.value)), str(caught.value)
        assert "pin" not in str(caught.value)
        assert not (ends.roots[transport] / path).exists()


@pytest.mark.slow
@pytest.mark.parametrize("pinned", [False, True])
def test_two_versions_are_never_put_together(ends: Ends, pinned: bool):
    """Without a hash one version arrives whole; with one, the right version of the two that a name gives."""
    bodies = {0: BODY, 1: OTHER}

    def answer(seen: Seen) -> Answer:
        if not seen.headers.get("range"):
            return Answer(body=BODY, headers={"ETag": '"0"'})
        kind = len(server.seen) % 2
        start, end = map(int, seen.headers["range"].removeprefix("bytes=").split("-"))
        reply = part(start, min(end + 1, len(BODY)), Server(bodies[kind]))
        reply.headers["ETag"] = f'"{kind}"'
        return reply

    with serving(answer) as server:
        (done,) = ends.stores["job"].provision(
            [wanted(server.url, "models/loras/x.safetensors", SHA256 if pinned else None)]
        )

    assert done["sha256"] in ([SHA256] if pinned else [SHA256, hashlib.sha256(OTHER).hexdigest()])


@pytest.mark.slow
@pytest.mark.parametrize("later", ["another ETag", "another address", "no ranges any more"])
def test_kept_pieces_are_used_where_the_hash_is_known(ends: Ends, later: str):
    """A run that stopped is continued with another machine's answers, also when its ETags differ."""
    path = "models/loras/x.safetensors"
    broken = Server(
        ranges=lambda s, e, server: part(s, e, server) if s < 3 * PIECE else Answer(503),
        whole=lambda _: Answer(503),
    )
    with serving(broken.answerer()) as server, pytest.raises(ComfyformError):
        ends.stores["job"].provision([wanted(server.url, path, SHA256)])
    with serving(
        Server(etag='"v2"', ranges=refuse(403) if "no ranges" in later else None).answerer()
    ) as server:
        url = f"{server.url}/b" if "address" in later else server.url
        (done,) = ends.stores["job"].provision([wanted(url, path, SHA256)])

    assert (ends.roots["job"] / path).read_bytes() == BODY
    if "ranges" not in later:
        assert done["fetched_bytes"] == len(BODY) - 3 * PIECE


def test_a_proxy_and_a_kept_connection(ends: Ends, monkeypatch: pytest.MonkeyPatch):
    """A plain proxy of the environment is asked for the whole address, with its own login."""
    with serving(Server().answerer()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:secret@"))
        monkeypatch.setattr("ops.sources.origins.check_public", lambda *_, **__: None)
        (done,) = ends.stores["job"].provision(
            [wanted("http://models.example", "models/loras/x.safetensors", SHA256)]
        )

    assert done["sha256"] == SHA256
    assert {seen.path for seen in proxy.seen} == {"http://models.example/x.safetensors"}
    assert {seen.headers["proxy-authorization"] for seen in proxy.seen} == {"Basic bWU6c2VjcmV0"}
    assert {seen.headers["host"] for seen in proxy.seen} == {"models.example"}
