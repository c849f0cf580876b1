"""Threads that work ahead: whoever stops the crew above stops the crews that were made in its threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ops.files.atomic import one_writer
from ops.threads.ordered_pool import Crew, beside, pause
from tests.support.deadlines import HANG_S


@pytest.mark.parametrize("waits", ["for a result", "for a call", "for a lock", "between attempts"])
def test_a_crew_is_stopped_with_the_one_above(tmp_path: Path, waits: str):
    """Whoever waits in its threads is woken as if by Ctrl-C, however long the work below has to go."""
    begun, never = threading.Event(), threading.Event()
    lock = tmp_path / "lock"
    ended: list[type[BaseException]] = []

    def below(_: Crew[int, None], __: int) -> None:
        begun.set()
        never.wait(HANG_S)

    def work(_: Crew[int, None], __: int) -> None:
        try:
            with Crew(below, [1], threads=1, ahead=1) as crew:
                begun.wait(HANG_S)
                match waits:
                    case "for a result":
                        crew.take()
                    case "for a call":
                        beside(lambda: never.wait(HANG_S))
                    case "for a lock":
                        with one_writer(lock):
                            pass
                    case _:
                        pause(60)
        except BaseException as error:
            ended.append(type(error))
            raise

    with one_writer(lock), Crew(work, [1], threads=1, ahead=1) as above:
        assert begun.wait(HANG_S)
        above.stop()
        above.join(HANG_S)

    never.set()
    assert ended == [KeyboardInterrupt]
