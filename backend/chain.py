"""Several backends as one: the first that is healthy does the work."""

from collections.abc import Sequence

from backend.errors import NotSupported, Unavailable
from backend.flow import Flow
from backend.interface import BackendFlows
from backend.request import Request
from backend.result import GenerationResult, Health


class FallbackBackend:
    """Flows over a chain of backends.

    Each call asks the backends in turn how they are, and runs on the first that is healthy and can do
    the verb. A job that was accepted stays where it is: it is not paid for twice.
    """

    def __init__(self, chain: Sequence[BackendFlows]) -> None:
        self.chain = tuple(chain)
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
        """Run a verb on the first healthy backend; its result says which that was."""
        reasons = []
        for flows in self.chain:
            health = yield from flows.health_check()
            if not health.healthy:
                reasons.append(f"{flows.name}: {health.error}")
                continue
            try:
                return (yield from flows.generate(request, deadline_s=deadline_s))
            except NotSupported as error:
                reasons.append(f"{flows.name}: {error}")
            except Unavailable as error:
                if error.sent:
                    raise
                reasons.append(f"{flows.name}: {error}")
        raise Unavailable(f"No backend can do it: {'; '.join(reasons)}", sent=False)
