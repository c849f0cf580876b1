"""A portrait that says what a recording says: python examples/lipsync.py PORTRAIT AUDIO OUTPUT.

Runs on the backend that COMFY_BACKEND names: local (COMFYUI_URL) or runpod
(RUNPOD_API_KEY, RUNPOD_ENDPOINT_ID). A name that is no file here, such as
avatars/odin.png, means a file that the backend already has.
"""

import sys

from backend import get_backend


def main(portrait: str, audio: str, output: str) -> int:
    with get_backend() as backend:
        result = backend.lipsync(portrait_image=portrait, audio=audio, output_path=output)
    if not result.success:
        print(result.error, file=sys.stderr)
        return 1
    print(result.files[0].remote_url, result.files[0].local_path)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
