"""The words that a voice recording says: read from the ``.txt`` file beside it, or recognized by a model.

F5-TTS needs them to clone the voice. Without them its node loads a speech recognizer, which no required
entry of the registry provides, so a job without both would be paid for and fail.

Source: SWivid/F5-TTS 9ae46c8, ``infer/utils_infer.py``: an empty reference text is recognized with
openai/whisper-large-v3-turbo, loaded through huggingface_hub.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from backend.errors import InvalidArgument
from backend.verbs.params import InputLike
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile

LONGEST_BYTES: Final = 64 * 1024
"""Of a transcript file; what follows is ignored."""
RECOGNIZER: Final = "whisper-large-v3-turbo"
"""The recognizer's entry in the registry."""
RECOGNIZER_REF: Final = "models--openai--whisper-large-v3-turbo/refs/main"
"""The file, below a Hugging Face cache's ``hub`` folder, that exists when the recognizer is provisioned."""
_ONLINE: Final = frozenset({"0", "false", "no"})


def given(request: Request) -> str:
    """Return the words that the caller gave with the request; "" without any."""
    return str(request["voice_reference_text"] or "").strip()


def is_missing(request: Request) -> bool:
    """Tell whether a request clones a voice and the caller did not say what the recording says."""
    return "voice_reference_text" in request.params and not given(request)


def decoded(content: bytes | None) -> str:
    """Decode a transcript file's content; "" for a file that does not exist."""
    return (content or b"")[:LONGEST_BYTES].decode("utf-8", "replace").strip()


def file_name(recording: str) -> str:
    """Name the transcript file of a recording: ``voices/odin.wav`` → ``voices/odin.txt``."""
    return str(PurePosixPath(recording).with_suffix(".txt"))


def read_beside(recording: InputLike) -> str:
    """Read the transcript file beside a recording on this machine; "" if it does not exist."""
    path = recording.with_suffix(".txt") if isinstance(recording, Path) else None
    return decoded(path.read_bytes()) if path is not None and path.is_file() else ""


def is_online(environment: Mapping[str, str]) -> bool:
    """Tell whether ComfyUI may download models when it runs with these variables."""
    return environment.get("HF_HUB_OFFLINE", "1").lower() in _ONLINE


def missing(verb: str, recording: Any) -> InvalidArgument:
    """Make the error of a voice recording whose words are unknown and cannot be recognized."""
    name = recording.filename if isinstance(recording, GeneratedFile) else str(recording)
    return InvalidArgument(
        f"{verb}: voice_reference_text is missing: {name!r} has no .txt file beside it, and {RECOGNIZER}, "
        "which would recognize the words, is not on the endpoint's volume.",
        hint="Give voice_reference_text, or save the words in a .txt file of the same name beside the "
        f"recording, or run `inv models.sync --only {RECOGNIZER}`.",
    )
