"""Where bytes come from: what each service says before the first byte, and what its refusals mean."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import InvalidArgument, SourceMissing
from backend.flow import Reply
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import Secret
from ops.models.source_url import CivitaiSource, HfSource, Source, UrlSource, parse
from ops.sources.errors import explain
from ops.sources.origins import Sources
from ops.sources.ssrf_guard import check_public
from ops.stores.worker_jobs import JobStore
from tests.support.emulation import Emulator
from tests.support.ops_places import PATH, folder, sources_of

SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"


@pytest.fixture
def http_() -> Iterator[Http]:
    """Yield a driver."""
    with Http() as driver:
        yield driver


def test_a_large_file_is_known_beforehand(emu: Emulator, http_: Http):
    """Commit, size and sha256 come with the redirect, and not a byte of the file."""
    origin = sources_of(emu, http_).resolve("hf:openai/whisper-tiny:model.safetensors")

    assert origin.revision == "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"
    assert origin.size_bytes == 200 * 1024
    assert len(origin.sha256 or "") == 64
    assert emu.requests("GET", "/hub/*") == []


def test_a_small_file_has_no_hash(emu: Emulator, http_: Http):
    """What is kept in git has a git id only, which is no sha256."""
    origin = sources_of(emu, http_).resolve("hf:openai/whisper-tiny:config.json")

    assert origin.size_bytes
    assert origin.sha256 is None


def test_a_file_of_this_machine_costs_no_job(http_: Http):
    """No worker can have it, which is known before one is asked."""
    plane = JobPlane("http://127.0.0.1:9/nobody", Secret("none"))
    with pytest.raises(SourceMissing, match="--transport s3"):
        JobStore(http_, plane, "none").provision([{"path": PATH, "source": "local:loras/mine.safetensors"}])


def test_a_renamed_repository_is_found(emu: Emulator, http_: Http):
    """Old names lead to the new repository's commits."""
    origin = sources_of(emu, http_).resolve(
        "hf:runwayml/stable-diffusion-v1-5:v1-5-pruned-emaonly-fp16.safetensors"
    )

    assert origin.sha256
    assert origin.revision == "4fddeb7f9096623f1b77f4708feb96126a08a0cf"


def test_civitai_is_fetched_with_its_key(emu: Emulator, tmp_path: Path, http_: Http):
    """The version's hash is known beforehand, and a file behind a login needs the key."""
    created = emu.control(
        "POST",
        "/civitai/versions",
        {"id": 4711, "filename": "a.safetensors", "size_bytes": 70_000, "login_required": True},
    )
    required: Any = {"path": PATH, "source": "civitai:4711"}

    (answer,) = folder(tmp_path, sources_of(emu, http_)).provision([required])
    with pytest.raises(SourceMissing, match="CIVITAI_TOKEN is not set"):
        folder(tmp_path / "other", sources_of(emu, http_, CIVITAI_TOKEN="")).provision([required])

    assert answer["sha256"] == created["hashes"]["SHA256"].lower()


class Redirecting:
    """Two web servers: the first sends everybody to the second. Both note what they are sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str | None]] = []
        self.second = self._start(None)
        self.first = self._start(f"http://127.0.0.1:{self.second.server_port}/file")

    def _start(self, location: str | None) -> http.server.ThreadingHTTPServer:
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.connection.getsockname()[1], self.headers.get("Authorization")))
                self.send_response(302 if location else 206)
                if location:
                    self.send_header("Location", location)
                    self.send_header("Content-Length", "0")
                else:
                    self.send_header("Content-Range", "bytes 0-0/1")
                    self.send_header("Content-Length", "1")
                    self.send_header("ETag", '"v1"')
                self.end_headers()
                if not location:
                    self.wfile.write(b"x")

            def do_HEAD(self) -> None:
                seen.append((self.connection.getsockname()[1], self.headers.get("Authorization")))
                self.send_response(200)
                self.send_header("Content-Length", "1")
                self.send_header("X-Repo-Commit", "0" * 40)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def close(self) -> None:
        for server in (self.first, self.second):
            server.shutdown()
            server.server_close()


def test_a_token_does_not_follow_a_redirect(tmp_path: Path, http_: Http):
    """The hub's own host gets the token; the host that it sends us to never sees it."""
    servers = Redirecting()
    sources = Sources(http_, f"http://127.0.0.1:{servers.first.server_port}", Secret("hf_secret"))

    folder(tmp_path, sources).provision([{"path": PATH, "source": "hf:a/b:c.bin"}])
    servers.close()

    assert {key for port, key in servers.seen if port == servers.first.server_port} == {"Bearer hf_secret"}
    assert {key for port, key in servers.seen if port == servers.second.server_port} == {None}
    assert (tmp_path / PATH).read_bytes() == b"x"


