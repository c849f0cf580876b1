"""``talk``: ``tts`` and ``lipsync`` in one.

A backend with ComfyUI behind it does both in one job, in one graph. On any
other they are two, with the speech handed on from where it lies.
"""

from dataclasses import replace

from backend.errors import NotSupported
from backend.flow import Flow, Progress
from backend.interface import BackendFlows, resumable
from backend.params import TALK
from backend.request import Request
from backend.result import GenerationResult


def is_one_job(flows: BackendFlows) -> bool:
    """Tell whether a backend does ``talk`` in one job of its own."""
    return bool(getattr(flows, "talks", False))


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
    if request.verb == "talk" and not is_one_job(flows):
        raise NotSupported(
            f"At the {flows.name} backend talk is two jobs: submit tts, then lipsync with its result."
        )
    return resumable(flows).submit(request, deadline_s=deadline_s)


def in_two(flows: BackendFlows, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
    """Talk by two jobs."""
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


def parts(request: Request) -> tuple[Request, Request]:
    """Share a request for ``talk`` out: the speech, which stays where it is made, and a film still silent."""
    speech = {name: value for name, value in request.given.items() if "tts" in TALK[name]}
    film = {name: value for name, value in request.given.items() if "lipsync" in TALK[name]}
    return (
        Request(verb="tts", given=speech, keep_there=True),
        Request(verb="lipsync", given=film, output_path=request.output_path),
    )


def spoken(film: Request, speech: GenerationResult) -> Request:
    """Give a silent film its speech, from where that lies."""
    return replace(film, given={**film.given, "audio": speech.files[0]})


def together(speech: GenerationResult, film: GenerationResult) -> GenerationResult:
    """Give the film with what was said and measured of both: its timings name the two parts."""
    speech_s, film_s = (result.timings.get("total", 0.0) for result in (speech, film))
    return replace(
        film,
        warnings=(*speech.warnings, *film.warnings),
        timings={"tts": speech_s, "lipsync": film_s, "total": round(speech_s + film_s, 3)},
    )
