"""What the stand-in makes of sound and film: real files, of the length and size that were asked for."""

import io
import json
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from tests.support.comfyui_program import ComfyUI, Graph, running_comfyui

F5 = "huggingface-cache/hub/models--SWivid--F5-TTS"
VOCOS = "huggingface-cache/hub/models--charactr--vocos-mel-24khz"
SONIC = ("unet.pth", "audio2token.pth", "audio2bucket.pth", "yoloface_v5m.pt", "RIFE/flownet.pkl")
WHISPER = ("config.json", "model.safetensors", "preprocessor_config.json")


def tone(seconds: float, rate: int = 16_000) -> bytes:
    """Make a WAV file of a plain tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((b"\x00\x20" * 40 + b"\x00\xe0" * 40) * int(seconds * rate / 80))
    return out.getvalue()


def probe(path: Path) -> str:
    """Tell what ffmpeg thinks of a file, after decoding all of it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


def seconds_of(path: Path) -> float:
    words = probe(path).split("Duration: ")[1].split(",")[0]
    hours, minutes, seconds = words.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """Run a stand-in that has SONIC, F5-TTS and their models."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "huggingface-cache"))
        with running_comfyui(folder) as program:
            furnish(program)
            yield program


def furnish(program: ComfyUI) -> None:
    program.add_model("checkpoints/video/svd_xt_1_1.safetensors")
    for name in SONIC:
        program.add_model(f"sonic/{name}", b"weights")
    for name in WHISPER:
        program.add_model(f"sonic/whisper-tiny/{name}", b"whisper")
    snapshot(program.folder / F5, "F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base/vocab.txt")
    snapshot(program.folder / VOCOS, "config.yaml", "pytorch_model.bin")
    (program.folder / "input").mkdir(exist_ok=True)
    (program.folder / "input/voice.wav").write_bytes(tone(6.0))
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 96, "height": 128, "batch_size": 1, "color": 255},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "flat"}},
    }
    program.run(graph)


def snapshot(repository: Path, *files: str) -> None:
    """Lay files out as a Hugging Face cache holds them."""
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    for name in files:
        path = repository / "snapshots/abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")


def tts(text: str, **changes: Any) -> Graph:
    inputs = {
        "sample_audio": ["1", 0],
        "sample_text": "what is said in it",
        "speech": text,
        "seed": 7,
        "model": "F5v1",
        "vocoder": "vocos",
        "speed": 1.0,
        "model_type": "F5TTS_v1_Base",
    }
    return {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
        "2": {"class_type": "F5TTSAudioInputs", "inputs": inputs | changes},
        "3": {"class_type": "SaveAudio", "inputs": {"audio": ["2", 0], "filename_prefix": "audio/speech"}},
    }


def lipsync(portrait: str = "face.png", **changes: Any) -> Graph:
    predata = {
        "clip_vision": ["1", 1],
        "vae": ["1", 2],
        "audio": ["3", 0],
        "image": ["2", 0],
        "weight_dtype": ["4", 1],
        "min_resolution": 128,
        "duration": 2.0,
        "expand_ratio": 0.5,
    }
    return {
        "1": {
            "class_type": "ImageOnlyCheckpointLoader",
            "inputs": {"ckpt_name": "video/svd_xt_1_1.safetensors"},
        },
        "2": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "3": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
        "4": {
            "class_type": "SONICTLoader",
            "inputs": {
                "model": ["1", 0],
                "sonic_unet": "unet.pth",
                "ip_audio_scale": 1.0,
                "use_interframe": True,
                "dtype": "fp16",
            },
        },
        "5": {"class_type": "SONIC_PreData", "inputs": predata | changes},
        "6": {
            "class_type": "SONICSampler",
            "inputs": {
                "model": ["4", 0],
                "data_dict": ["5", 0],
                "seed": 1,
                "inference_steps": 2,
                "dynamic_scale": 1.0,
                "fps": 25.0,
            },
        },
        "7": {
            "class_type": "VHS_VideoCombine",
            "inputs": {
                "images": ["6", 0],
                "audio": ["3", 0],
                "frame_rate": ["6", 1],
                "loop_count": 0,
                "filename_prefix": "vid/lips",
                "format": "video/h264-mp4",
                "pingpong": False,
                "save_output": True,
                "crf": 19,
            },
        },
    }


def face(program: ComfyUI) -> None:
    """Put a drawn portrait into the input folder."""
    from emulator.comfyui.media.image_rendering import portrait

    portrait("a face", 3, 96, 128, "").save(program.folder / "input/face.png")


def error_of(entry: dict[str, Any]) -> tuple[str, str]:
    error = entry["status"]["messages"][-1][1]
    return error["exception_type"], error["exception_message"].strip()


@pytest.mark.slow
def test_speech_is_a_flac_as_long_as_its_text(studio):
    """Twice the text lasts twice as long, and a speed above 1 is slower, as in the real node."""
    lengths = []
    for text, speed in (("hello there", 1.0), ("hello there" * 2, 1.0), ("hello there", 1.5)):
        _, entry = studio.run(tts(text, speed=speed))
        (shown,) = entry["outputs"]["3"]["audio"]
        path = studio.folder / "output" / shown["subfolder"] / shown["filename"]
        assert (path.suffix, "Audio: flac" in probe(path)) == (".flac", True)
        lengths.append(seconds_of(path))

    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.02)
    assert lengths[2] == pytest.approx(1.5 * lengths[0], rel=0.02)


def test_speech_is_never_cached(studio):
    """The pack's IS_CHANGED raises, so ComfyUI runs its nodes each time."""
    studio.run(tts("again"))
    heard, _ = studio.run(tts("again"))

    (cached,) = [one["data"]["nodes"] for one in heard if one["type"] == "execution_cached"]
    assert cached == ["1"]


