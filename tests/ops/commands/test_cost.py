"""`inv models.cost`: what each model costs, and the volume that holds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.commands import cleanup as commands_upkeep
from tests.support.emulation import Emulator
from tests.support.ops_desk import ROOT, Desk

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(emu, tmp_path, capsys)


def test_cost_is_told_by_model(desk: Desk):
    """Bytes and dollars a month, each and in all."""
    message = desk.run(commands_upkeep.cost, registry=str(ROOT / "models-registry.yaml"))
    sdxl = next(model for model in message["models"] if model["name"] == "sdxl-base")

    assert sdxl == {
        "name": "sdxl-base",
        "size_bytes": 6938078334,
        "unknown_sizes": 0,
        "dollars_per_month": 0.4857,
    }
    assert message["size_bytes"] == sum(model["size_bytes"] for model in message["models"])


def test_models_above_a_terabyte_cost_their_share(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """RunPod asks $0.07 for the first 1,000 GB, $0.05 above: rows add up, beside the volume."""
    files = {
        name: f"{{path: vae/{name}.safetensors, source: 'hf:o/n:{name}', size_bytes: {size}}}"
        for name, size in (("a", 1_200_000_000_000), ("b", 400_000_000_000))
    }
    entries = "".join(f"  {name}: {{files: [{text}]}}\n" for name, text in files.items())
    desk.registry.write_text(f"required:\n{entries}")

    message = desk.run(commands_upkeep.cost, registry=str(desk.registry))
    commands_upkeep.cost(registry=str(desk.registry), settings=desk.settings)

    assert [model["dollars_per_month"] for model in message["models"]] == [75.0, 25.0]
    assert message["dollars_per_month"] == message["smallest_volume_dollars_per_month"] == 100.0
    assert re.search(r"the volume +1600 GB +\$100\.00", capsys.readouterr().out)
