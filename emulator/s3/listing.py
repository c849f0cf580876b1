"""ListObjects and ListObjectsV2: prefixes, delimiters, pages. Pure but for the objects it is given."""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from emulator.numbers import whole_number
from emulator.s3.errors import Node, S3Error
from emulator.s3.volume import Stored

MOST_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """One page: objects, folders as the delimiter makes them, and where the next page begins."""

    objects: list[Stored] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_after: str | None = None
    """The last key or prefix of this page, when there is more."""


def page(objects: list[Stored], prefix: str, delimiter: str, after: str, most: int) -> Page:
    """Cut a page out of sorted objects; keys up to and with `after` are left out."""
    remaining: list[Stored] = []
    prefixes: list[str] = []
    last = ""
    for one in objects:
        name = one.key
        cut = one.key.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            name = one.key[: cut + len(delimiter)]
        if os.fsencode(name) <= os.fsencode(after) or (cut >= 0 and prefixes[-1:] == [name]):
            continue
        if len(remaining) + len(prefixes) >= most:
            return Page(remaining, prefixes, last or None)
        last = name
        if cut >= 0:
            prefixes.append(name)
        else:
            remaining.append(one)
    return Page(remaining, prefixes)


def count(text: str) -> int:
    """Read max-keys.

    Raises:
        S3Error: it is no number.
    """
    number = whole_number(text)
    if number is None:
        raise S3Error(400, "InvalidArgument", f"max-keys must be a number, not {text!r}")
    return min(number, MOST_KEYS)


def render(
    bucket: str, query: Mapping[str, str], found: Page, etags: list[str], repeat: str | None
) -> list[Node]:
    """Render a page as the children of `ListBucketResult`.

    Args:
        etags: of the page's objects.
        repeat: a token to give out again instead of the next one, as RunPod has been seen to do.
    """
    v2 = query.get("list-type") == "2"
    encode = (lambda key: quote(os.fsencode(key), safe="/")) if query.get("encoding-type") == "url" else str
    nodes: list[Node] = [("Name", bucket), ("Prefix", encode(query.get("prefix", "")))]
    nodes += [(name, encode(query[low])) for name, low in _echoed(v2=v2) if low in query]
    nodes.append(("MaxKeys", count(query.get("max-keys", str(MOST_KEYS)))))
    nodes.append(("IsTruncated", found.next_after is not None))
    if v2:
        nodes.append(("KeyCount", len(found.objects) + len(found.prefixes)))
    if found.next_after is not None:
        following = token(found.next_after) if v2 else encode(found.next_after)
        nodes.append(("NextContinuationToken" if v2 else "NextMarker", repeat or following))
    for one, etag in zip(found.objects, etags, strict=True):
        fields: list[Node] = [
            ("Key", encode(one.key)),
            ("LastModified", timestamp(one.modified)),
            ("ETag", f'"{etag}"'),
            ("Size", one.size),
            ("StorageClass", "STANDARD"),
        ]
        nodes.append(("Contents", fields))
    nodes += [("CommonPrefixes", [("Prefix", encode(prefix))]) for prefix in found.prefixes]
    return nodes


def _echoed(*, v2: bool) -> list[tuple[str, str]]:
    names = [("Delimiter", "delimiter"), ("EncodingType", "encoding-type")]
    return names + (
        [("ContinuationToken", "continuation-token"), ("StartAfter", "start-after")]
        if v2
        else [("Marker", "marker")]
    )


def token(key: str) -> str:
    """Make a continuation token of a key."""
    return base64.urlsafe_b64encode(os.fsencode(key)).decode()


def after(query: Mapping[str, str]) -> str:
    """Return the key that a page begins after.

    Raises:
        S3Error: the continuation token is none of ours.
    """
    if "continuation-token" in query:
        try:
            return os.fsdecode(base64.urlsafe_b64decode(query["continuation-token"]))
        except ValueError:
            raise S3Error(400, "InvalidArgument", "The continuation token provided is incorrect") from None
    return query.get("start-after", query.get("marker", ""))


def timestamp(seconds: float) -> str:
    """Write a time as S3's XML does."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
