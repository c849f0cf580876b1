"""Send a file of this machine to a volume, so that it appears complete or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.bucket import Bucket
from ops.claims import Claims
from ops.parts import MOST_PARTS, PART_BYTES, Parts, Shape, check_arrival


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file to be sent: where it is, where it goes, and what its bytes are."""

    file: Path
    key: str
    size_bytes: int
    sha256: str


def upload(
    parcel: Parcel,
    bucket: Bucket,
    claims: Claims,
    *,
    on_bytes: Callable[[int, int], object],
    part_bytes: int = PART_BYTES,
) -> int:
    """Send a file, going on where an earlier run stopped.

    Args:
        parcel: what to send.
        bucket: where to.
        claims: on that volume; the one made here is the caller's to release.
        on_bytes: told the bytes that are there, and all.
        part_bytes: size of a part; the last may be shorter.

    Returns:
        Bytes sent just now.

    Raises:
        Outrun: another machine is sending it.
        TransferError: it arrived with another size, or not at all.
        ApiError: the gateway refuses.
    """
    shape = Shape(parcel.size_bytes, max(part_bytes, -(-parcel.size_bytes // MOST_PARTS)))
    if shape.count <= 1:
        with parcel.file.open("rb", buffering=0) as file:
            bucket.write(parcel.key, file)
        check_arrival(parcel.key, parcel.size_bytes, bucket)
        sent = parcel.size_bytes
    else:
        upload_id, there = claims.take(
            parcel.key, of=f"file {parcel.sha256}", part_bytes=shape.part_bytes, adopt=True
        )
        parts = Parts(
            parcel.key,
            bucket,
            upload_id,
            shape,
            there,
            file=parcel.file,
            offset=lambda number: (number - 1) * shape.part_bytes,
            on_bytes=on_bytes,
        )
        with parts.sending():
            for number in range(1, shape.count + 1):
                parts.send(number)
            parts.finish()
        sent = parts.sent_bytes
    on_bytes(parcel.size_bytes, parcel.size_bytes)
    return sent
