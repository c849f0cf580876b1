"""Open the store of models that the settings name."""

import re
from functools import partial
from typing import Final

from backend.errors import ConfigError, NotFound
from backend.flow.http_driver import Http
from backend.runpod.job_api import JobPlane
from backend.settings import Settings
from ops.files.user_folders import cache_folder
from ops.local.model_dirs import Locate, local_models
from ops.runpod.api import NETWORK_VOLUMES, RunPodApi
from ops.runpod.transports import S3_DATA_CENTERS, Transport
from ops.sources.origins import Sources
from ops.stores.model_store import ModelStore
from ops.stores.s3 import S3Store
from ops.stores.s3_client import Bucket
from ops.stores.worker_call import OnState
from ops.stores.worker_jobs import JobStore

_REGION: Final = re.compile(r"//s3api-([a-z0-9-]+)\.")


def open_store(
    settings: Settings,
    http: Http,
    *,
    transport: Transport = "job",
    endpoint_id: str | None = None,
    volume_id: str | None = None,
    data_center: str | None = None,
    capacity_bytes: int | None = None,
    locate: Locate | None = None,
    on_state: OnState = lambda _event: None,
) -> ModelStore:
    """Open the models of a network volume.

    Args:
        settings: keys and addresses.
        http: the driver, which the caller closes.
        transport: how.
        endpoint_id: the ops endpoint, for ``job``; by default that of the settings.
        volume_id: the volume, for ``s3``; by default that of the settings.
        data_center, capacity_bytes: where the volume is and its size, for ``s3``; by default RunPod is
            asked, where its API key is set.
        locate: finds this machine's models, for ``s3``; by default as the settings say.
        on_state: told how jobs stand, for ``job``.

    Raises:
        MissingSetting: a key or an id is not set.
        ConfigError: the data center is unknown or has no S3.
    """
    if transport == "job":
        key = settings.need("runpod_api_key", "jobs need RunPod's API key")
        endpoint = endpoint_id or settings.need(
            "runpod_ops_endpoint_id", "the ops endpoint looks after the models"
        )
        return JobStore(http, JobPlane(settings.runpod_jobs_url, key), endpoint, on_state=on_state)
    volume = volume_id or settings.need("runpod_volume_id", "it names the volume")
    if data_center is None and settings.runpod_api_key is not None:
        api = RunPodApi(http, settings.runpod_rest_url, settings.runpod_api_key)
        try:
            live = api.get(NETWORK_VOLUMES, volume)
        except NotFound as error:
            error.hint = (
                f"Check RUNPOD_VOLUME_ID: volume {volume} does not exist, or belongs to another account."
            )
            raise
        data_center, capacity_bytes = live.values["data_center"], live.values["size_gb"] * 10**9
    return S3Store(
        open_bucket(settings, volume, data_center),
        Sources.from_settings(settings, http),
        staging=cache_folder(settings) / "staging" / volume,
        locate=locate or partial(local_models, settings),
        capacity_bytes=capacity_bytes,
    )


def open_bucket(settings: Settings, volume_id: str, data_center: str | None) -> Bucket:
    """Open a volume's bucket.

    Raises:
        MissingSetting, ConfigError: as for `open_store`.
    """
    url = settings.runpod_s3_url
    if url is None:
        if data_center is None:
            raise ConfigError(
                "The S3 address of the volume is not known.",
                hint="Set RUNPOD_S3_URL, or name the volume's data center.",
            )
        if data_center.upper() not in S3_DATA_CENTERS:
            raise ConfigError(
                f"Data center {data_center} has no S3.",
                hint=f"Use transport job, or a volume in one of {', '.join(sorted(S3_DATA_CENTERS))}.",
            )
        url = f"https://s3api-{data_center.lower()}.runpod.io"
    named = _REGION.search(url)
    return Bucket(
        url,
        volume_id,
        # A data center's gateway accepts its own name only; another gateway takes any.
        region=(data_center or (named[1] if named else "us-east-1")).lower(),
        access_key_id=settings.need("runpod_s3_access_key_id", "S3 needs its own keys"),
        secret_access_key=settings.need("runpod_s3_secret_access_key", "S3 needs its own keys"),
    )
