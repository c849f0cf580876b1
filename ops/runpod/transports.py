"""The ways of models to a volume, by name, and where each one can be taken.

Apart from what goes these ways: a Pulumi program names a transport on every `up` and moves nothing.
"""

from typing import Final, Literal

Transport = Literal["job", "s3"]
"""``job``: the ops endpoint's worker does the work; ``s3``: this machine does, through the gateway."""

# Source: docs.runpod.io, serverless/storage/s3-api, read 2026-08-20.
S3_DATA_CENTERS: Final = frozenset(
    {
        "EU-CZ-1", "EU-RO-1", "EUR-IS-1", "EUR-NO-1", "US-CA-2", "US-GA-2", "US-IL-1", "US-KS-2",
        "US-MD-1", "US-MO-1", "US-MO-2", "US-NC-1", "US-NC-2", "US-NE-1", "US-WA-1",
    }
)  # fmt: skip
