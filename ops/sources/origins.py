"""Ask where a model file's bytes are, and which they are, before the first of them is fetched.

So a wrong size or hash is known at once, and a refusal becomes the sentence
that helps. Tokens go to their own service only.

Source: Hugging Face's and CivitAI's public documents and answers, read 2026-11-22.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from backend.errors import SourceMissing, Unavailable, error_class
from backend.flow import Flow, Reply, Send, check, persist, send
from backend.flow.http_driver import Http
from backend.settings import Secret, Settings
from ops.models.record import SHA256
from ops.models.source_url import CivitaiSource, HfSource, LocalSource, Source, UrlSource, parse
from ops.sources.civitai import announced_sha256, chosen_file, download_path
from ops.sources.errors import explain
from ops.sources.ssrf_guard import check_peer, check_public, redirected, same_server

_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HOPS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the bytes are had right now, and what the server says about them.

    Attributes:
        source: what it was resolved from.
        url: to GET; it may redirect.
        key: for the URL's own host.
        size_bytes, sha256: as the server announced them, or None.
        revision: the commit that was resolved, Hugging Face only.
        guarded: the URL came from outside, so it and every redirect must lead to a public address.
    """

    source: Source
    url: str
    key: Secret | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    revision: str | None = None
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """The services that files come from, with the keys for each."""

    http: Http
    hf_endpoint: str = "https://huggingface.co"
    hf_token: Secret | None = None
    civitai_url: str = "https://civitai.com"
    civitai_token: Secret | None = None
    allow_hosts: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings, http: Http) -> "Sources":
        """Take addresses and keys from the settings."""
        return cls(
            http,
            settings.hf_endpoint,
            settings.hf_token,
            settings.civitai_url,
            settings.civitai_token,
            settings.comfyform_allow_hosts,
        )

    def resolve(self, text: str) -> Origin:
        """Ask where a source's bytes are, and which they are.

        Raises:
            SourceMissing: it is not there, or may not be had; the message says what to do.
            InvalidArgument: the source is malformed or its address may not be fetched.
            ApiError: the service does not answer.
        """
        source = parse(text)
        match source:
            case HfSource():
                return self._hugging_face(source)
            case CivitaiSource():
                return self._civitai(source)
            case UrlSource():
                check_public(source.url, allow_hosts=self.allow_hosts)
                return Origin(source=source, url=source.url, guarded=True)
            case LocalSource():
                raise only_there(source)

    def check_hop(self, origin: Origin, url: str) -> None:
        """Refuse a redirect that leads where it may not."""
        if origin.guarded:
            check_public(url, allow_hosts=self.allow_hosts)

    def check_peer(self, origin: Origin, url: str, address: str) -> None:
        """Refuse a connection to an address that the URL's host did not have when it was checked."""
        if origin.guarded:
            check_peer(url, address, allow_hosts=self.allow_hosts)

    def _hugging_face(self, source: HfSource) -> Origin:
        """HEAD the file: the redirect itself names commit, size and sha256, so it is not followed.

        A renamed repository redirects on the same host, without a commit; that is followed.
        """
        revision = quote(source.revision or "main", safe="")
        url = f"{self.hf_endpoint}/{source.repo}/resolve/{revision}/{quote(source.file)}"
        for _ in range(_HOPS):
            reply = self._head(url, self.hf_token)
            if reply.status not in REDIRECTS or "x-repo-commit" in reply.headers:
                break
            target = redirected(url, reply.headers.get("location", ""))
            if not same_server(target, url):
                break
            url = target
        if reply.status not in REDIRECTS and not reply.ok:
            raise self.refusal(source, reply)
        headers = reply.headers
        tag = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip('"')
        commit = headers.get("x-repo-commit", "")
        size = headers.get("x-linked-size") or (headers.get("content-length") if reply.ok else None)
        return Origin(
            source=source,
            url=url,
            key=self.hf_token,
            size_bytes=int(size) if size and size.isdigit() else None,
            sha256=tag if SHA256.match(tag) else None,
            revision=commit if _COMMIT.match(commit) else None,
        )

    def _civitai(self, source: CivitaiSource) -> Origin:
        """Read the chosen file's hash; its size is rounded there, so it is left to the download."""
        url = f"{self.civitai_url}/api/v1/model-versions/{source.version_id}"
        reply = self.get(url, self.civitai_token)
        if not reply.ok:
            raise self.refusal(source, reply)
        version = reply.object()
        return Origin(
            source=source,
            url=f"{self.civitai_url}{download_path(version, source)}",
            key=self.civitai_token,
            sha256=announced_sha256(chosen_file(version, source)),
        )

    def _head(self, url: str, key: Secret | None) -> Reply:
        """Ask for an answer's headers: by HEAD, and by GET where a mirror refuses that method."""
        identity = {"Accept-Encoding": "identity"}
        try:
            reply = self.http.run(_patiently(Send("HEAD", url, key=key, headers=identity)))
            if reply.ok or reply.status in REDIRECTS or "x-error-code" in reply.headers:
                return reply
        except Unavailable as error:
            if error.status is None:
                raise
        with self.http.stream(Send("GET", url, key=key, headers=identity | {"Range": "bytes=0-0"})) as answer:
            headers = dict(answer.headers)
            if answer.status == 206:  # the length is the part's
                headers["content-length"] = headers.get("content-range", "").rpartition("/")[2]
            good = answer.status in (200, 206) or answer.status in REDIRECTS
            content = b"" if good else answer.read().content
            return Reply(status=answer.status, headers=headers, content=content, url=answer.url)

    def get(self, url: str, key: Secret | None) -> Reply:
        """GET a service's answer, which may be a refusal or a redirect; a busy service is asked again."""
        return self.http.run(_patiently(Send("GET", url, key=key)))

    def refusal(self, source: Source, reply: Reply) -> SourceMissing:
        """Turn a refusal into the sentence that helps."""
        has_key = bool(self.hf_token if isinstance(source, HfSource) else self.civitai_token)
        sentence, hint = explain(source, reply, has_key=has_key)
        return SourceMissing(sentence, hint=hint)


def _patiently(step: Send) -> Flow[Reply]:
    """Send, again while the service is busy; a definite no is an answer."""

    def once() -> Flow[Reply]:
        reply = yield from send(step)
        if not reply.ok and reply.status != 501 and error_class(reply.status).retryable:
            check(reply, f"Look for {step.url.rpartition('/')[2]}")
        return reply

    return (yield from persist(once))


def only_there(source: LocalSource) -> SourceMissing:
    """Make the error for a file that only the machine that has it can send."""
    return SourceMissing(
        f"{source} exists only on the machine that has it.",
        path=source.path,
        hint="Run inv models.sync --transport s3 there.",
    )
