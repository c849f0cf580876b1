"""Speech and talking heads on the worker: voices of the volume, files of the job, results handed on."""

from __future__ import annotations

import base64
import hashlib
import io
import wave

import pytest
from PIL import Image

from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio

pytestmark = pytest.mark.slow
MODELS = {
    "models/checkpoints/video/svd_xt_1_1.safetensors": (
        "hf:weights/stable-video-diffusion-img2vid-xt-1-1:svd_xt_1_1.safetensors"
    ),
    "models/sonic/unet.pth": "hf:LeonJoe13/Sonic:Sonic/unet.pth",
    "models/sonic/audio2token.pth": "hf:LeonJoe13/Sonic:Sonic/audio2token.pth",
    "models/sonic/audio2bucket.pth": "hf:LeonJoe13/Sonic:Sonic/audio2bucket.pth",
    "models/sonic/yoloface_v5m.pt": "hf:LeonJoe13/Sonic:yoloface_v5m.pt",
    "models/sonic/RIFE/flownet.pkl": "hf:LeonJoe13/Sonic:RIFE/flownet.pkl",
    **{
        f"models/sonic/whisper-tiny/{name}": f"hf:openai/whisper-tiny:{name}"
        for name in ("config.json", "model.safetensors", "preprocessor_config.json")
    },
    **{
        f"huggingface-cache/hub/models--{repo.replace('/', '--')}/snapshots/{revision}/{file}": (
            f"hf:{repo}@{revision}:{file}"
        )
        for repo, revision, files in (
            (
                "SWivid/F5-TTS",
                "84e5a410d9cead4de2f847e7c9369a6440bdfaca",
                ("F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base/vocab.txt"),
            ),
            (
                "charactr/vocos-mel-24khz",
                "0feb3fdd929bcd6649e0e7c5a688cf7dd012ef21",
                ("config.yaml", "pytorch_model.bin"),
            ),
        )
        for file in files
    },
}


def portrait() -> str:
    """A picture with enough contrast to be a face, as base64."""
    picture = Image.linear_gradient("L").resize((128, 128))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def tone(seconds: float) -> bytes:
    """A recording of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(int(seconds * 32_000)))
    return file.getvalue()


def test_a_voice_of_the_volume_speaks_and_a_portrait_of_the_job_says_it(emu: Emulator) -> None:
    """The origin's field names, speech that stays on the volume, and a film of it that comes back."""
    studio = Studio(emu, "comfyform/worker")
    models = [{"path": path, "source": source} for path, source in MODELS.items()]
    studio.output(action="provision", models=models)
    (studio.volume / "voices" / "odin.wav").write_bytes(tone(6))
    (studio.volume / "voices" / "odin.txt").write_text("I am Odin.")
    speech = studio.output(action="tts", text="Hail, traveller.", sample="odin.wav", seed=3, deliver="volume")
    (sound,) = speech["files"]
    film = studio.output(
        action="lipsync",
        portrait_image="face.png",
        audio="speech.flac",
        seed=4,
        inputs=[
            {"name": "face.png", "data": portrait()},
            {"name": "speech.flac", "volume_path": sound["volume_path"], "sha256": sound["sha256"]},
        ],
    )
    (video,) = film["files"]

    assert (sound["type"], speech["seed"]) == ("audio", 3)
    assert (studio.volume / sound["volume_path"]).read_bytes().startswith(b"fLaC")
    content = base64.b64decode(video["data"])
    assert (video["type"], film["seed"]) == ("video", 4)
    assert content[4:8] == b"ftyp"
    assert hashlib.sha256(content).hexdigest() == video["sha256"]
    assert film["warnings"] == []
