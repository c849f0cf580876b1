"""A network volume over RunPod's S3 gateway: the only module that imports boto3.

The gateway is a file system in S3's clothes, and it has moods that are handled
here: a first listing may be slow or repeat its token, an AccessDenied may pass,
directories are listed, deletion is one by one, completing an upload may outlast
a proxy's patience.
Source: docs.runpod.io, serverless/storage/s3-api (read 2026-08-20), and field
reports collected until 2026-11.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar, cast

from backend.errors import ComfyformError, Forbidden, NotFound, TransferError, Unavailable
from backend.flow import Retry
from backend.flow.retry import Attempts, call_again
from backend.settings import Secret
from ops.stores.s3_errors import translated
from ops.threads.ordered_pool import pause

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

T = TypeVar("T")

MOST_COPIED: Final = 5 * 1024**3
"""What S3 copies in one request. Source: docs.aws.amazon.com, CopyObject, read 2026-11."""
_READ_BYTES: Final = 1024 * 1024
_CONNECTIONS: Final = 16
_FILES: Final = frozenset({"config_file", "credentials_file"})
# Completing a large upload copies its parts together; the gateway answers when it is done.
_COMPLETE_TIMEOUT_S: Final = 7200


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its key, its size, when it was written (Unix seconds) and its ETag without quotes."""

    key: str
    size_bytes: int
    modified_s: float
    etag: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part that arrived: its size, and its ETag without quotes."""

    size_bytes: int
    etag: str


class Bucket:
    """One volume's bucket. Safe to share between threads.

    Args:
        endpoint_url: the gateway, for example ``https://s3api-eu-ro-1.runpod.io``.
        volume_id: the bucket.
        region: the data center.
        access_key_id, secret_access_key: RunPod's S3 keys, which are not its API key.
        retry: for answers that may be a passing mood.
        wait: how to wait between attempts.
    """

    def __init__(
        self,
        endpoint_url: str,
        volume_id: str,
        *,
        region: str,
        access_key_id: str,
        secret_access_key: Secret,
        retry: Retry | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._name = volume_id
        self._retry = retry or Retry(attempts=8, first_s=0.5)
        self._wait = wait or pause
        connect = _connector(endpoint_url, volume_id, region, access_key_id, secret_access_key)
        self._client = connect(60)
        self._patient = connect(_COMPLETE_TIMEOUT_S)

    @property
    def name(self) -> str:
        """The volume's id."""
        return self._name

    def list(self, prefix: str) -> list[Stored]:
        """List every object under a prefix, without the gateway's directories.

        Raises:
            ApiError, TransferError: it could not be listed to its end.
        """
        found: dict[str, Stored] = {}
        resume: dict[str, str] = {}
        tokens: set[str] = set()
        while True:
            page = self._page(prefix, resume)
            entries = page.get("Contents", [])
            before = len(found)
            for entry in entries:
                if not entry["Key"].endswith("/"):
                    found[entry["Key"]] = Stored(
                        entry["Key"],
                        entry["Size"],
                        entry["LastModified"].timestamp(),
                        entry.get("ETag", "").strip('"'),
                    )
            if not page.get("IsTruncated"):
                return sorted(found.values(), key=lambda stored: stored.key)
            token = page.get("NextContinuationToken", "")
            if token and token not in tokens:
                tokens.add(token)
                resume = {"ContinuationToken": token}
            elif entries and (len(found) > before or "ContinuationToken" in resume):
                # The token was given before: go on after the last name instead.
                resume = {"StartAfter": entries[-1]["Key"]}
            else:
                raise TransferError(
                    f"The listing of {prefix} on volume {self._name} does not end.",
                    hint="RunPod computes large first listings slowly; try again in some minutes.",
                )

    def _page(self, prefix: str, resume: Mapping[str, str]) -> "ListObjectsV2OutputTypeDef":
        """Ask for one page of a listing."""
        keywords: Any = {"Bucket": self._name, "Prefix": prefix, **resume}
        return self._ask(f"List {prefix}", lambda: self._client.list_objects_v2(**keywords))

    def head(self, key: str) -> Stored | None:
        """Look at one object; None when it is not there."""
        try:
            answer = self._ask(f"Look at {key}", lambda: self._client.head_object(Bucket=self._name, Key=key))
        except NotFound:
            return None
        return Stored(
            key,
            answer["ContentLength"],
            answer["LastModified"].timestamp(),
            answer.get("ETag", "").strip('"'),
        )

    def read(self, key: str) -> bytes | None:
        """Read a small object; None when it is not there."""
        try:
            return b"".join(self.stream(key))
        except NotFound:
            return None

    def stream(self, key: str) -> Iterator[bytes]:
        """Read an object from its beginning to its end, going on where a connection broke."""
        offset, total = 0, -1
        attempts = Attempts(self._retry, when=_may_pass, progress=lambda: offset)
        while offset != total:
            try:
                answer = self._open(key, offset)
                total = offset + answer["ContentLength"]
                with contextlib.closing(answer["Body"]) as body, translated(f"Read {key}", self._name):
                    while chunk := body.read(_READ_BYTES):
                        offset += len(chunk)
                        yield chunk
            except Unavailable as error:
                self._wait(attempts.delay_after(error))

    def _open(self, key: str, offset: int) -> "GetObjectOutputTypeDef":
        """Ask for an object from an offset on."""
        keywords: Any = {"Bucket": self._name, "Key": key}
        if offset:
            keywords["Range"] = f"bytes={offset}-"
        answer = self._ask(f"Read {key}", lambda: self._client.get_object(**keywords))
        if offset and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
            raise TransferError(
                f"The S3 gateway of volume {self._name} sent another part of {key}.", path=key
            )
        return answer

    def write(self, key: str, content: bytes | io.RawIOBase) -> None:
        """Write an object in one request, at most 500 MB."""

        def send() -> None:
            if not isinstance(content, bytes):
                content.seek(0)  # an attempt before this one may have read it
            body = cast("bytes | IO[bytes]", content)
            self._client.put_object(Bucket=self._name, Key=key, Body=body)

        self._ask(f"Write {key}", send)

    def delete(self, key: str) -> None:
        """Delete an object; a missing object is not an error."""
        with contextlib.suppress(NotFound):
            self._ask(f"Delete {key}", lambda: self._client.delete_object(Bucket=self._name, Key=key))

    def copy(self, key: str, to: str, size_bytes: int) -> None:
        """Copy an object within the volume; the gateway does it, and no byte comes here.

        Raises:
            TransferError: it is larger than the gateway copies in one request.
        """
        if size_bytes > MOST_COPIED:
            raise TransferError(
                f"{key} has {size_bytes:,} bytes, and the S3 gateway copies at most {MOST_COPIED:,}.",
                path=key,
                hint="Let a worker do it: inv models.sync --transport job.",
            )
        source: Any = {"Bucket": self._name, "Key": key}
        self._ask(
            f"Copy {key}", lambda: self._client.copy_object(Bucket=self._name, Key=to, CopySource=source)
        )

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload and return its id."""
        answer = self._ask(
            f"Begin {key}", lambda: self._client.create_multipart_upload(Bucket=self._name, Key=key)
        )
        return answer["UploadId"]

    def upload_part(self, key: str, upload_id: str, number: int, body: io.RawIOBase) -> str:
        """Send a part, at most 500 MB, and return its ETag without quotes."""

        def send() -> str:
            body.seek(0)
            answer = self._client.upload_part(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=cast("IO[bytes]", body),  # botocore reads and seeks, which it can
            )
            return answer["ETag"].strip('"')

        return self._ask(f"Send part {number} of {key}", send)

    def parts(self, key: str, upload_id: str) -> Mapping[int, Part] | None:
        """List the parts of an upload that arrived, by number; None when the upload is gone."""
        found: dict[int, Part] = {}
        marker = 0
        try:
            while True:
                page = self._ask(
                    f"List the parts of {key}",
                    lambda after=marker: self._client.list_parts(  # type: ignore[misc]  # mypy wants a plain lambda
                        Bucket=self._name, Key=key, UploadId=upload_id, PartNumberMarker=after
                    ),
                )
                for part in page.get("Parts", []):
                    found[part["PartNumber"]] = Part(part["Size"], part["ETag"].strip('"'))
                following = int(page.get("NextPartNumberMarker") or 0)
                if not page.get("IsTruncated") or following <= marker:
                    return found
                marker = following
        except NotFound:
            return None

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Put the parts together under the final name. Not repeated here: see ``ops.stores.s3_upload``."""
        parts: Any = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with translated(f"Complete {key}", self._name):
            self._patient.complete_multipart_upload(
                Bucket=self._name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; a missing upload is not an error."""
        with contextlib.suppress(NotFound):
            self._ask(
                f"Drop an upload of {key}",
                lambda: self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id),
            )

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """Call, again where the answer may be a passing mood of the gateway."""

        def once() -> T:
            with translated(what, self._name):
                return call()

        return call_again(once, self._retry, wait=self._wait, what=what, when=_may_pass)


def _may_pass(error: ComfyformError) -> bool:
    """Forbidden too: the gateway answers 403 in passing."""
    return isinstance(error, Forbidden | Unavailable)


def _connector(
    endpoint_url: str, volume_id: str, region: str, access_key_id: str, secret_access_key: Secret
) -> "Callable[[int], S3Client]":
    """Make what makes clients for the gateway, by their patience in seconds.

    They share a session: each session holds S3's description of its own, 10 MiB of it.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    # Nothing of another service's settings: no profile, no file and no AWS_ variable is read.
    variables = {
        name: (None, None, os.devnull if name in _FILES else default, convert)
        for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
    }
    with translated("Open the S3 client", volume_id):
        session = boto3.session.Session(
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key.reveal(),
            region_name=region,
            botocore_session=botocore.session.Session(session_vars=variables),
        )

    def connect(read_timeout_s: int) -> "S3Client":
        with translated("Open the S3 client", volume_id):
            return session.client(
                "s3",
                endpoint_url=endpoint_url,
                config=Config(
                    # Trying again is decided in one place, `Bucket`.
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    s3={"addressing_style": "path"},
                    connect_timeout=10,
                    read_timeout=read_timeout_s,
                    max_pool_connections=_CONNECTIONS,
                    # Newer default checksums are not among what the gateway documents.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    return connect
