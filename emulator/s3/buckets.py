"""HeadBucket and the listings, as slow and as odd as the knobs say."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from emulator.s3 import listing
from emulator.s3.call import Call
from emulator.s3.errors import document


async def head(call: Call) -> Response:
    """Say that the bucket is there."""
    return Response(headers={"x-amz-bucket-region": call.signed.region})


async def list_objects(call: Call) -> Response:
    """List one page of objects. ETags that nobody knows yet are computed now, and the caller waits."""
    if call.bucket not in call.memory.listed:
        call.memory.listed.add(call.bucket)
        await asyncio.sleep(call.limits.s3_first_listing_s)
    query = call.query
    most = listing.count(query.get("max-keys", str(listing.MOST_KEYS)))
    after = listing.after(query)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")

    def read() -> tuple[listing.Page, list[str]]:
        found = listing.page(call.volume.objects(prefix), prefix, delimiter, after, most)
        return found, [one.etag for one in found.objects]

    found, etags = await asyncio.to_thread(read)
    repeat = query.get("continuation-token") if call.limits.s3_repeat_token else None
    nodes = listing.render(call.bucket, query, found, etags, repeat)
    return Response(document("ListBucketResult", nodes), media_type="application/xml")
