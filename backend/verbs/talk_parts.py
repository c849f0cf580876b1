"""``talk`` as two requests, ``tts`` and ``lipsync``, and their results as one. Pure."""

from dataclasses import replace

from backend.verbs.params import TALK
from backend.verbs.request import Request
from backend.verbs.result import GenerationResult


def parts(request: Request) -> tuple[Request, Request]:
    """Split a request for ``talk``: the speech, which stays where it is made, and a silent video."""
    speech = {name: value for name, value in request.given.items() if "tts" in TALK[name]}
    film = {name: value for name, value in request.given.items() if "lipsync" in TALK[name]}
    return (
        Request(verb="tts", given=speech, keep_there=True),
        Request(verb="lipsync", given=film, output_path=request.output_path),
    )


def spoken(film: Request, speech: GenerationResult) -> Request:
    """Add the speech to a silent video, from where that lies."""
    return replace(film, given={**film.given, "audio": speech.files[0]})


def together(speech: GenerationResult, film: GenerationResult) -> GenerationResult:
    """Return the video with the warnings and timings of both: its timings name the two parts."""
    speech_s, film_s = (result.timings.get("total", 0.0) for result in (speech, film))
    return replace(
        film,
        warnings=(*speech.warnings, *film.warnings),
        timings={"tts": speech_s, "lipsync": film_s, "total": round(speech_s + film_s, 3)},
    )
