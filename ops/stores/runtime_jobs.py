"""The workers' software on a network volume: code archives and Python environments, through the ops endpoint.

A worker that has no code yet runs a bootstrap, which takes the job ``install`` and nothing else. The jobs and
the form of their answers are in ``docs/runtime-volume.md``.
"""

import base64
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from backend.errors import ComfyformError, JobFailed
from backend.flow.http_driver import Http
from backend.flow.retry import Retry, call_again
from backend.runpod.job_api import JobPlane
from ops.stores.worker_call import OnEvent, OnState, call_worker, not_understood

LOOK_DEADLINE_S: Final = 900.0
"""For an installation or a listing: a cold start of the ops endpoint, and seconds of work."""
BUILD_DEADLINE_S: Final = 3 * 3600.0
"""For an environment: gigabytes of packages from an index that may be slow, compiled and packed."""
OTHER_VERSION: Final = "another version:"
"""How the error begins of a worker of an earlier release, which still took a job after an update."""
NO_RUNTIME: Final = "the runtime is not on the volume"
"""In the error of a worker whose code is not on the volume, for any job but ``install``."""
_OTHER_VERSIONS: Final = Retry(attempts=25, first_s=5.0, most_s=5.0, jitter=lambda: 1.0)


@dataclass(frozen=True, slots=True)
class RuntimeListing:
    """What is on the volume.

    Attributes:
        code: sha256 of each code archive.
        environments: record of each environment: key, kind, sha256, size, python, platform, packages, …
        damaged: archives whose bytes are not what their name or record says, by path or hash.
    """

    code: tuple[str, ...] = ()
    environments: tuple[Mapping[str, Any], ...] = ()
    damaged: tuple[str, ...] = ()

    @classmethod
    def parse(cls, output: Mapping[str, Any], action: str = "runtime") -> "RuntimeListing":
        """Read a worker's answer.

        Raises:
            TransferError: it has another form.
        """
        found = output.get("runtime")
        if not isinstance(found, Mapping):
            raise not_understood(action)
        lists = {name: found.get(name) or [] for name in ("code", "environments", "damaged")}
        if not all(isinstance(each, list) for each in lists.values()) or not all(
            isinstance(record, Mapping) for record in lists["environments"]
        ):
            raise not_understood(action)
        return cls(
            tuple(map(str, lists["code"])), tuple(lists["environments"]), tuple(map(str, lists["damaged"]))
        )

    def environment(self, key: str) -> Mapping[str, Any] | None:
        """Return the record of an environment."""
        return next((each for each in self.environments if each.get("key") == key), None)


@dataclass(frozen=True, slots=True)
class RuntimeJobs:
    """The runtime behind an ops endpoint.

    Attributes:
        http: the driver.
        plane: the job plane.
        endpoint_id: the ops endpoint.
        wait: waits that many seconds, between two attempts.
        on_state: gets the states of the jobs.
    """

    http: Http
    plane: JobPlane
    endpoint_id: str
    wait: Callable[[float], object] = field(default=lambda seconds: threading.Event().wait(seconds))
    on_state: OnState = lambda _event: None

    def install(self, sha256: str, archive: bytes) -> None:
        """Put a code archive onto the volume; one that is there is kept.

        Raises:
            JobError: the worker could not write it.
        """
        text = base64.b64encode(archive).decode()
        output = self._call({"action": "install", "sha256": sha256, "archive": text}, LOOK_DEADLINE_S)
        if output.get("installed") != sha256:
            raise not_understood("install")

    def build(
        self, kind: str, key: str, base: str, *, on_event: OnEvent = lambda _event: None
    ) -> Mapping[str, Any]:
        """Have an environment built on the ops worker; one that is there is kept.

        Args:
            kind: ``ops`` or ``generation``.
            key: see ``ops.runtime.environment_key``.
            base: the image that it is built for, a part of the key.
            on_event: gets the progress.

        Returns:
            Its record, with ``sha256`` and ``size`` of the archive.

        Raises:
            JobError: the build failed; the message is the builder's.
        """
        job = {"action": "build_environment", "kind": kind, "key": key, "base": base}
        record = self._call(job, BUILD_DEADLINE_S, on_event).get("environment")
        if not isinstance(record, Mapping) or record.get("key") != key or not record.get("sha256"):
            raise not_understood("build_environment")
        return record

    def listing(self) -> RuntimeListing:
        """List what is on the volume; nothing, where the endpoint's own code is not there.

        Raises:
            JobError: the worker could not list it.
        """
        try:
            return RuntimeListing.parse(self._call({"action": "runtime"}, LOOK_DEADLINE_S))
        except JobFailed as error:
            if NO_RUNTIME in error.message:
                return RuntimeListing()
            raise

    def prune(self, keep: Collection[str]) -> tuple[str, ...]:
        """Delete all but these code archives (by sha256) and environments (by key).

        Returns:
            The names of what was deleted.
        """
        output = self._call({"action": "runtime_prune", "keep": sorted(keep)}, LOOK_DEADLINE_S)
        removed = output.get("removed")
        if not isinstance(removed, list):
            raise not_understood("runtime_prune")
        return tuple(map(str, removed))

    def _call(
        self, job: Mapping[str, Any], deadline_s: float, on_event: OnEvent = lambda _event: None
    ) -> Mapping[str, Any]:
        """Run a job; again, where a worker of an earlier release took it."""
        once = partial(
            call_worker,
            self.http,
            self.plane,
            self.endpoint_id,
            job,
            deadline_s=deadline_s,
            on_event=on_event,
            on_state=self.on_state,
        )
        return call_again(
            once, _OTHER_VERSIONS, wait=self.wait, what=f"Job {job['action']}", when=_is_of_another_version
        )


def _is_of_another_version(error: ComfyformError) -> bool:
    return isinstance(error, JobFailed) and OTHER_VERSION in error.message
