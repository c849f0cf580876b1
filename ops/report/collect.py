"""Find out what a report says. What cannot be found out is said in the report; nothing here fails it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from backend.errors import ComfyformError, MissingSetting
from backend.flow.http_driver import Http
from backend.jobs.journal import Entry, Journal
from backend.runpod.job_api import JobPlane
from backend.settings import Settings
from backend.validation.printable import shown, without_secrets
from backend.verbs.result import GeneratedFile, GenerationResult
from ops.files.amounts import amount
from ops.models.categories import PICKLE_NOTE, may_hold_pickle
from ops.models.inventory import Inventory
from ops.registry.load import load
from ops.report.model import Cost, Job, JobFile, Model, Problem, Report, Resource, Section
from ops.runpod import catalog
from ops.runpod.api import ENDPOINTS, NETWORK_VOLUMES, Live, RunPodApi
from ops.runpod.pricing import endpoint_workers, estimate
from ops.runpod.specs import EndpointSpec, NetworkVolumeSpec
from ops.stores.remote_volume import open_remote
from ops.sync.plan import Action, compare

JOBS_SHOWN: Final = 12

_STANDINGS: Final = {
    "right": "in place",
    "absent": "missing",
    "wrong_size": "wrong",
    "wrong_hash": "wrong",
    "unverified": "unverified",
    "extra": "extra",
}
_STATES: Final = {
    "SUBMITTING": "waiting",
    "IN_QUEUE": "waiting",
    "IN_PROGRESS": "running",
    "COMPLETED": "succeeded",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
    "UNKNOWN": "unknown",
}


@dataclass(slots=True)
class _Problems:
    """What could not be found out."""

    found: list[Problem] = field(default_factory=list)

    @contextlib.contextmanager
    def noting(self, section: Section, what: str = "") -> Iterator[None]:
        """Go on after an error within the ``with``, and remember it.

        Args:
            section: what lacks something then.
            what: of the section, where the error does not say it.
        """
        try:
            yield
        except ComfyformError as error:
            self.found.append(
                Problem(
                    section=section,
                    sentence=f"{what}: {error}" if what else str(error),
                    exit_code=error.exit_code,
                )
            )


@dataclass(slots=True)
class _Deployment:
    """What RunPod says of the stack, as far as it could be asked."""

    volume: Live[NetworkVolumeSpec] | None = None
    endpoints: list[Live[EndpointSpec]] = field(default_factory=list)
    workers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Endpoint id → what the job plane counts there."""
    prices: catalog.Catalog | None = None
    remote: Inventory | None = None

    def resources(self) -> tuple[Resource, ...]:
        """Return what is deployed."""
        volumes = [_volume(self.volume, self.remote)] if self.volume is not None else []
        return (*volumes, *(_endpoint(live, self.workers.get(live.id, {})) for live in self.endpoints))

    def costs(self) -> tuple[Cost, ...]:
        """Return what it costs, where volume and prices are known."""
        if self.prices is None or self.volume is None:
            return ()
        return _costs(self.prices, self.volume, self.endpoints)


