"""How many connections a transfer uses: pure decisions over bytes and seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ops.crew import Crew
from ops.width import Width


def widths(rate: Callable[[int], float], *, fewest: int = 2, most: int = 6, share: float = 0.3) -> list[int]:
    """Let a transfer run over a network that gives so many bytes a second to so many connections."""
    width, now, came, used = Width(fewest, most, now=0.0, busy=0.0), 0.0, 0.0, [fewest]
    while now < 8:
        now += 0.1
        came += 0.1 * rate(used[-1])
        wanted = width.look(int(came), now=now, busy=share * now)
        if wanted != used[-1]:
            used.append(wanted)
    return used


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (lambda _: 500e6, [2, 4, 2]),
        (lambda width: 50e6 * width, [2, 4, 6]),
        (lambda width: min(50e6 * width, 200e6), [2, 4, 6, 4]),
        (lambda width: 400e6 / width, [2, 4, 2]),
        (lambda _: 0.0, [2]),
    ],
    ids=[
        "bounded elsewhere",
        "each connection bounded",
        "bounded at four",
        "worse with more",
        "nothing comes",
    ],
)
def test_more_connections_are_used_while_they_bring_more(rate: Callable[[int], float], expected: list[int]):
    """It doubles up to the most, goes back where that brought little, and then stays."""
    assert widths(rate) == expected


def test_a_busy_machine_is_not_given_more():
    """Where the processor is the bound, more connections would bring nothing, and are not tried."""
    assert widths(lambda width: 50e6 * width, share=1.2) == [2]


def test_a_slow_start_of_new_connections_is_no_verdict():
    """What comes just after a change is not measured: new connections have to get up to speed."""
    width = Width(2, 4, now=0.0, busy=0.0)

    seen = [
        width.look(came, now=now, busy=0.0) for came, now in ((100, 1.0), (100, 1.4), (200, 1.5), (400, 2.5))
    ]

    assert seen == [4, 4, 4, 4]


def test_what_was_kept_of_an_earlier_run_is_no_rate():
    """While pieces are read from the disk nothing comes, and that says nothing about the network."""
    width = Width(2, 4, now=0.0, busy=0.0)

    assert [width.look(0, now=second, busy=0.0) for second in (1.0, 2.0, 3.0)] == [2, 2, 2]
    assert width.look(100, now=4.0, busy=0.0) == 4


def test_one_number_is_left_alone():
    """Where the fewest are the most, nothing is tried."""
    assert widths(lambda width: 50e6 * width, fewest=3, most=3) == [3]


def test_a_crew_reaches_further_and_back():
    """More tasks are begun at once when the consumer says so; fewer, as their results are taken."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work(_: Crew[int, int], task: int) -> int:
        begun.release()
        go_on.wait(20)
        return task

    with Crew(work, range(6), threads=4, ahead=1) as crew:
        first = [begun.acquire(timeout=20), begun.acquire(blocking=False)]
        crew.reach(3)
        more = [begun.acquire(timeout=20), begun.acquire(timeout=20), begun.acquire(blocking=False)]
        crew.reach(1)
        go_on.set()
        taken = [crew.take(), crew.take()]
        fewer = begun.acquire(blocking=False)
        taken += [crew.take() for _ in range(4)]

    assert first == [True, False]
    assert more == [True, True, False]
    assert not fewer
    assert taken == [0, 1, 2, 3, 4, 5]
