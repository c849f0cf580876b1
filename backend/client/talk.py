"""``talk``: ``tts`` and ``lipsync`` in one.

A backend with ComfyUI behind it does both in one job, in one graph. On any
other they are two, with the speech handed on from where it lies.
"""

from backend.client.protocol import BackendFlows, resumable
from backend.errors import NotSupported
from backend.flow import Flow, Progress
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult


def is_one_job(flows: BackendFlows) -> bool:
    """Tell whether a backend does ``talk`` in one job of its own."""
    return bool(getattr(flows, "talks", False))


def check_is_one_job(flows: BackendFlows, request: Request) -> None:
    """Check that a backend does a verb in one job.

    Raises:
        NotSupported: the verb is ``talk``, and the backend needs two jobs for it.
    """
    if request.verb == "talk" and not is_one_job(flows):
        raise NotSupported(
            f"At the {flows.name} backend talk is two jobs: submit tts, then lipsync with its result."
        )


def perform(flows: BackendFlows, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
    """Run any verb on any backend: ``talk`` in two jobs where the backend has no one job for it."""
    if request.verb == "talk" and not is_one_job(flows):
        return in_two(flows, request, deadline_s=deadline_s)
    return flows.generate(request, deadline_s=deadline_s)


def submit(flows: BackendFlows, request: Request, *, deadline_s: float) -> Flow[str]:
    """Submit any verb to any backend, as one job.

    Raises:
        NotSupported: the backend keeps no jobs, or the verb is two there.
    """
    check_is_one_job(flows, request)
    return resumable(flows).submit(request, deadline_s=deadline_s)


def in_two(flows: BackendFlows, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
    """Talk by two jobs."""
    from backend.verbs.talk import parts, spoken, together  # loaded with the first call, before any job

    speech_request, film_request = parts(request)
    yield Progress({"progress": "talk", "part": "tts"})
    speech = yield from flows.generate(speech_request, deadline_s=deadline_s)
    if not speech.success:
        return speech
    spent_s = speech.timings.get("total", 0.0)
    film_request = spoken(film_request, speech)
    yield Progress({"progress": "talk", "part": "lipsync"})
    film = yield from flows.generate(film_request, deadline_s=max(deadline_s - spent_s, 0.0))
    return together(speech, film)
