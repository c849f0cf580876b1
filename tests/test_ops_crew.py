"""Threads that work ahead: whoever stops the crew above stops the crews that were made in its threads."""

from __future__ import annotations

import threading

import pytest

from ops.crew import Crew, pause


@pytest.mark.parametrize("waits", ["for a result", "between attempts"])
def test_a_crew_is_stopped_with_the_one_above(waits: str):
    """Its taker is woken as if by Ctrl-C, however long the work below has to go."""
    begun, never = threading.Event(), threading.Event()
    ended: list[type[BaseException]] = []

    def below(_: Crew[int, None], __: int) -> None:
        begun.set()
        never.wait(60)

    def work(_: Crew[int, None], __: int) -> None:
        try:
            with Crew(below, [1], threads=1, ahead=1) as crew:
                if waits == "for a result":
                    crew.take()
                begun.wait(60)
                pause(60)
        except BaseException as error:
            ended.append(type(error))
            raise

    with Crew(work, [1], threads=1, ahead=1) as above:
        assert begun.wait(20)
        above.stop()
        above.join(20)

    never.set()
    assert ended == [KeyboardInterrupt]
