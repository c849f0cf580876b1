"""How long a transfer is tried: a drip is no progress, and nothing goes on after its deadline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.errors import NotFound, Unavailable
from backend.flow import Retry
from ops.threads.retry import PACE, Patience

QUICK = replace(PACE, deadline_s=100.0, retry=Retry(attempts=4, first_s=1.0, most_s=1.0))
SPAN = QUICK.silence_s
LEAST = int(QUICK.slowest_bytes_per_s * SPAN)


class Clock:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_a_drip_is_a_stall():
    """A connection that gives a little now and then never times out, and is left all the same."""
    clock = Clock()
    watch = Patience(QUICK, "a.bin", clock=clock).watch()
    for received in (LEAST, LEAST):
        clock.wait(SPAN)
        watch.saw(received)
    clock.wait(SPAN / 2)
    watch.saw(1)
    clock.wait(SPAN / 2)

    with pytest.raises(Unavailable, match=f"a.bin stalled: {LEAST - 1} bytes in 30 s"):
        watch.saw(LEAST - 2)


def test_the_deadline_is_for_all_attempts_together():
    """Attempts that get on are not counted, and end with the deadline."""
    clock, headway = Clock(), [0]
    patience = Patience(QUICK, "a.bin", clock=clock)

    def get_on() -> None:
        patience.check_deadline()
        clock.wait(9.5)
        headway[0] += 1 << 20
        raise Unavailable("cut")

    with pytest.raises(Unavailable, match="cut"):
        patience.persist(get_on, wait=clock.wait, headway=lambda: headway[0])
    assert 90 < clock.now <= 100 + 9.5

    clock.wait(10)
    with pytest.raises(Unavailable, match="did not arrive within 100 s"):
        patience.check_deadline()


def test_attempts_without_headway_are_counted():
    """Four of them, and a lasting refusal is not repeated at all."""
    clock, calls = Clock(), [0]

    def fail() -> None:
        calls[0] += 1
        raise Unavailable("cut")

    def refuse() -> None:
        calls[0] += 1
        raise NotFound("gone")

    patience = Patience(QUICK, "a.bin", clock=clock)
    with pytest.raises(Unavailable):
        patience.persist(fail, wait=clock.wait)
    with pytest.raises(NotFound):
        patience.persist(refuse, wait=clock.wait)

    assert calls == [4 + 1]
