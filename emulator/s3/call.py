"""One call of the S3 API: which operation it is, and what its handler needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from emulator.control.limits import Limits
from emulator.s3.auth import Signed
from emulator.s3.volume import Volume


def words(text: str) -> frozenset[str]:
    """Write a long set of names as one text."""
    return frozenset(text.split())


SUBRESOURCES = words(
    """accelerate acl analytics attributes cors encryption intelligent-tiering inventory legal-hold lifecycle
    location logging metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock
    replication requestPayment restore retention select tagging torrent versioning versions website"""
)
"""Query names that make another operation of a request; RunPod has none of them."""


@dataclass(slots=True)
class Memory:
    """What the plane remembers between calls."""

    listed: set[str] = field(default_factory=set)
    """Buckets that were listed before."""
    tokens: dict[str, str] = field(default_factory=dict)
    """The last continuation token that a bucket's listing gave out."""

    def clear(self) -> None:
        """Forget it."""
        self.listed.clear()
        self.tokens.clear()


@dataclass(frozen=True, slots=True)
class Call:
    """One call on one bucket. `key` is empty for the bucket itself."""

    request: Request
    signed: Signed
    volume: Volume
    bucket: str
    key: str
    query: dict[str, str]
    limits: Limits
    memory: Memory


def operation(
    method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Name the operation that a request is, also one that RunPod does not have."""
    if not bucket:
        return "ListBuckets" if method == "GET" else f"{method} on the service"
    unsupported = sorted(SUBRESOURCES & set(query))
    if unsupported:
        verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete"}.get(method, method.title())
        words = "".join(part.title() for part in unsupported[0].split("-"))
        return f"{verb}{'Object' if key else 'Bucket'}{words}"
    if not key:
        return _on_bucket(method, query)
    return _on_object(method, query, headers)


def _on_bucket(method: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        return "ListMultipartUploads" if "uploads" in query else "ListObjects"
    if method == "POST":
        return "DeleteObjects" if "delete" in query else "PostObject"
    return {"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(method, method)


def _on_object(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    upload = "uploadId" in query
    copies = "x-amz-copy-source" in headers
    if method == "PUT":
        if upload:
            return "UploadPartCopy" if copies else "UploadPart"
        return "CopyObject" if copies else "PutObject"
    if method == "POST":
        return (
            "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload" if upload else method
        )
    if method == "DELETE":
        return "AbortMultipartUpload" if upload else "DeleteObject"
    return {"GET": "ListParts" if upload else "GetObject", "HEAD": "HeadObject"}.get(method, method)
