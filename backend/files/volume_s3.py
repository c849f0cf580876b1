"""A network volume over S3, as far as jobs need it: put a file, look for one, get one.

Three signed requests, so that an application does not need an S3 library; the
models go through boto3 in ``ops``.

Source: docs.runpod.io, storage/s3-api (read 2026-08-20): the bucket is the volume's id, the region is
    its data center, keys are paths from the volume's root. AWS Signature Version 4, header form.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

from backend.errors import InvalidRequest
from backend.files.volume_s3_multipart import PART_BYTES, put_in_parts
from backend.flow import (
    RETRY,
    Download,
    Downloaded,
    Flow,
    Reply,
    Retry,
    Send,
    Upload,
    ask,
    check,
    persist,
    send,
    work,
)
from backend.settings import Secret, Settings

T = TypeVar("T")

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()


class VolumeS3:
    """The files of one network volume.

    Args:
        url: of the S3 API, for example ``https://s3api-eu-ro-1.runpod.io``; None to find it on first use.
        volume_id: the bucket.
        access_key_id, secret_access_key: made in RunPod's console; not the API key.
        find: returns the URL when ``url`` is empty.
        now: the time, for signatures.
    """

    def __init__(
        self,
        url: str | None,
        volume_id: str,
        access_key_id: str,
        secret_access_key: Secret,
        *,
        find: Callable[[], Flow[str]] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry: Retry = RETRY,
    ) -> None:
        self._url = (url or "").rstrip("/")
        self._region = region_of(self._url)
        self._volume_id = volume_id
        self._find = find
        self._access_key_id = access_key_id
        self._secret = secret_access_key
        self._now = now
        self._retry = retry

    @classmethod
    def from_settings(cls, settings: Settings, *, retry: Retry = RETRY) -> "VolumeS3 | None":
        """Make it where the settings name all it needs; else None.

        Where RUNPOD_S3_URL is not set, RunPod's control plane says in which data center the volume is.
        """
        url, volume_id = settings.runpod_s3_url, settings.runpod_volume_id
        key, secret = settings.runpod_s3_access_key_id, settings.runpod_s3_secret_access_key
        api_key, rest_url = settings.runpod_api_key, settings.runpod_rest_url
        if not (volume_id and key and secret and (url or api_key)):
            return None

        def find() -> Flow[str]:
            step = Send("GET", f"{rest_url}/network-volumes/{volume_id}", key=api_key)
            volume = (yield from ask(step, f"Look for volume {volume_id}", retry=retry)).object()
            return f"https://s3api-{str(volume['dataCenter']).lower()}.runpod.io"

        return cls(url, volume_id, key, secret, find=find, retry=retry)

    def size_of(self, path: str) -> Flow[int | None]:
        """Return a file's size in bytes, or None if the file does not exist."""
        reply = yield from self._asked("HEAD", path)
        return int(reply.headers.get("content-length", 0)) if reply.ok else None

    def read(self, path: str) -> Flow[bytes | None]:
        """Read a small file; None if the file does not exist."""
        reply = yield from self._asked("GET", path)
        return reply.content if reply.ok else None

    def _asked(self, method: str, path: str) -> Flow[Reply]:
        """Ask for a file that may not be there."""

        def once() -> Flow[Reply]:
            url, headers = self._signed(method, path, EMPTY_SHA256)
            reply = yield from send(Send(method, url, headers=headers))
            return reply if reply.status == 404 else check(reply, f"Look for {path} on the volume")

        return (yield from self._in_region(once))

    def put(self, source: Path, path: str, *, size_bytes: int, sha256: str) -> Flow[None]:
        """Put a file, of any size; a large one in parts."""
        if size_bytes > PART_BYTES:
            return (yield from put_in_parts(self, source, path, size_bytes=size_bytes))

        def once() -> Flow[Reply]:
            url, headers = self._signed("PUT", path, sha256)
            reply = yield from send(Upload(url=url, source=source, headers=headers, timeout_s=600.0))
            return check(reply, f"Put {path} on the volume")

        yield from self._in_region(once)

    def get(self, path: str, to: Path, *, sha256: str | None = None) -> Flow[Downloaded]:
        """Get a file.

        Raises:
            NotFound: it is not there.
            HashMismatch: its bytes are others.
        """

        def once() -> Flow[Downloaded]:
            url, headers = self._signed("GET", path, EMPTY_SHA256)
            what = f"{path} from the volume"
            got: Downloaded = yield Download(url=url, to=to, headers=headers, sha256=sha256, what=what)
            return got

        return (yield from self._in_region(once))

    def send(
        self, method: str, path: str, query: str, content: bytes = b"", *, timeout_s: float = 300.0
    ) -> Flow[Reply]:
        """Send a signed request about a file, again while it fails for a passing reason.

        Args:
            query: percent-encoded, sorted by name.
        """
        sha256 = yield from work(lambda: hashlib.sha256(content).hexdigest())

        def once() -> Flow[Reply]:
            url, headers = self._signed(method, path, sha256, query)
            step = Send(method, f"{url}?{query}", headers=headers, content=content, timeout_s=timeout_s)
            return check((yield from send(step)), f"Put {path} on the volume")

        return (yield from self._in_region(once))

    def _in_region(self, once: Callable[[], Flow[T]]) -> Flow[T]:
        """Do it; where the address does not tell the data center, learn it from the first refusal."""
        if not self._url and self._find is not None:
            self._url = yield from self._find()
            self._region = region_of(self._url)
        try:
            return (yield from persist(once, retry=self._retry))
        except InvalidRequest as error:
            if error.status != 400 or not (yield from self._learn_region()):
                raise
        return (yield from persist(once, retry=self._retry))

    def _learn_region(self) -> Flow[bool]:
        """Ask for any file: S3 names the region that it expects. Tell whether that is news.

        Source: docs.aws.amazon.com, AmazonS3, AuthorizationHeaderMalformed.
        """
        url, headers = self._signed("GET", ".comfyform/region", EMPTY_SHA256)
        reply = yield from send(Send("GET", url, headers=headers))
        found = re.search(r"<Region>([^<]+)<|expecting '([^']+)'", reply.text)
        region = (found[1] or found[2]) if found else self._region
        news = region != self._region
        self._region = region
        return news

    def _signed(
        self, method: str, path: str, content_sha256: str, query: str = ""
    ) -> tuple[str, dict[str, str]]:
        url = f"{self._url}/{self._volume_id}/{quote(path, safe='/')}"
        credentials = (self._access_key_id, self._secret.reveal(), self._region)
        return url, sign(method, url, content_sha256, credentials, self._now(), query=query)


def region_of(url: str) -> str:
    """The region that a signature names: the data center in RunPod's host names."""
    found = re.match(r"s3api-([a-z0-9-]+)\.", urlsplit(url).hostname or "")
    return found[1] if found else "us-east-1"


def sign(
    method: str,
    url: str,
    content_sha256: str,
    credentials: tuple[str, str, str],
    now: datetime,
    *,
    query: str = "",
) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        url: without a query, its path percent-encoded.
        content_sha256: of the body.
        credentials: access key id, secret, region.
        query: percent-encoded, sorted by name.

    Source: docs.aws.amazon.com, AmazonS3, sig-v4-header-based-auth.
    """
    access_key_id, secret, region = credentials
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers: Mapping[str, str] = {
        "host": parts.netloc,
        "x-amz-content-sha256": content_sha256,
        "x-amz-date": stamp,
    }
    names = ";".join(headers)
    canonical = "\n".join(
        [
            method,
            parts.path,
            query,
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            names,
            content_sha256,
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    key = f"AWS4{secret}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {
        **{name: value for name, value in headers.items() if name != "host"},
        "authorization": authorization,
    }
