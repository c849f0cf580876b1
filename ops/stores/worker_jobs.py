"""Model files on a network volume, through the worker of the ops endpoint: the bytes never come here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from backend.contract import ProvisionedFile, ProvisionProgress, VerifiedFile, WantedFile
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from ops.models.inventory import Inventory
from ops.models.source_url import LocalSource, parse
from ops.sources.origins import only_there
from ops.stores.model_store import OnProgress, Removal, ignore_progress
from ops.stores.worker_call import OnState, call_worker, not_understood

LIST_DEADLINE_S: Final = 900.0
"""For a look at the volume: a cold start of the ops endpoint and the listing."""
MOVE_DEADLINE_S: Final = 6 * 3600.0
"""For work on the bytes: fetching or hashing tens of gigabytes."""


class JobStore:
    """Model files behind an endpoint whose workers run the model actions of ``backend.contract``.

    Args:
        http: the driver.
        plane: the job plane.
        endpoint_id: the ops endpoint.
        on_state: told, from any thread, how a job stands; see ``backend.runpod.job_api``.
    """

    removes_together = True

    def __init__(
        self, http: Http, plane: JobPlane, endpoint_id: str, *, on_state: OnState = lambda _event: None
    ) -> None:
        self._http = http
        self._plane = plane
        self._endpoint_id = endpoint_id
        self._on_state = on_state

    def inventory(self, *, hash: bool = False, on_progress: OnProgress = ignore_progress) -> Inventory:  # noqa: A002
        """List every model file; see `ops.stores.model_store.ModelStore`."""
        deadline_s = MOVE_DEADLINE_S if hash else LIST_DEADLINE_S
        return Inventory.from_json(self._call({"action": "inventory", "hash": hash}, deadline_s, on_progress))

    def provision(
        self, wanted: Sequence[WantedFile], *, on_progress: OnProgress = ignore_progress
    ) -> list[ProvisionedFile]:
        """Make these files be there; see `ops.stores.model_store.ModelStore`. All of them are one job."""
        if len(wanted) == 1 and isinstance(source := parse(wanted[0]["source"]), LocalSource):
            raise only_there(source)  # before a job is paid for
        output = self._call({"action": "provision", "models": list(wanted)}, MOVE_DEADLINE_S, on_progress)
        return [cast("ProvisionedFile", entry) for entry in _entries(output, "models", len(wanted))]

    def verify(
        self,
        wanted: Sequence[WantedFile],
        *,
        deep: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> list[VerifiedFile]:
        """Compare what is there with what is wanted; see `ops.stores.model_store.ModelStore`."""
        deadline_s = MOVE_DEADLINE_S if deep else LIST_DEADLINE_S
        job = {"action": "verify", "models": list(wanted), "deep": deep}
        output = self._call(job, deadline_s, on_progress)
        return [cast("VerifiedFile", entry) for entry in _entries(output, "models", len(wanted))]

    def remove(self, paths: Sequence[str]) -> Removal:
        """Delete these files and their records; see `ops.stores.model_store.ModelStore`."""
        output = self._call({"action": "remove", "paths": list(paths)}, LIST_DEADLINE_S, ignore_progress)
        return Removal(
            tuple(str(path) for path in output.get("removed") or ()),
            tuple(str(path) for path in output.get("missing") or ()),
        )

    def _call(self, job: Mapping[str, Any], deadline_s: float, on_progress: OnProgress) -> Mapping[str, Any]:
        """Run one job and return its output."""

        def tell(event: Mapping[str, Any]) -> None:
            if event.get("progress") == "provision":
                on_progress(cast("ProvisionProgress", event))

        return call_worker(
            self._http,
            self._plane,
            self._endpoint_id,
            job,
            deadline_s=deadline_s,
            on_event=tell,
            on_state=self._on_state,
        )


def _entries(output: Mapping[str, Any], key: str, count: int) -> list[dict[str, Any]]:
    """Return a list of the answer, which must have an entry for each file that was asked for."""
    entries = output.get(key)
    if (
        not isinstance(entries, list)
        or len(entries) != count
        or not all(isinstance(e, dict) for e in entries)
    ):
        raise not_understood(str(output.get("action", key)))
    return entries
