"""RunPod's S3-compatible API: a bucket is a network volume, an object is a file on it.

This module checks signatures and finds the volume; what RunPod's API lacks is refused by name.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.s3 import buckets, objects, uploads
from emulator.s3.auth import Signed, verify
from emulator.s3.call import Call, Memory, operation, words
from emulator.s3.errors import Node, S3Error, document, no_such_bucket, not_implemented
from emulator.s3.listing import timestamp
from emulator.s3.volume import Volume
from emulator.state import State

DATA_CENTERS = words(
    """EU-CZ-1 EU-RO-1 EUR-IS-1 EUR-NO-1 US-CA-2 US-GA-2 US-IL-1 US-KS-2 US-MD-1 US-MO-1 US-MO-2 US-NC-1
    US-NC-2 US-NE-1 US-WA-1"""
)
"""Where RunPod has an S3 endpoint. Source: RunPod docs 2026-08-20, storage/s3-api."""

PREFIX = "/s3"
"""Where the plane is mounted; part of what clients sign."""

HANDLERS: dict[str, Callable[[Call], Awaitable[Response]]] = {
    "HeadBucket": buckets.head,
    "ListObjects": buckets.list_objects,
    "ListMultipartUploads": uploads.list_uploads,
    "GetObject": objects.get,
    "HeadObject": objects.get,
    "PutObject": objects.put,
    "CopyObject": objects.copy,
    "DeleteObject": objects.delete,
    "CreateMultipartUpload": uploads.create,
    "UploadPart": uploads.upload_part,
    "CompleteMultipartUpload": uploads.complete,
    "AbortMultipartUpload": uploads.abort,
    "ListParts": uploads.list_parts,
}


def app(state: State) -> ASGIApp:
    """Make the plane."""
    return S3(state)


class S3:
    """The plane. Keys may hold any character, so it reads the raw path and has no router."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._memory = Memory()
        state.on_reset.append(self._memory.clear)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        raw_path = scope["raw_path"].decode("ascii")
        try:
            response = await self._answer(request, raw_path)
        except S3Error as error:
            response = error.response(unquote(raw_path), with_body=request.method != "HEAD")
            if request.method in ("PUT", "POST"):
                # The body may not have been read: what follows on this connection would be taken for it.
                response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _answer(self, request: Request, raw_path: str) -> Response:
        signed = verify(
            request.method,
            raw_path,
            request.url.query,
            dict(request.headers),
            access_key=self._state.keys.s3_access_key,
            secret_key=self._state.keys.s3_secret_key,
            now=time.time(),
        )
        inside = raw_path.removeprefix(PREFIX).removeprefix("/")
        bucket, _, key = (unquote(part) for part in inside.partition("/"))
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        name = operation(request.method, bucket, key, query, request.headers)
        if name == "ListBuckets":
            return self._list_buckets()
        if name not in HANDLERS:
            raise not_implemented(name)
        volume = self._volume(bucket, signed)
        call = Call(request, signed, volume, bucket, key, query, self._state.limits, self._memory)
        return await HANDLERS[name](call)

    def _volume(self, bucket: str, signed: Signed) -> Volume:
        folder = self._state.volume_dir(bucket)
        if folder is None:
            raise no_such_bucket(bucket)
        data_center = str(self._state.resources.volumes[bucket]["dataCenter"])
        if data_center not in DATA_CENTERS:
            raise no_such_bucket(f"{bucket} (no S3 endpoint in {data_center})")
        if signed.region.upper() != data_center:
            message = f"The region '{signed.region}' is wrong; expecting '{data_center}'"
            raise S3Error(400, "AuthorizationHeaderMalformed", message)
        return Volume(folder)

    def _list_buckets(self) -> Response:
        buckets: list[Node] = [
            ("Bucket", [("Name", name), ("CreationDate", timestamp(0))])
            for name, volume in self._state.resources.volumes.items()
            if volume["dataCenter"] in DATA_CENTERS
        ]
        owner: Node = ("Owner", [("ID", self._state.keys.s3_access_key), ("DisplayName", "emulated")])
        body = document("ListAllMyBucketsResult", [owner, ("Buckets", buckets)])
        return Response(body, media_type="application/xml")
