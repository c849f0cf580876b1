"""Fixtures for every test: a clean environment, and the emulator."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.emulation import Emulator, running_emulator

# The same examples in every run, and no limit on their time: machines differ.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None)
hypothesis.settings.load_profile("house")

# A shell starts background jobs with SIGINT ignored, and what they start inherits that: without this line
# the tests of Ctrl-C would fail in a background shell.
signal.signal(signal.SIGINT, signal.default_int_handler)

FOREIGN = ("RUNPOD_", "COMFY", "HF_", "HUGGING", "CIVITAI_", "PULUMI_", "HEDRA_", "AWS_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Run one emulator for the whole test run."""
    # Workers inherit nothing from here: the emulator gives each its own environment.
    with running_emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        yield emulator


@pytest.fixture
def emu(emulator_process: Emulator) -> Iterator[Emulator]:
    """Yield the emulator, empty; a fault that the test set and that never happened fails the test."""
    emulator_process.reset()
    yield emulator_process
    assert emulator_process.unhit_faults() == []
