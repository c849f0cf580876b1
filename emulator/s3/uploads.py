"""The six operations of multipart uploads, over `multipart`."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from emulator.numbers import whole_number
from emulator.s3 import multipart
from emulator.s3.body import receive
from emulator.s3.call import Call
from emulator.s3.errors import Node, S3Error, document
from emulator.s3.listing import timestamp
from emulator.s3.objects import check_room, echoed_checksums

MOST_BODY_BYTES = 4 << 20
"""A list of 10,000 parts with checksums is well under it."""


def _xml(root: str, nodes: list[Node]) -> Response:
    return Response(document(root, nodes), media_type="application/xml")


async def create(call: Call) -> Response:
    """Begin an upload."""
    upload = await asyncio.to_thread(multipart.create, call.volume, call.key)
    nodes: list[Node] = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.id)]
    return _xml("InitiateMultipartUploadResult", nodes)


def _upload(call: Call) -> multipart.Upload:
    return multipart.find(call.volume, call.query["uploadId"], call.key)


async def upload_part(call: Call) -> Response:
    """Take one part."""
    upload = _upload(call)
    number = multipart.check_number(call.query.get("partNumber", ""))
    aside = call.volume.aside()
    try:
        check_room(call)
        received = await receive(call.request, call.signed, call.limits.s3_part_bytes, aside)
        multipart.add(upload, number, aside, received.md5)
    finally:
        aside.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{received.md5}"', **echoed_checksums(call)})


async def complete(call: Call) -> Response:
    """Put the parts together."""
    upload = _upload(call)
    body = await call.request.body()
    if len(body) > MOST_BODY_BYTES:
        raise S3Error(413, "EntityTooLarge", "The list of parts is too long")
    stored = await asyncio.to_thread(multipart.complete, call.volume, upload, body)
    nodes: list[Node] = [
        ("Location", str(call.request.url.replace(query=""))),
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("ETag", f'"{stored.etag}"'),
    ]
    return _xml("CompleteMultipartUploadResult", nodes)


async def abort(call: Call) -> Response:
    """Forget an upload."""
    await asyncio.to_thread(multipart.abort, _upload(call))
    return Response(status_code=204)


async def list_parts(call: Call) -> Response:
    """List the parts of an upload that have arrived."""
    upload = _upload(call)
    after, most = (
        whole_number(call.query.get(name, default))
        for name, default in (("part-number-marker", "0"), ("max-parts", "1000"))
    )
    if after is None or most is None:
        raise S3Error(400, "InvalidArgument", "part-number-marker and max-parts must be numbers")
    parts = [part for part in await asyncio.to_thread(upload.parts) if part.number > after]
    nodes: list[Node] = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.id)]
    nodes += [("PartNumberMarker", after), ("MaxParts", most), ("IsTruncated", len(parts) > most)]
    if len(parts) > most:
        nodes.append(("NextPartNumberMarker", parts[most - 1].number))
    for part in parts[:most]:
        fields: list[Node] = [
            ("PartNumber", part.number),
            ("LastModified", timestamp(part.modified)),
            ("ETag", f'"{part.etag}"'),
            ("Size", part.size),
        ]
        nodes.append(("Part", fields))
    return _xml("ListPartsResult", nodes)


async def list_uploads(call: Call) -> Response:
    """List the uploads under way."""
    prefix = call.query.get("prefix", "")
    uploads = [
        one for one in await asyncio.to_thread(multipart.every, call.volume) if one.key.startswith(prefix)
    ]
    nodes: list[Node] = [("Bucket", call.bucket), ("Prefix", prefix), ("IsTruncated", False)]
    for upload in uploads:
        fields: list[Node] = [
            ("Key", upload.key),
            ("UploadId", upload.id),
            ("StorageClass", "STANDARD"),
            ("Initiated", timestamp(upload.started)),
        ]
        nodes.append(("Upload", fields))
    return _xml("ListMultipartUploadsResult", nodes)
