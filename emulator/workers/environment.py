"""The environment of a worker: what any program needs, what its endpoint declares, what RunPod sets."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from emulator.state import Endpoint, State
from emulator.workers.fleet import Worker
from emulator.workers.start_command import is_base_image

INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "SYSTEMROOT")
PACKAGE_INDEX = re.compile(r"(PIP|SSL)_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE")
"""How this machine reaches its package index: what stands for the network of a container."""
SECRET = re.compile(r"\{\{\s*RUNPOD_SECRET_(\w+)\s*\}\}")


def worker_environment(state: State, worker: Worker, endpoint: Endpoint) -> dict[str, str]:
    """Return a worker's whole environment; of the emulator's own, nothing but what any program needs."""
    own = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own["HOME"] = str(state.root / "scratch" / worker.id)
    declared = {
        name: SECRET.sub(lambda found: state.secrets.get(found[1], found[0]), value)
        for name, value in endpoint.body["env"].items()
    }
    if is_base_image(worker.image) and worker.image not in state.images:
        own |= _base_image(state, worker)
    return own | declared | runpod_environment(state, worker)


def _base_image(state: State, worker: Worker) -> dict[str, str]:
    """Return what differs where this machine stands for an image: its own Python, without our packages.

    A container has a disk of its own; here the variable that the project reads for it names a folder.
    """
    # pip keeps what it downloads where this machine's pip does, so that only the first build is slow.
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = {"PIP_CACHE_DIR": str(caches / "pip")}
    found |= {name: value for name, value in os.environ.items() if PACKAGE_INDEX.fullmatch(name)}
    if worker.gpu_count:
        # The stand-in ComfyUI is a program of this checkout, in the Python that has its packages.
        stand_in = [f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-m", "emulator.comfyui"]
        found["COMFYUI_COMMAND"] = shlex.join(["env", *stand_in])
    return found | {
        "PATH": os.pathsep.join([str(Path(sys.base_prefix, "bin")), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": "",
        "COMFYFORM_RUNTIME_DIR": str(state.root / "scratch" / worker.id / "disk"),
    }


def runpod_environment(state: State, worker: Worker) -> dict[str, str]:
    """Return the variables that RunPod sets in every worker.

    Source: runpod SDK 1.12 reads them at import; `$ID` and `$RUNPOD_POD_ID` are filled in by the SDK.
    """
    base = f"{state.url}/jobs/v2/{worker.endpoint_id}"
    place = worker.place
    gpu = place.gpu_type.replace(" ", "+") if place and place.gpu_type else "CPU"
    environment = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu={gpu}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu={gpu}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu={gpu}",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu={gpu}",
        "RUNPOD_PING_INTERVAL": "10000",
        "RUNPOD_AI_API_KEY": worker.key,
        "RUNPOD_API_KEY": worker.key,
        "RUNPOD_POD_ID": worker.id,
        "RUNPOD_POD_HOSTNAME": f"{worker.id}-emulated",
        "RUNPOD_ENDPOINT_ID": worker.endpoint_id,
        "RUNPOD_GPU_COUNT": str(worker.gpu_count),
        "RUNPOD_CPU_COUNT": "2",
        "RUNPOD_MEM_GB": str(_memory_gb()),
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        # There is no GPU here, and what the SDK checks is this machine, not the rented one.
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    if place is not None:
        environment["RUNPOD_DC_ID"] = place.data_center
        folder = state.volume_dir(place.volume_id) if place.volume_id else None
        if folder is not None and place.volume_id is not None:
            environment |= {"RUNPOD_VOLUME_ID": place.volume_id, "RUNPOD_VOLUME_PATH": str(folder)}
    return environment


def _memory_gb() -> int:
    """Memory of this machine, where the workers run, in GB."""
    return max(1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**9)
