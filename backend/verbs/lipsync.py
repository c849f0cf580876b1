"""``lipsync``: a portrait that says what an audio file says, with SONIC on Stable Video Diffusion."""

from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Required, TypeAlias, TypedDict

from backend.errors import InvalidArgument
from backend.verbs.params import InputLike, OutputPath, Param, Seed31
from backend.verbs.request import Request
from backend.verbs.seed import filename_prefix, seed_of
from backend.verbs.verb import Graph, GraphContext, Link, Lookup, Planned, Verb

SVD_FOLDER: Final = "video/"
"""Under checkpoints/, the only category that ImageOnlyCheckpointLoader looks into."""
WHOLE_AUDIO_S: Final = 3600.0
"""Sent where the length could not be read: the node uses what there is."""

# Arguments that `talk` has too.
PortraitImage: TypeAlias = Annotated[InputLike, Param("A picture with a frontal face.")]
InferenceSteps: TypeAlias = Annotated[int, Param("Sampling steps.", default=25, low=1, high=1024)]
FramesPerSecond: TypeAlias = Annotated[float, Param("Frames a second.", default=25.0, low=5, high=120)]


class LipSyncParams(TypedDict, total=False):
    """Arguments of ``lipsync``."""

    portrait_image: Required[PortraitImage]
    audio: Required[Annotated[InputLike, Param("Recording to speak, at least a second long.")]]
    duration: Annotated[
        float, Param("Seconds of audio to use; by default all of it.", low=1, high=WHOLE_AUDIO_S)
    ]
    inference_steps: InferenceSteps
    fps: FramesPerSecond
    svd_checkpoint: Annotated[
        str, Param("SVD checkpoint, in checkpoints/video/.", default="svd_xt_1_1.safetensors")
    ]
    sonic_unet: Annotated[str, Param("SONIC's UNet, in sonic/.", default="unet.pth")]
    dtype: Annotated[Literal["fp16", "fp32", "bf16"], Param("Precision.", default="fp16")]
    min_resolution: Annotated[
        int,
        Param("Shorter side in pixels; less needs less memory.", default=512, low=128, high=2048, step=64),
    ]
    expand_ratio: Annotated[
        float, Param("Room around the face, as a share of it.", default=0.5, low=0.1, high=1)
    ]
    dynamic_scale: Annotated[float, Param("How much the head moves.", default=1.0, low=0.5, high=2)]
    ip_audio_scale: Annotated[float, Param("How closely the mouth follows.", default=1.0, low=0.5, high=2)]
    use_interframe: Annotated[bool, Param("Smooth by interpolated frames.", default=True)]
    seed: Seed31
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build the graph.

    Raises:
        InvalidArgument: the audio is shorter than a second.
    """
    audio = yield from context.bring(request["audio"])
    length_s = yield from context.audio_duration_s(request["audio"], audio)
    if length_s is not None and length_s < 1.0:
        raise InvalidArgument(f"lipsync: audio is {length_s:.2f} s long, and SONIC needs at least a second.")
    portrait = yield from context.bring(request["portrait_image"])
    duration_s: float | None = request["duration"]
    warnings = []
    if duration_s is not None and length_s is not None and duration_s > length_s + 1:
        warnings.append(f"duration is {duration_s:g} s, but the audio ends after {length_s:.1f} s.")
    seed = seed_of(request)
    graph = talking_head(
        portrait=portrait,
        audio=audio,
        duration_s=round(min(duration_s or WHOLE_AUDIO_S, length_s or WHOLE_AUDIO_S), 2),
        filename_prefix=filename_prefix(request, seed),
        **sonic_settings(replace(request, given={**request.given, "seed": seed})),
    )
    return Planned(graph=graph, seed=seed, warnings=tuple(warnings))


def sonic_settings(request: Request) -> dict[str, Any]:
    """Return SONIC's settings, by the names that `talking_head` has for them."""
    return {
        **{name: request[name] for name in _SONIC},
        "svd_checkpoint": svd_name(request["svd_checkpoint"]),
    }


_SONIC: Final = (
    "seed", "inference_steps", "fps", "sonic_unet", "dtype", "min_resolution", "expand_ratio",
    "dynamic_scale", "ip_audio_scale", "use_interframe",
)  # fmt: skip


def talking_head(
    *,
    portrait: str,
    audio: str | Link,
    duration_s: float,
    inference_steps: int,
    fps: float,
    svd_checkpoint: str,
    sonic_unet: str,
    dtype: str,
    min_resolution: int,
    expand_ratio: float,
    dynamic_scale: float,
    ip_audio_scale: float,
    use_interframe: bool,
    seed: int,
    filename_prefix: str,
) -> Graph:
    """Build the graph.

    Args:
        portrait, audio: as LoadImage and LoadAudio name them; the audio may also come from another node.
        duration_s: how much of the audio is used, at least 1.

    Source: smthemex/ComfyUI_Sonic 8556234: ``weight_dtype`` is a link to the loader's second output,
        not a text (recordings object_info_vhs_sonic, sonic_talking_head_placeholder_models). CreateVideo
        and SaveVideo are ComfyUI's own, so that no video pack is needed.
    """
    sound = ["audio", 0] if isinstance(audio, str) else audio
    loaded: Graph = {"audio": {"class_type": "LoadAudio", "inputs": {"audio": audio}}}
    return (loaded if isinstance(audio, str) else {}) | {
        "svd": {"class_type": "ImageOnlyCheckpointLoader", "inputs": {"ckpt_name": svd_checkpoint}},
        "portrait": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "sonic": {
            "class_type": "SONICTLoader",
            "inputs": {
                "model": ["svd", 0],
                "sonic_unet": sonic_unet,
                "ip_audio_scale": ip_audio_scale,
                "use_interframe": use_interframe,
                "dtype": dtype,
            },
        },
        "features": {
            "class_type": "SONIC_PreData",
            "inputs": {
                "clip_vision": ["svd", 1],
                "vae": ["svd", 2],
                "audio": sound,
                "image": ["portrait", 0],
                "weight_dtype": ["sonic", 1],
                "min_resolution": min_resolution,
                "duration": duration_s,
                "expand_ratio": expand_ratio,
            },
        },
        "sampler": {
            "class_type": "SONICSampler",
            "inputs": {
                "model": ["sonic", 0],
                "data_dict": ["features", 0],
                "seed": seed,
                "inference_steps": inference_steps,
                "dynamic_scale": dynamic_scale,
                "fps": fps,
            },
        },
        "video": {
            "class_type": "CreateVideo",
            "inputs": {"images": ["sampler", 0], "fps": ["sampler", 1], "audio": sound},
        },
        "save": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["video", 0],
                "filename_prefix": filename_prefix,
                "format": "mp4",
                "codec": "h264",
            },
        },
    }


def svd_name(checkpoint: str) -> str:
    """Return an SVD checkpoint's name with its folder, however it was given."""
    return checkpoint if "/" in checkpoint else SVD_FOLDER + checkpoint


VERB: Final = Verb(
    name="lipsync",
    arguments=LipSyncParams,
    summary="Make a portrait say what an audio file says.",
    tool="Make a video of a portrait speaking a recording, as an MP4 file. Takes minutes: expect "
    'status "running". To start from a text instead of a recording use talk.',
    suffix=".mp4",
    graph=build,
)
