"""Several backends as one, on emulated services: who serves, what is left of the time, nothing paid twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import (
    Backend,
    GenerationResult,
    Health,
    NotSupported,
    Request,
    Settings,
    Unavailable,
    get_backend,
)
from backend.chain import FallbackBackend
from backend.flow import Flow, Work
from tests.comfyui_program import slow
from tests.emulation import Emulator


@pytest.fixture
def chain(emu: Emulator, tmp_path: Path) -> Iterator[Backend]:
    """Comfy's cloud first, then Hedra."""
    emu.set(hedra_rate_per_minute=100_000, hedra_job_s=0.01)
    env = emu.env | {"COMFYFORM_STATE_DIR": str(tmp_path / "state"), "HEDRA_POLL_S": "0.02"}
    with get_backend(
        "cloud,hedra", settings=Settings.from_env(env | {"COMFYFORM_TIMEOUT_S": "20"})
    ) as backend:
        yield backend


def test_the_first_serves_while_it_is_healthy_and_the_next_when_it_is_not(emu, chain):
    """The result says which one did."""
    first = chain.workflow(slow()).raise_for_failure()
    emu.fault("/comfy-api/*", method="GET", times=0, status=401, body={})
    second = chain.imagine(description="a fox").raise_for_failure()

    assert (first.backend, second.backend) == ("cloud", "hedra")


def test_one_that_cannot_do_it_is_passed_over(chain):
    """The cloud keeps no avatars and Hedra neither: that is no failure of the run."""
    with pytest.raises(NotSupported, match=r"cloud: The cloud backend cannot.*; hedra: Hedra has no"):
        chain.portrait(prompt="odin", save_to_avatars=True)


def test_a_job_that_is_paid_for_is_not_given_to_the_next(emu, chain, tmp_path):
    """Its result cannot be fetched now, and can be later."""
    emu.fault("/comfy-api/*/content", method="GET", times=0, cut="before")

    result = chain.workflow(slow(), output_path=tmp_path / "x.png")

    assert isinstance(result.exception, Unavailable)
    assert emu.requests("POST", "/hedra/*") == []


class Slow:
    """A backend that takes its time to say that it cannot."""

    def __init__(self, name: str, clock: list[float], *, able: bool) -> None:
        self.name = name
        self.given: list[float] = []
        self._clock = clock
        self._able = able

    def health_check(self) -> Flow[Health]:
        yield Work(lambda: None)
        self._clock[0] += 2.0
        return Health(backend=self.name, healthy=True)

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        yield Work(lambda: None)
        self.given.append(deadline_s)
        self._clock[0] += 3.0
        if not self._able:
            raise NotSupported("not here")
        return GenerationResult(success=True, backend=self.name)


def test_one_deadline_is_for_all_of_them():
    """Each has what the ones before have left."""
    now = [0.0]
    first, second = Slow("first", now, able=False), Slow("second", now, able=True)

    with Backend(FallbackBackend([first, second], clock=lambda: now[0]), deadline_s=10.0) as backend:
        result = backend.portrait(prompt="x")

    assert (result.backend, first.given, second.given) == ("second", [8.0], [3.0])
