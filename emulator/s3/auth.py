"""AWS Signature Version 4, the server's side: compute what the client should have signed, and compare.

Source: AWS's published description of Signature Version 4, headers and chunked uploads.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from emulator.s3.errors import S3Error, not_implemented

ALGORITHM = "AWS4-HMAC-SHA256"
MOST_SKEW_S = 3600
"""RunPod takes clocks that are up to an hour off."""
CREDENTIAL = re.compile(
    rf"{ALGORITHM}\s+Credential=(?P<key>[^/]+)/(?P<date>\d{{8}})/(?P<region>[^/]+)/s3/aws4_request,"
    r"\s*SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})$"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature tells.

    Attributes:
        region: the region that the client named, as it wrote it.
        payload: the x-amz-content-sha256 header: a hash, or how the body is sent.
        key: signs the chunks of a chunked body.
        scope, time, seed: what chunk signatures start from.
    """

    region: str
    payload: str
    key: bytes
    scope: str
    time: str
    seed: str

    def chunk_signature(self, previous: str, chunk: bytes) -> str:
        """Compute the signature that a chunk must carry, given the one before it."""
        empty = hashlib.sha256(b"").hexdigest()
        lines = ("AWS4-HMAC-SHA256-PAYLOAD", self.time, self.scope, previous, empty, _sha256(chunk))
        return hmac.new(self.key, "\n".join(lines).encode(), "sha256").hexdigest()


def verify(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret_key: str,
    now: float,
) -> Signed:
    """Check who sent a request, and that nothing signed was changed on the way.

    Args:
        raw_path: as it was sent, percent-encoding and all.
        raw_query: as it was sent, without the question mark.
        headers: by lower-case name.
        now: seconds since the epoch.

    Raises:
        S3Error: 403 for a missing, wrong or stale signature; 501 for a presigned URL.
    """
    if "X-Amz-Signature=" in raw_query or "Signature=" in raw_query:
        raise not_implemented("A presigned URL")
    text = headers.get("authorization")
    if text is None:
        raise S3Error(403, "AccessDenied", "Access Denied: the request is not signed")
    match = CREDENTIAL.match(text)
    if match is None:
        raise S3Error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed")
    if match["key"] != access_key:
        raise S3Error(
            403, "InvalidAccessKeyId", "The access key id you provided does not exist in our records"
        )
    when = headers.get("x-amz-date", "")
    _check_time(when, now)
    payload = headers.get("x-amz-content-sha256", "")
    scope = f"{match['date']}/{match['region']}/s3/aws4_request"
    signed_names = match["headers"].split(";")
    canonical = "\n".join(
        [
            method,
            raw_path,
            canonical_query(raw_query),
            "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed_names),
            match["headers"],
            payload,
        ]
    )
    to_sign = "\n".join([ALGORITHM, when, scope, _sha256(canonical.encode())])
    key = signing_key(secret_key, match["date"], match["region"])
    required = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    if not hmac.compare_digest(required, match["signature"]):
        message = "The request signature we calculated does not match the signature you provided"
        raise S3Error(403, "SignatureDoesNotMatch", message)
    return Signed(match["region"], payload, key, scope, when, required)


def _check_time(when: str, now: float) -> None:
    try:
        parsed = dt.datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        raise S3Error(403, "AccessDenied", "AWS authentication requires a valid x-amz-date header") from None
    if abs(parsed.timestamp() - now) > MOST_SKEW_S:
        message = "The difference between the request time and the current time is too large"
        raise S3Error(403, "RequestTimeTooSkewed", message)


def canonical_query(raw_query: str) -> str:
    """Sort and re-encode a query as it is signed."""
    pairs = [pair.partition("=") for pair in raw_query.split("&") if pair]
    encoded = sorted(
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, _, value in pairs
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def signing_key(secret_key: str, date: str, region: str) -> bytes:
    """Derive the key of a day and a region."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
