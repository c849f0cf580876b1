"""Model files over TLS and through proxies: certificates, tunnels, logins, refusals, and where a key goes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.certificates import self_signed
from tests.support.connect_proxy import ConnectProxy, proxying
from tests.support.ops_places import safetensors
from tests.support.small_server import Answer, Seen, SmallServer, serving

pytestmark = pytest.mark.slow

BODY = safetensors(300_000, seed=3)
SHA256 = hashlib.sha256(BODY).hexdigest()
KEY = "hf_secretKey"
HUB, CDN = "hub.example", "cdn.example"
PATH = "models/loras/x.safetensors"
PROGRAM = """
import dataclasses, json, sys
from pathlib import Path
from backend.errors import ComfyformError
from backend.flow import Retry
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from ops.threads.retry import PACE

quick = Retry(attempts=2, first_s=0.01, most_s=0.02)
pace = dataclasses.replace(PACE, piece_bytes=65536, connections=2, retry=quick)
with Http() as http:
    store = FolderStore(Path(sys.argv[1]), Sources.from_settings(Settings.from_env(), http), pace=pace)
    try:
        print(json.dumps(store.provision([json.loads(sys.argv[2])])))
    except ComfyformError as error:
        print(json.dumps({"error": str(error)}))
"""
"""A program of its own: certificates and proxies are read from the environment once."""


def fetch(root: Path, source: str, **env: str) -> Any:
    """Provision a file in a process with these variables, and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    required = json.dumps({"path": PATH, "source": source, "sha256": SHA256})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root), required],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    return json.loads(done.stdout)


def part(seen: Seen) -> Answer:
    """Answer with the file, or the part that is asked for."""
    if "range" not in seen.headers:
        return Answer(body=BODY)
    start, end = map(int, seen.headers["range"].removeprefix("bytes=").split("-"))
    end = min(end + 1, len(BODY))
    return Answer(206, BODY[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(BODY)}"})


def announce(seen: Seen) -> Answer:
    """Answer as Hugging Face does: the commit, the hash, and a redirect to another host."""
    headers = {
        "X-Repo-Commit": "a" * 40,
        "X-Linked-Etag": f'"{SHA256}"',
        "X-Linked-Size": str(len(BODY)),
        "Location": f"https://{CDN}/file?signature=abc",
    }
    return Answer(302, headers=headers)


@contextlib.contextmanager
def studio(
    tmp_path: Path, *, refusal: str = ""
) -> Iterator[tuple[SmallServer, SmallServer, ConnectProxy, Path]]:
    """Run a hub and the host of its bytes, both over TLS and reachable through a proxy only."""
    certificate = self_signed(tmp_path, HUB, CDN)
    with (
        serving(announce, certificate=certificate) as hub,
        serving(part, certificate=certificate) as cdn,
        proxying(
            {HUB: urlsplit(hub.url).port or 0, CDN: urlsplit(cdn.url).port or 0}, refusal=refusal
        ) as proxy,
    ):
        yield hub, cdn, proxy, certificate


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_key_goes_to_its_own_server_only(tmp_path: Path, variable: str):
    """The hub sees the key; the target of its redirect and a proxy with a login do not."""
    with studio(tmp_path) as (hub, cdn, proxy, certificate):
        done = fetch(
            tmp_path / "volume",
            "hf:org/name:x.safetensors",
            HF_ENDPOINT=f"https://{HUB}",
            HF_TOKEN=KEY,
            SSL_CERT_FILE=str(certificate),
            **{variable: proxy.url.replace("://", "://me:p%40ss@")},
        )

    assert done[0]["sha256"] == SHA256
    assert (tmp_path / "volume" / PATH).read_bytes() == BODY
    assert proxy.targets == {f"{HUB}:443", f"{CDN}:443"}
    login = base64.b64encode(b"me:p@ss").decode()
    assert all(f"proxy-authorization: basic {login.lower()}" in head.lower() for head in proxy.heads)
    assert not any(word in "".join(proxy.heads) for word in (KEY, "signature", "x.safetensors"))
    assert KEY.encode() not in proxy.carried
    assert {seen.headers.get("authorization") for seen in hub.seen} == {f"Bearer {KEY}"}
    assert {seen.headers.get("authorization") for seen in cdn.seen} == {None}
    assert not any("proxy-authorization" in seen.headers for seen in [*hub.seen, *cdn.seen])


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ("407 Proxy Authentication Required", "407 Proxy Authentication Required"),
        ("403 Forbidden", "403 Forbidden"),
        ("502 Bad Gateway", "502 Bad Gateway"),
        ("close", "proxy"),
        ("down", "proxy"),
    ],
)
def test_a_proxy_that_refuses_is_named(tmp_path: Path, refusal: str, reason: str):
    """One sentence says that it was the proxy, and what it answered; a login in its address is not shown."""
    with studio(tmp_path, refusal=refusal) as (hub, _cdn, proxy, certificate):
        url = "http://127.0.0.1:9" if refusal == "down" else proxy.url
        answers = [
            fetch(
                tmp_path / "volume",
                source,
                HF_ENDPOINT=f"https://{HUB}",
                SSL_CERT_FILE=str(certificate),
                HTTPS_PROXY=url.replace("://", "://me:p%40ss@"),
                COMFYFORM_ALLOW_HOSTS=CDN,
            )
            for source in ("hf:org/name:x.safetensors", f"url:https://{CDN}/x.safetensors")
        ]

    for answer in answers:
        assert reason in answer["error"], answer
        assert "proxy" in answer["error"].lower(), answer
        assert "p%40ss" not in answer["error"]
        assert "p@ss" not in answer["error"]
    assert hub.seen == []
    assert not (tmp_path / "volume" / PATH).exists()