def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path, http_: Http, monkeypatch: Any):
    """A public URL that leads inside is caught at the hop."""
    servers = Redirecting()
    port = servers.first.server_port
    monkeypatch.setattr("ops.sources.origins.check_public", _inside_but_for(port))
    monkeypatch.setattr(
        "ops.sources.origins.check_peer", lambda *_, **__: None
    )  # its address is this machine's
    sources = Sources(http_)

    with pytest.raises(InvalidArgument, match="not a public address"):
        folder(tmp_path, sources).provision([{"path": PATH, "source": f"url:http://127.0.0.1:{port}/"}])
    servers.close()

    assert [seen for seen, _ in servers.seen] == [port]


def _inside_but_for(port: int) -> Any:
    """Take one loopback port for a public address, as a test's stand-in for the internet."""

    def check(url: str, *, allow_hosts: Any = ()) -> str:
        if f":{port}/" in url:
            return url
        return check_public(url.replace("http://", "https://"), allow_hosts=allow_hosts)

    return check


def reply(status: int, body: str = "", **headers: str) -> Reply:
    return Reply(
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        body.encode(),
        "https://huggingface.co/x",
    )


GATED = HfSource(SVD, None, "svd_xt_1_1.safetensors")
CIVITAI = CivitaiSource(128713)
REFUSALS: dict[str, tuple[Source, Reply, bool, str, str]] = {
    "gated, no token": (
        GATED,
        reply(401, x_error_code="GatedRepo"),
        False,
        "is gated and HF_TOKEN is not set",
        f"Accept its license at https://huggingface.co/{SVD}, then set HF_TOKEN",
    ),
    "gated, bad token": (
        GATED,
        reply(401, x_error_code="GatedRepo"),
        True,
        "does not accept the token in HF_TOKEN",
        "make a new one",
    ),
    "gated, no access": (
        GATED,
        reply(403, x_error_code="GatedRepo"),
        True,
        "the account of HF_TOKEN has no access yet",
        "Accept its license",
    ),
    "missing or private": (
        GATED,
        reply(401, '{"error":"Invalid username or password."}'),
        False,
        f"Repository {SVD} not found on Hugging Face, or it is not readable",
        "or set HF_TOKEN if it is private",
    ),
    "missing, with token": (
        GATED,
        reply(404, x_error_code="RepoNotFound"),
        True,
        "Repository ",
        "Check its name",
    ),
    "token unknown": (
        GATED,
        reply(401, x_error_message="Invalid credentials in Authorization header"),
        True,
        "Hugging Face does not accept the token in HF_TOKEN",
        "mistyped or revoked",
    ),
    "no such revision": (
        HfSource("a/b", "v9", "c"),
        reply(404, x_error_code="RevisionNotFound"),
        False,
        "has no revision 'v9'",
        "Correct the revision",
    ),
    "no such file": (
        GATED,
        reply(404, x_error_code="EntryNotFound"),
        False,
        "has no file 'svd_xt_1_1.safetensors' at main",
        "It may have been renamed",
    ),
    "disabled": (
        GATED,
        reply(403, x_error_message="Access to this resource is disabled."),
        False,
        "is disabled on Hugging Face",
        "Name another source",
    ),
    "anything else": (GATED, reply(418, '{"error":"teapot"}'), False, "refuses hf:", "huggingface.co"),
    "civitai wants a login": (
        CIVITAI,
        reply(401, json.dumps({"error": "Unauthorized", "message": "requires you to be logged in"})),
        False,
        "gives it to logged-in users only and CIVITAI_TOKEN is not set",
        "set CIVITAI_TOKEN",
    ),
    "civitai, bad key": (
        CIVITAI,
        reply(401, '{"error":"Unauthorized"}'),
        True,
        "CivitAI does not accept the key",
        "Make a new key",
    ),
    "civitai, early access": (
        CIVITAI,
        reply(403, '{"error":"Early Access"}'),
        True,
        "is in early access",
        "wait until it ends",
    ),
    "civitai, gone": (CIVITAI, reply(404), False, "has no model version 128713", "modelVersionId="),
    "a url": (
        UrlSource("https://x/y"),
        reply(404),
        False,
        "cannot be downloaded: the server answered 404",
        "browser",
    ),
}


@pytest.mark.parametrize(
    ("source", "answer", "has_key", "sentence", "hint"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_refusals_say_what_to_do(source: Source, answer: Reply, has_key: bool, sentence: str, hint: str):
    """Each of the services' ways to say no becomes the sentence that helps."""
    message, advice = explain(source, answer, has_key=has_key)

    assert sentence in message
    assert hint in advice


def test_sources_are_values():
    """A source reads back as what it was."""
    assert parse(str(GATED)) == GATED
