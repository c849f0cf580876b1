"""Nodes that make films of pictures: ComfyUI's own and those of VideoHelperSuite."""

from __future__ import annotations

from typing import Any

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Film, Picture, Shown, Sound
from emulator.comfyui.media import video_encoding as films
from emulator.comfyui.nodes.declarations import Input, boolean, choice, integer, link, node, number, text

VHS = "custom_nodes.ComfyUI-VideoHelperSuite"
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params", "log-level=error")
ENCODERS = {
    "video/h264-mp4": (".mp4", films.H264),
    "video/h265-mp4": (".mp4", HEVC),
    "video/webm": (".webm", VP9),
}
ANIMATIONS = {"image/gif": ".gif", "image/webp": ".webp"}
BIT_DEPTH = {"default": 8, "min": 8, "max": 10, "step": 2}
FORMATS = (
    *ANIMATIONS,
    "video/ProRes",
    "video/webm",
    "video/ffv1-mkv",
    "video/nvenc_av1-mp4",
    "video/h265-mp4",
    "video/8bit-png",
    "video/h264-mp4",
    "video/nvenc_hevc-mp4",
    "video/nvenc_h264-mp4",
    "video/ffmpeg-gif",
    "video/av1-webm",
    "video/16bit-png",
)


@node(
    "CreateVideo",
    inputs={
        "images": link("IMAGE"),
        "fps": number(30.0, 1.0, 120.0, 1.0),
        "audio": link("AUDIO", required=False),
        "bit_depth": Input("INT", BIT_DEPTH, required=False, only_modern=True),
    },
    outputs=("VIDEO",),
    category="video",
    title="Create Video",
    module="comfy_extras.nodes_video",
)
def create_video(run: Run, images: Picture, fps: float, audio: Sound | None = None, **_: int) -> tuple[Film]:
    """Put pictures and sound together."""
    return (Film(images, fps, audio),)


@node(
    "SaveVideo",
    inputs={
        "video": link("VIDEO"),
        "filename_prefix": text("video/ComfyUI", multiline=False),
        "format": choice("auto", "mp4", default="auto"),
        "codec": choice("auto", "h264", default="auto"),
    },
    outputs=("VIDEO",),
    names=("video",),
    category="video",
    title="Save Video",
    module="comfy_extras.nodes_video",
    is_output=True,
    passes_through=True,
    combos="new",
)
def save_video(run: Run, video: Film, filename_prefix: str, format: str, codec: str) -> Shown:  # noqa: A002
    """Write an MP4 file; history lists it among the images, as animated."""
    place = run.place(filename_prefix, width=video.frames.width, height=video.frames.height)
    name = f"{place.stem}_{place.counter:05}_.mp4"
    films.write(video, place.folder / name, films.H264, run.check)
    shown = {"filename": name, "subfolder": place.subfolder, "type": "output"}
    return Shown((video,), {"images": [shown], "animated": [True]})


@node(
    "VHS_VideoCombine",
    inputs={
        "images": link("IMAGE"),
        "frame_rate": number(8, 1, None, 1),
        "loop_count": integer(0, 0, 100, 1),
        "filename_prefix": text("AnimateDiff"),
        "format": choice(*FORMATS),
        "pingpong": boolean(default=False),
        "save_output": boolean(default=True),
        "audio": link("AUDIO", required=False),
        "meta_batch": link("VHS_BatchManager", required=False),
        "vae": link("VAE", required=False),
    },
    outputs=("VHS_FILENAMES",),
    names=("Filenames",),
    category="Video Helper Suite 🎥🅥🅗🅢",
    title="Video Combine 🎥🅥🅗🅢",
    module=VHS,
    is_output=True,
)
def vhs_video_combine(
    run: Run,
    images: Picture,
    frame_rate: float,
    filename_prefix: str,
    format: str,  # noqa: A002 - the node's own word
    pingpong: bool,
    save_output: bool,
    audio: Sound | None = None,
    **_: Any,
) -> Shown:
    """Write a first frame, a silent film, and one with sound; history names the last, among the `gifs`."""
    if pingpong and images.count > 2:
        images = _there_and_back(images)
    kind = "output" if save_output else "temp"
    place = run.place(filename_prefix, kind=kind, width=images.width, height=images.height)
    stem = f"{place.stem}_{place.counter:05}"
    still = f"{stem}.png"
    images.draw(0).save(place.folder / still, "PNG")
    run.report(0, images.count, None)
    film = Film(images, frame_rate)
    if format in ANIMATIONS:
        name = stem + ANIMATIONS[format]
        films.write_animation(film, place.folder / name, run.check)
    elif format in ENCODERS:
        suffix, codec = ENCODERS[format]
        name = stem + suffix
        films.write(film, place.folder / name, codec, run.check)
        if audio is not None:
            silent, name = place.folder / name, f"{stem}-audio{suffix}"
            heard = Film(images, frame_rate, audio)
            films.add_sound(silent, place.folder / name, heard)
    else:
        raise Failure("Exception", f"the stand-in does not write {format}")
    run.report(images.count, images.count, None)
    shown = {
        "filename": name,
        "subfolder": place.subfolder,
        "type": kind,
        "format": format,
        "frame_rate": frame_rate,
        "workflow": still,
        "fullpath": str(place.folder / name),
    }
    return Shown(((save_output, [str(place.folder / name)]),), {"gifs": [shown]})


def _there_and_back(images: Picture) -> Picture:
    last = images.count - 1
    return Picture(
        images.width,
        images.height,
        2 * last,
        lambda index: images.draw(index if index <= last else 2 * last - index),
    )
