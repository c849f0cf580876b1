"""A portrait that says what an audio file says, with SONIC on Stable Video Diffusion."""

from typing import Final

from backend.comfyui.workflows import Graph, Link

SVD_FOLDER: Final = "video/"
"""Under checkpoints/, the only category that ImageOnlyCheckpointLoader looks into."""


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
