"""A text, a voice and a portrait become a film: python examples/talk.py TEXT VOICE PORTRAIT OUTPUT.

Speech and film are one job: on RunPod the speech never leaves the worker. A
.txt file beside the voice, with what it says, makes the cloned voice better.
"""

import sys
from collections.abc import Mapping

from backend import get_backend


def tell(event: Mapping[str, object]) -> None:
    print(" ".join(f"{name}={value}" for name, value in event.items()), file=sys.stderr)


def main(text: str, voice: str, portrait: str, output: str) -> None:
    with get_backend() as backend:
        film = backend.talk(
            text=text, voice_reference=voice, portrait_image=portrait, output_path=output, on_progress=tell
        ).raise_for_failure()
    print(f"{film.files[0].local_path} in {film.timings['total']:.1f} s, seed {film.seed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
