"""What the conformance run checks. Each function is one row of the table; an exception is a failure."""

import contextlib
import hashlib
import wave
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from backend import GenerationResult, JobFailed
from backend.errors import JobError
from tools.conformance import graphs, mutations
from tools.conformance.context import Run, Skipped, require
from tools.conformance.queue_checks import QUEUE_CHECKS, foreign_run

EACH: Final = 2
"""Doubtful refusals of one mistake in one node class that are really run."""
OFFLINE: Final = (
    "LocalEntryNotFoundError",
    "We couldn't connect",
    "Please download the model first",
    "not available",
)


def health(run: Run) -> str:
    """The server answers with its version."""
    found = run.backend.health_check()
    require(found.healthy, str(found.error))
    return f"ComfyUI {found.version}, {len(run.definitions)} node classes"


def outputs(name: str) -> Callable[[Run], str]:
    """Make the check of one kind of output."""

    def check(run: Run) -> str:
        try:
            graph = graphs.output(run.definitions, name)
        except KeyError as missing:
            raise Skipped(f"it has no node {missing}") from None
        format_ = graph["2"]["inputs"].get("format")
        if format_ and format_ not in run.choices(graph["2"]["class_type"], "format"):
            raise Skipped(f"it does not write {format_}")
        kind = graphs.OUTPUTS[name][4]
        place = run.folder / f"{name} ü"
        result = run.backend.workflow(graph, output_path=place)
        path = run.saved(result, kind)
        return f"{Path(result.files[0].filename).suffix}, {path.stat().st_size} bytes"

    return check


def video(run: Run) -> str:
    """CreateVideo and SaveVideo give an MP4."""
    try:
        graph = graphs.video(run.definitions)
    except KeyError as missing:
        raise Skipped(f"it has no node {missing}") from None
    path = run.saved(run.backend.workflow(graph, output_path=run.folder / "vidéo.mp4"), "video")
    require(path.read_bytes()[4:8] == b"ftyp", "it is not an MP4")
    return f"{path.stat().st_size} bytes"


def websocket_image(run: Run) -> str:
    """A node that saves nothing is refused in words."""
    if "SaveImageWebsocket" not in run.definitions:
        raise Skipped("it has no node SaveImageWebsocket")
    source, values = graphs.SOURCES["IMAGE"]
    graph = {
        "1": graphs.node(run.definitions, source, **values),
        "2": graphs.node(run.definitions, "SaveImageWebsocket", images=["1", 0]),
    }
    result = run.backend.workflow(graph)
    require(isinstance(result.exception, JobFailed), f"it gave {result.exception!r}")
    return str(result.error)


def portrait(run: Run) -> str:
    """A portrait is written where it is wanted, and kept as an avatar that a next run names."""
    place = run.folder / "pörtrait ✓.png"
    result = run.backend.portrait(
        prompt="ein Fuchs, 狐",
        model=run.checkpoint,
        width=64,
        height=64,
        steps=2,
        seed=1,
        save_to_avatars=True,
        avatar_name="ödin.png",
        output_path=place,
    )
    path = run.saved(result, "image")
    require(path == place, f"it is at {path}")
    again = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "avatars/ödin.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
    }
    run.saved(run.backend.workflow(again, output_path=run.folder / "again.png"), "image")
    return f"{path.stat().st_size} bytes"


def imagine(run: Run) -> str:
    """The same seed gives the same pixels, another seed others, and a LoRA others again."""
    loras = run.choices("LoraLoader", "lora_name")

    def pixels(name: str, seed: int, **more: Any) -> str:
        result = run.backend.imagine(
            description="a fox",
            model=run.checkpoint,
            width=64,
            height=64,
            quality="draft",
            seed=seed,
            output_path=run.folder / f"{name}.png",
            **more,
        )
        return digest(run.saved(result, "image"))

    first, same, other = pixels("a", 1), pixels("b", 1), pixels("c", 2)
    require(first == same, "the same seed gave other pixels")
    require(first != other, "another seed gave the same pixels")
    own = [name for name in loras if "conformance" in name]
    if own:
        require(pixels("d", 1, loras=[own[0]]) != first, "the LoRA changed nothing")
    return "same seed, other seed" + (", LoRA" if own else "")


def digest(path: Path) -> str:
    """Hash a picture's pixels, without its metadata."""
    from PIL import Image

    with Image.open(path) as picture:
        return hashlib.sha256(picture.tobytes()).hexdigest()


def cached(run: Run) -> str:
    """A workflow that was run before is answered from the cache, and its file comes again."""
    graph = graphs.picture(run.checkpoint, seed=77)
    first = run.saved(run.backend.workflow(graph, output_path=run.folder / "first.png"), "image")
    second = run.saved(run.backend.workflow(graph, output_path=run.folder / "second.png"), "image")
    require(digest(first) == digest(second), "the second picture is another")
    return "the same picture"


