"""Somebody else's Pulumi program: a volume of their own, a plain endpoint, and a whole environment beside it.

Run it with comfyform installed in the active environment: ``cd`` here, then ``pulumi up``.
"""

import pulumi

from infra.environment import ComfyEnvironment
from infra.resources import Endpoint, NetworkVolume, Template
from infra.stack_config import StackConfig

# One endpoint of one's own, field by field: a load balancer over two GPU pools, on a volume in Kansas.
volume = NetworkVolume(
    "voices", size_gb=20, data_center="US-KS-2", opts=pulumi.ResourceOptions(protect=False)
)
template = Template(
    "speech",
    image="ghcr.io/example/speech:1.4.2",
    env={"LANGUAGE": "is", "HF_TOKEN": "{{ RUNPOD_SECRET_hf }}"},
    ports=["8000/http"],
)
speech = Endpoint(
    "speech",
    template=template,
    type="LOAD_BALANCER",
    gpu_pools=["AMPERE_24", "ADA_24"],
    gpu_excluded_types=["NVIDIA L4"],
    min_cuda_version="12.4",
    request_count=8,
    workers_max=2,
    data_centers=["US-KS-2"],
    volume_ids=[volume.id],
    flashboot="FLASHBOOT",
)

# And a whole second environment, in another data center, on images and without models of its own.
studio = ComfyEnvironment(
    "studio",
    StackConfig(
        data_center="EU-CZ-1",
        volume_gb=50,
        workers_max=1,
        worker_image="ghcr.io/example/comfyform-worker:1.4.2",
        ops_image="ghcr.io/example/comfyform-ops:1.4.2",
        protect_volume=False,
    ),
)

pulumi.export("speech_url", speech.request_urls.apply(lambda urls: urls["base"]))
pulumi.export("backend_env", studio.backend_env)
