"""Several backends as one: the first that is healthy does the work."""

import time
from collections.abc import Callable, Sequence

from backend.errors import NotSupported, Unavailable
from backend.flow import Flow
from backend.interface import BackendFlows
from backend.request import Request
from backend.result import GenerationResult, Health


class FallbackBackend:
    """Flows over a chain of backends.

    Each call asks the backends in turn how they are, and runs on the first that is healthy and can do
    the verb, with what is left of the deadline. A job that was accepted stays where it is: it is not
    paid for twice.
    """

    def __init__(self, chain: Sequence[BackendFlows], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.chain = tuple(chain)
        self._clock = clock
        self.name = ",".join(flows.name for flows in chain)

    def health_check(self) -> Flow[Health]:
        """Give the health of the first healthy one, else all their reasons."""
        reasons = []
        for flows in self.chain:
            health = yield from flows.health_check()
            if health.healthy:
                return health
            reasons.append(f"{flows.name}: {health.error}")
        return Health(backend=self.name, healthy=False, error="; ".join(reasons))

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        """Run a verb on the first healthy backend; its result says which that was.

        Raises:
            NotSupported: none of them can do the verb as asked.
            Unavailable: none took it.
        """
        start, reasons, unable = self._clock(), [], 0
        for flows in self.chain:
            health = yield from flows.health_check()
            if not health.healthy:
                reasons.append(f"{flows.name}: {health.error}")
                continue
            left = max(0.0, deadline_s - (self._clock() - start))
            try:
                return (yield from flows.generate(request, deadline_s=left))
            except NotSupported as error:
                unable += 1
                reasons.append(f"{flows.name}: {error}")
            except Unavailable as error:
                if error.sent:
                    raise
                reasons.append(f"{flows.name}: {error}")
        said = f"No backend can do it: {'; '.join(reasons)}"
        if unable == len(self.chain):
            raise NotSupported(said)
        raise Unavailable(said, sent=False)