def upload(run: Run) -> str:
    """A file of this machine with a non-ASCII name goes up and comes back with the same pixels."""
    from PIL import Image

    place = run.folder / "Bild ü 日本.png"
    Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(place)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "back"}},
    }
    result = run.backend.workflow(graph, inputs={"mine.png": place}, output_path=run.folder / "back.png")
    require(digest(run.saved(result, "image")) == digest(place), "the pixels are others")
    return "the same pixels"


def speech(run: Run) -> str:
    """A text is said in the voice of a recording."""
    if "F5TTSAudioInputs" not in run.definitions:
        raise Skipped("it has no F5-TTS")
    voice = tone(run.folder / "voice ü.wav")
    result = run.backend.tts(
        text="Hello.",
        voice_reference=voice,
        voice_reference_text="This is my voice.",
        output_path=run.folder / "speech.flac",
    )
    return _with_models(run, result, "audio")


def lipsync(run: Run) -> str:
    """A portrait speaks a recording."""
    if "SONICTLoader" not in run.definitions:
        raise Skipped("it has no SONIC")
    from PIL import Image

    place = run.folder / "face.png"
    Image.linear_gradient("L").convert("RGB").resize((128, 128)).save(place)
    voice = tone(run.folder / "audio.wav")
    result = run.backend.lipsync(portrait_image=place, audio=voice, output_path=run.folder / "lips.mp4")
    return _with_models(run, result, "video")


def _with_models(run: Run, result: GenerationResult, kind: str) -> str:
    """Judge the result of a verb whose models may be absent: then the error must say so."""
    if result.success:
        return f"{run.saved(result, kind).stat().st_size} bytes"
    if any(words in f"{result.error} {getattr(result.exception, 'worker_error', '')}" for words in OFFLINE):
        raise Skipped(f"its models are not there: {result.error}"[:200])
    raise AssertionError(str(result.error))


def tone(path: Path, seconds: float = 6.0) -> Path:
    """Write a recording."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(
            b"".join((number * 257 % 8000).to_bytes(2, "little") for number in range(int(seconds * 16_000)))
        )
    return path


def refusals(run: Run) -> str:
    """A wrong sampler, a missing model, an unknown node and a missing input are named."""
    wrong_sampler = graphs.picture(run.checkpoint)
    wrong_sampler["sampler"]["inputs"]["sampler_name"] = "eular"
    missing_model = graphs.picture("no such model.safetensors")
    unknown = graphs.picture(run.checkpoint)
    unknown["save"]["class_type"] = "SaveHologram"
    missing_input = graphs.picture(run.checkpoint)
    del missing_input["sampler"]["inputs"]["steps"]
    for graph, words in (
        (wrong_sampler, "Did you mean euler?"),
        (missing_model, "no such model.safetensors"),
        (unknown, "SaveHologram"),
        (missing_input, "steps is missing"),
    ):
        result = run.backend.workflow(graph)
        require(isinstance(result.exception, JobError), f"it gave {result.exception!r}")
        require(words in str(result.error), f"{words!r} is not in: {result.error}")
    return "4 of 4"


def graph_check(run: Run) -> str:
    """The check before payment crashes on no graph and refuses none that the server runs."""
    workflows = []
    for name in ("PNG", "FLAC", "latent", "text"):
        try:
            workflows.append(graphs.output(run.definitions, name))
        except KeyError:
            continue
    with contextlib.suppress(Skipped):
        workflows += [graphs.picture(run.checkpoint)] * 2
    busy: AbstractContextManager[object] = contextlib.nullcontext()
    with contextlib.suppress(Skipped):
        busy = foreign_run(run, run.long_run())
    with busy:
        found = mutations.compare(run.comfyui, run.http, workflows, run.definitions, run.mutated)
    # The same mistake fails in the same way: a few of each kind are enough.
    several: dict[str, int] = {}
    doubtful = []
    for refusal, graph in found.doubtful:
        kind = refusal.partition(".")[0]
        several[kind] = several.get(kind, 0) + 1
        if several[kind] <= EACH:
            doubtful.append((refusal, graph))
    faults = [*found.crashes, *mutations.false_refusals(run.comfyui, run.http, doubtful)]
    require(not faults, f"{len(faults)} faults: {'; '.join(faults[:3])}")
    return ", ".join(f"{verdict} {count}" for verdict, count in sorted(found.counts.items()))


CHECKS: Final[Mapping[str, Callable[[Run], str]]] = {
    "health": health,
    **{f"output: {name}": outputs(name) for name in graphs.OUTPUTS},
    "output: MP4": video,
    "output: websocket image": websocket_image,
    "upload with a non-ASCII name": upload,
    "portrait, avatar with a non-ASCII name": portrait,
    "imagine: seeds and LoRA": imagine,
    "tts": speech,
    "lipsync": lipsync,
    "cached workflow": cached,
    "refusals name what is allowed": refusals,
    **QUEUE_CHECKS,
    "graph check against POST /prompt": graph_check,
}
