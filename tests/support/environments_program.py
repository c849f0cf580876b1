"""A Pulumi program with any number of small, whole environments: those that ENVIRONMENTS names.

`tests/infra/test_kills.py` copies it into a project and brings up one of them at a time. A name with a
`+` has a model, too.
"""

from __future__ import annotations

import os

from backend.settings import Secret
from infra import provider_session
from infra.environment import ComfyEnvironment
from infra.forwarded_settings import worker_env
from infra.preflight import preflight
from infra.stack_config import StackConfig
from ops.registry.load import ModelFile

CONFIG = StackConfig(
    volume_gb=10,
    protect_volume=False,
    workers_max=1,
    worker_image="comfyform/worker",
    ops_image="comfyform/ops",
    registry_username=Secret("somebody"),
    registry_password=Secret("password"),
)
SOURCE = "hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:config.json"

preflight(provider_session.api(), CONFIG, "comfyform", "test")
for wanted in os.environ["ENVIRONMENTS"].split():
    name = wanted.rstrip("+")
    file = ModelFile(path=f"{name}/config.json", volume_path=f"models/{name}/config.json", source=SOURCE)
    ComfyEnvironment(name, CONFIG, [file] if wanted != name else [], worker_env=worker_env())
