"""``talk``: ``tts`` and ``lipsync`` in one, with the speech handed on from where it lies."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backend.errors import InvalidArgument
from backend.flow import Flow, Progress
from backend.params import TALK
from backend.request import Request, read
from backend.result import GenerationResult

if TYPE_CHECKING:
    from backend.interface import BackendFlows


def talk(flows: "BackendFlows", params: Mapping[str, Any], *, deadline_s: float) -> Flow[GenerationResult]:
    """Speak a text in a voice, and make a portrait say it.

    The speech stays with the backend, on RunPod on the volume, and is used from there.

    Args:
        flows: any backend that has both verbs.
        params: as `backend.params.TalkParams`.
        deadline_s: for both together.

    Returns:
        The film. Its timings name both parts; its warnings are those of both.
    """
    speech_request, film_request = split(params)
    yield Progress({"progress": "talk", "part": "tts"})
    speech = yield from flows.generate(speech_request, deadline_s=deadline_s)
    if not speech.success:
        return speech
    spent_s = speech.timings.get("total", 0.0)
    film_request = replace(film_request, given={**film_request.given, "audio": speech.files[0]})
    yield Progress({"progress": "talk", "part": "lipsync"})
    film = yield from flows.generate(film_request, deadline_s=max(deadline_s - spent_s, 0.0))
    took_s = film.timings.get("total", 0.0)
    return replace(
        film,
        warnings=(*speech.warnings, *film.warnings),
        timings={"tts": spent_s, "lipsync": took_s, "total": round(spent_s + took_s, 3)},
    )


def split(params: Mapping[str, Any]) -> tuple[Request, Request]:
    """Check the arguments of ``talk`` and share them out.

    Raises:
        InvalidArgument: one sentence a problem.
    """
    given = {name: value for name, value in params.items() if value is not None}
    if unknown := sorted(set(given) - set(TALK)):
        raise InvalidArgument(
            f"talk: {', '.join(map(repr, unknown))} is not an argument of it.",
            hint=f"talk takes {', '.join(TALK)}.",
        )
    speech = {name: value for name, value in given.items() if "tts" in TALK[name]}
    film = {name: value for name, value in given.items() if "lipsync" in TALK[name]}
    # The speech is not there yet; any name will do until it is.
    return replace(read("tts", speech), keep_there=True), read("lipsync", {**film, "audio": "speech"})