@pytest.mark.parametrize("direct", [True, False])
def test_no_proxy_is_obeyed(tmp_path: Path, direct: bool):
    """A host in NO_PROXY is asked directly, any other one through the proxy."""
    host = "127.0.0.2"
    certificate = self_signed(tmp_path, host)
    with (
        serving(part, certificate=certificate, host=host) as server,
        proxying(
            {host: urlsplit(server.url).port or 0}, refusal="" if not direct else "403 Forbidden"
        ) as proxy,
    ):
        done = fetch(
            tmp_path / "volume",
            f"url:{server.url}/x.safetensors",
            SSL_CERT_FILE=str(certificate),
            HTTPS_PROXY=proxy.url,
            NO_PROXY=f"other.example, {host}" if direct else "other.example",
            COMFYFORM_ALLOW_HOSTS=host,
        )

    assert done[0]["sha256"] == SHA256
    assert bool(proxy.heads) is not direct


@pytest.mark.parametrize(
    ("names", "days", "trusted", "reason"),
    [
        (("localhost",), 1, False, "self-signed certificate"),
        (("localhost",), -1, True, "certificate has expired"),
        (("other.example",), 1, True, "Hostname mismatch"),
    ],
    ids=["unknown", "expired", "of another host"],
)
def test_a_certificate_that_is_not_trusted_is_one_sentence(
    tmp_path: Path, names: tuple[str, ...], days: int, trusted: bool, reason: str
):
    """No byte is fetched, no key is sent, and the reason is named."""
    certificate = self_signed(tmp_path, *names, days=days)
    env = {"SSL_CERT_FILE": str(certificate)} if trusted else {}
    with serving(part, certificate=certificate) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        answers = [
            fetch(
                tmp_path / "volume",
                source,
                HF_ENDPOINT=url,
                HF_TOKEN=KEY,
                COMFYFORM_ALLOW_HOSTS="localhost",
                **env,
            )
            for source in ("hf:org/name:x.safetensors", f"url:{url}/x.safetensors")
        ]

    for answer in answers:
        assert reason.lower() in answer["error"].lower(), answer
    assert server.seen == []


def test_a_kept_connection_is_used_through_a_tunnel(tmp_path: Path):
    """The pieces of a file do not open a tunnel each."""
    with studio(tmp_path) as (_hub, cdn, proxy, certificate):
        fetch(
            tmp_path / "volume",
            f"url:https://{CDN}/x.safetensors",
            SSL_CERT_FILE=str(certificate),
            HTTPS_PROXY=proxy.url,
            COMFYFORM_ALLOW_HOSTS=CDN,
        )

    assert len(proxy.heads) < len(cdn.seen)
