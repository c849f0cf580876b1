"""Claims: which machine is sending a file to a volume, so that two of them do not both send it.

The gateway documents neither locks nor conditional writes, so a claim is an
object of its own for each machine, written after its upload was begun, and the
others are looked for afterwards: of two that begin at the same time
at least one sees the other, and the younger yields. Times are the gateway's,
so no two clocks are compared. Where even that fails, for two claims of the
same instant, both send the same bytes and nothing is wrong but the bill.

A claim also says which upload is ours and of which bytes, so a later run finds
its parts, and nobody else's upload is ever dropped.
"""

import json
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError, TransferError
from ops.bucket import Bucket, Part
from ops.crew import pause
from ops.disk import one_writer, read_small, write_whole
from ops.layout import UPLOADS, claims_folder

STALE_S: Final = 15 * 60.0
"""A machine whose upload got no part for so long is taken for dead."""
LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A machine's word that it is sending a file.

    Attributes:
        owner: of the machine, random.
        host: its name, for people.
        upload_id: the gateway's, of its upload.
        of: which bytes these are; equal words, equal parts.
        part_bytes: size of a part.
        resting: its machine has given up for now, in order; somebody else may go ahead.
    """

    owner: str
    host: str
    upload_id: str
    of: str
    part_bytes: int
    resting: bool = False

    @classmethod
    def from_bytes(cls, content: bytes | None) -> "Claim | None":
        """Read a claim; a damaged one counts as none."""
        try:
            value: Any = json.loads(content or b"")
            return cls(
                str(value["owner"]),
                str(value["host"]),
                str(value["upload_id"]),
                str(value["of"]),
                int(value["part_bytes"]),
                bool(value["resting"]),
            )
        except (ValueError, TypeError, KeyError):
            return None


class Outrun(Exception):
    """Another machine is sending the file."""


class Claims:
    """The claims on one volume.

    Args:
        bucket: the volume.
        home: a folder of this machine that says who it is; only one process may send a file from it.
        stale_s: see `STALE_S`.
        look_s: how often to look whether another machine is done.
    """

    def __init__(
        self,
        bucket: Bucket,
        home: Path,
        *,
        stale_s: float = STALE_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._bucket = bucket
        self._home = home
        self._stale_s = stale_s
        self._look_s = look_s

    def take(self, key: str, *, of: str, part_bytes: int, adopt: bool) -> tuple[str, Mapping[int, Part]]:
        """Go on with our upload of these bytes, or begin one.

        Args:
            key: the file.
            of: which bytes will be sent.
            part_bytes: in parts of this size.
            adopt: also go on with what another machine left of the same bytes.

        Returns:
            The upload's id, and the parts that are there.

        Raises:
            Outrun: another machine is at it.
        """
        me = self._owner()
        claims = self._claims(key)
        if any(claim.owner != me and self._alive(key, claim, begun_s) for claim, begun_s in claims):
            raise Outrun
        upload_id, there = "", dict[int, Part]()
        for claim, _ in claims:
            same = (claim.of, claim.part_bytes) == (of, part_bytes) and (adopt or claim.owner == me)
            parts = self._bucket.parts(key, claim.upload_id) if same and not upload_id else None
            if parts is not None:
                upload_id, there = claim.upload_id, dict(parts)
            else:
                self._bucket.abort_upload(key, claim.upload_id)
            if claim.owner != me:
                self._bucket.delete(self._path(key, claim.owner))
        upload_id = upload_id or self._bucket.begin_upload(key)
        try:
            self._write(key, Claim(me, socket.gethostname(), upload_id, of, part_bytes))
        except ComfyformError:
            self._bucket.abort_upload(key, upload_id)  # without a claim nobody would ever find it
            raise
        living = [
            (begun_s, claim.owner)
            for claim, begun_s in self._claims(key)
            if claim.owner == me or self._alive(key, claim, begun_s)
        ]
        if living and min(living)[1] != me:
            self._bucket.abort_upload(key, upload_id)
            self.release(key)
            raise Outrun
        return upload_id, there

    def release(self, key: str) -> None:
        """Take our claim back: the file is there with its record, or will not be."""
        self._bucket.delete(self._path(key, self._owner()))

    def ours(self) -> list[str]:
        """List the files on which we have a claim."""
        ending = f"/{self._owner()}.json"
        return [
            stored.key.removeprefix(f"{UPLOADS}/").removesuffix(ending)
            for stored in self._bucket.list(f"{UPLOADS}/")
            if stored.key.endswith(ending)
        ]

    def drop(self, key: str) -> None:
        """Drop what we have sent of a file that is wanted no more, and our claim on it."""
        me = self._owner()
        for claim, _ in self._claims(key):
            if claim.owner == me:
                self._bucket.abort_upload(key, claim.upload_id)
                self.release(key)

    def rest(self, key: str) -> None:
        """Let others go ahead: we have given up for now. Our upload stays until one of us goes on with it."""
        owner = self._owner()
        for claim, _ in self._claims(key):
            if claim.owner == owner:
                self._write(key, replace(claim, resting=True))

    def rival(self, key: str) -> Claim | None:
        """Find another machine that is sending the file."""
        me = self._owner()
        for claim, begun_s in self._claims(key):
            if claim.owner != me and self._alive(key, claim, begun_s):
                return claim
        return None

    def wait_for_rival(self, key: str, on_bytes: Callable[[str, int], object], *, patience_s: float) -> None:
        """Wait while another machine sends the file.

        Args:
            key: the file.
            on_bytes: told that machine's name and the bytes that it has sent.
            patience_s: for how long.

        Raises:
            TransferError: it is still at it.
        """
        waited = 0.0
        while (rival := self.rival(key)) is not None:
            if waited >= patience_s:
                raise TransferError(
                    f"{key} is still being sent to volume {self._bucket.name} by {rival.host}.",
                    path=key,
                    hint="Wait until it is done, and run the command again.",
                )
            parts = self._bucket.parts(key, rival.upload_id) or {}
            on_bytes(rival.host, sum(part.size_bytes for part in parts.values()))
            pause(self._look_s)
            waited += self._look_s

    def _claims(self, key: str) -> list[tuple[Claim, float]]:
        """Read all claims on a file, and when they were made."""
        found = []
        for stored in self._bucket.list(f"{claims_folder(key)}/"):
            claim = Claim.from_bytes(self._bucket.read(stored.key))
            if claim is not None:
                found.append((claim, stored.modified_s))
        return found

    def _alive(self, key: str, claim: Claim, begun_s: float) -> bool:
        """Tell whether somebody is behind a claim: it is young, or its last part is."""
        if claim.resting:
            return False
        parts = self._bucket.parts(key, claim.upload_id) or {}
        latest = max([begun_s, *(part.modified_s for part in parts.values())])
        return self._bucket.now() - latest < self._stale_s

    def _write(self, key: str, claim: Claim) -> None:
        self._bucket.write(self._path(key, claim.owner), json.dumps(asdict(claim)).encode())

    @staticmethod
    def _path(key: str, owner: str) -> str:
        return f"{claims_folder(key)}/{owner}.json"

    def _owner(self) -> str:
        """Give this machine's name among claims, made once."""
        name = self._home / "owner"
        if read_small(name) is None:
            with one_writer(name.with_suffix(".lock")):
                if read_small(name) is None:
                    write_whole(name, secrets.token_hex(8).encode())
        return (read_small(name) or b"").decode("ascii", "replace")