def gather(
    settings: Settings,
    *,
    title: str,
    registry: Path,
    transport: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Find out all that a report says.

    Args:
        settings: they name the stack and this machine's folders.
        title: of the page.
        registry: the models wanted.
        transport: how to look at the volume, ``job`` or ``s3``.
        now: tells the time.
    """
    problems = _Problems()
    deployment = _Deployment()
    meant = _means_runpod(settings)
    if meant:
        with problems.noting("stack"):
            _look(settings, transport, deployment, problems)
    models: tuple[Model, ...] = ()
    with problems.noting("models"):
        models = _models(registry, deployment.remote)
    return Report(
        title=title,
        made_at=now(),
        deployed=meant,
        resources=deployment.resources(),
        models=models,
        jobs=tuple(_job(entry) for entry in Journal.from_settings(settings).entries(JOBS_SHOWN)),
        costs=deployment.costs(),
        problems=tuple(problems.found),
    )


def _means_runpod(settings: Settings) -> bool:
    """Tell whether a report without a stack would lack something: any setting speaks of RunPod."""
    named = (settings.runpod_api_key, settings.runpod_volume_id, settings.runpod_endpoint_id)
    return settings.comfy_backend == "runpod" or any(value is not None for value in named)


def _look(settings: Settings, transport: str, deployment: _Deployment, problems: _Problems) -> None:
    """Ask RunPod for everything that it knows of the stack.

    Raises:
        MissingSetting: no key, or nothing that says which stack; then nothing could be asked.
    """
    key = settings.need("runpod_api_key", "RunPod tells nothing without it")
    ids = [id_ for id_ in (settings.runpod_endpoint_id, settings.runpod_ops_endpoint_id) if id_]
    if not ids and not settings.runpod_volume_id:
        raise MissingSetting(
            "RUNPOD_ENDPOINT_ID", "it says which stack this is", hint='Run: eval "$(./inv env)"'
        )
    with Http() as http:
        api = RunPodApi(http, settings.runpod_rest_url, key)
        plane = JobPlane(settings.runpod_jobs_url, key)
        if settings.runpod_volume_id:
            with problems.noting("stack", "The network volume"):
                deployment.volume = api.get(NETWORK_VOLUMES, settings.runpod_volume_id)
        for id_ in ids:
            with problems.noting("stack", f"Endpoint {id_}"):
                deployment.endpoints.append(api.get(ENDPOINTS, id_))
        for endpoint in deployment.endpoints:
            with problems.noting("stack", f"The workers of {endpoint.name}"):
                deployment.workers[endpoint.id] = http.run(plane.health(endpoint.id))
        with problems.noting("models", "The models on the volume"), open_remote(settings, transport) as there:
            deployment.remote = there.store.inventory()
        with problems.noting("costs", "The prices"):
            deployment.prices = catalog.fetch(api)


def _volume(live: Live[NetworkVolumeSpec], remote: Inventory | None) -> Resource:
    note = f"{live.values['data_center']} · {live.values['size_gb']} GB"
    if remote is not None:
        note += f" · {amount(remote.used_bytes)} of models"
    return Resource(kind="Network volume", name=live.name, identifier=live.id, note=note)


def _endpoint(live: Live[EndpointSpec], counts: Mapping[str, Any]) -> Resource:
    values = live.values
    workers: Mapping[str, int] = counts.get("workers") or {}
    jobs: Mapping[str, int] = counts.get("jobs") or {}
    if values.get("workers_max") == 0:
        state = "paused"
    elif workers.get("running"):
        state = "running"
    elif workers.get("unhealthy") and not workers.get("idle"):
        state = "unhealthy"
    else:
        state = "ready" if counts else ""
    hardware = ", ".join(values.get("gpu_pools") or ()) or ", ".join(
        cpu["id"] for cpu in values.get("cpu") or ()
    )
    note = f"{hardware} · {values.get('workers_min', 0)} to {values.get('workers_max', 0)} workers"
    if counts:
        waiting, done = jobs.get("inQueue", 0), jobs.get("completed", 0)
        note += f" · {waiting} jobs waiting, {done} done"
    kind = "GPU endpoint" if values.get("gpu_pools") else "CPU endpoint"
    return Resource(kind=kind, name=live.name, identifier=live.id, state=state, note=note)


def _models(registry: Path, remote: Inventory | None) -> tuple[Model, ...]:
    registry_models = load(registry)
    used_by = {model.name: model.used_by for model in registry_models.models}

    def model(action: Action) -> Model:
        # Where the volume was not looked at, the plan speaks of an empty one.
        unknown = remote is None
        reason = "the volume was not looked at" if unknown else action.reason
        return Model(
            name=action.model or action.path.rpartition("/")[2],
            path=action.path,
            size_bytes=action.size_bytes,
            state="unknown" if unknown else _STANDINGS[action.there],
            reason=f"{reason}; {PICKLE_NOTE}" if may_hold_pickle(action.path) else reason,
            used_by=used_by.get(action.model, ()),
        )

    plan = compare(registry_models, remote or Inventory())
    return tuple(model(action) for action in plan.actions)


def _job(entry: Entry) -> Job:
    started = _time(entry.submitted_at)
    result = GenerationResult.from_json(entry.result or {})
    params = entry.params
    summary = next((str(params[name]) for name in ("prompt", "description", "text") if name in params), "")
    if not summary and "audio" in params:
        summary = f"{_name(params.get('portrait_image'))} says {_name(params['audio'])}"
    state = _STATES.get(entry.state, "failed")
    return Job(
        identifier=entry.job_id or entry.key,
        verb=entry.verb,
        backend=entry.backend,
        started_at=started,
        state=state,
        summary=without_secrets(summary),
        seconds=result.timings.get("total"),
        seed=entry.seed if result.seed is None else result.seed,
        error=without_secrets(entry.error or ""),
        files=tuple(_file(file) for file in result.files),
    )


def _file(file: GeneratedFile) -> JobFile:
    path = file.local_path
    try:
        size = path.stat().st_size if path is not None and path.is_file() else None
    except OSError:
        size = None
    return JobFile(
        type=file.type,
        name=path.name if path else file.filename,
        path=None if size is None else path,
        size_bytes=file.size_bytes if size is None else size,
    )


def _name(value: Any) -> str:
    """A file's name, out of whatever the journal wrote of it."""
    return shown(str(value)).rstrip("')\"").rpartition("/")[2]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _costs(
    prices: catalog.Catalog, volume: Live[NetworkVolumeSpec], endpoints: list[Live[EndpointSpec]]
) -> tuple[Cost, ...]:
    estimated = estimate(
        prices,
        volume_gb=volume.values["size_gb"],
        volume_type=volume.values.get("type"),
        workers=[endpoint_workers(endpoint.values) for endpoint in endpoints],
    )
    return tuple(
        Cost(
            what=line.what,
            basis=line.detail,
            monthly_usd=line.usd_per_month or None,
            hourly_usd=line.usd_per_hour_max or None,
        )
        for line in estimated.lines
    )