@pytest.mark.parametrize(
    "changes",
    [{"vocoder": "bigvgan"}, {"model": "E2"}, {"sample_text": " "}],
    ids=lambda one: next(iter(one)),
)
def test_weights_that_are_not_in_the_cache_are_not_fetched(studio, changes):
    """Offline, what the Hugging Face cache lacks is an error in huggingface_hub's words."""
    _, entry = studio.run(tts("hello", **changes))
    kind, message = error_of(entry)

    assert kind == "huggingface_hub.errors.LocalEntryNotFoundError"
    assert "cannot find the requested files in the local cache" in message


def test_a_talking_head_is_an_h264_film_with_sound(studio):
    """As long as the shorter of duration and sound, its sides multiples of 64, listed among the gifs."""
    face(studio)
    _, entry = studio.run(lipsync())
    (shown,) = entry["outputs"]["7"]["gifs"]
    path = Path(shown["fullpath"])
    message = probe(path)

    assert (shown["filename"], shown["subfolder"]) == ("lips_00001-audio.mp4", "vid")
    assert (shown["format"], shown["frame_rate"]) == ("video/h264-mp4", 25.0)
    assert "Video: h264" in message
    assert "Audio: aac" in message
    assert "128x192" in message
    assert "frame=   50" in message
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "lips_00001-audio.mp4",
        "lips_00001.mp4",
        "lips_00001.png",
    ]


def test_sonic_leaves_a_sound_file_behind_in_the_input_folder(studio):
    """As the pack does with every run: whoever runs it must tidy up."""
    face(studio)
    before = set((studio.folder / "input").glob("audio_*_temp.wav"))
    studio.run(lipsync(duration=1.0))

    assert len(set((studio.folder / "input").glob("audio_*_temp.wav")) - before) == 1


def test_a_picture_without_a_face_fails_as_sonic_does(studio):
    """No face is an AttributeError of None, which says nothing of faces."""
    (studio.folder / "input/flat.png").write_bytes((studio.folder / "output/flat_00001_.png").read_bytes())

    _, entry = studio.run(lipsync("flat.png"))

    assert error_of(entry) == ("AttributeError", "'NoneType' object has no attribute 'items'")


@pytest.mark.parametrize(
    ("missing", "kind", "words"),
    [
        ("audio2token.pth", "Exception", "Please download the model first"),
        ("yoloface_v5m.pt", "Exception", "Please download the model first"),
        ("whisper-tiny/config.json", "OSError", "whisper-tiny"),
        ("RIFE/flownet.pkl", "FileNotFoundError", "flownet.pkl"),
    ],
)
def test_sonic_needs_its_fixed_files(studio, missing, kind, words):
    """Each missing file fails in the words of who misses it."""
    face(studio)
    path = studio.folder / "models/sonic" / missing
    remaining = path.read_bytes()
    path.unlink()
    studio.http.post("/free", json={"free_memory": True})

    _, entry = studio.run(lipsync())
    path.write_bytes(remaining)

    assert error_of(entry)[0] == kind
    assert words in error_of(entry)[1]


def test_a_film_of_comfyuis_own_is_listed_among_the_images(studio):
    """CreateVideo and SaveVideo give an MP4 that history calls an animated image."""
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 63, "height": 49, "batch_size": 8, "color": 255},
        },
        "2": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0, "audio": ["2", 0]}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "video/x", "format": "mp4", "codec": "h264"},
        },
    }
    _, entry = studio.run(graph)
    shown = entry["outputs"]["4"]
    message = probe(studio.folder / "output/video" / shown["images"][0]["filename"])

    assert shown == {
        "images": [{"filename": "x_00001_.mp4", "subfolder": "video", "type": "output"}],
        "animated": [True],
    }
    assert "Video: h264" in message
    assert "62x48" in message


def test_texts_are_shown_as_strings(studio):
    """History lists a shown text as a plain string, not as a file."""
    graph = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    _, entry = studio.run(graph)

    assert json.dumps(entry["outputs"]) == '{"2": {"text": ["hello"]}}'
