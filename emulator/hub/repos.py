"""The repositories that the emulated Hugging Face has: real names, real layouts, small files of our own."""

from __future__ import annotations

from dataclasses import dataclass, field

KB = 1024
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """One repository as it is at start.

    Attributes:
        files: path → size in bytes; README.md and .gitattributes are added to each.
        gated: False, "auto" or "manual".
        revision: commit hash of its main branch; None for one of our own making.
        architecture: told by the metadata of its safetensors files.
    """

    name: str
    files: dict[str, int]
    license: str | None = None
    gated: bool | str = False
    private: bool = False
    revision: str | None = None
    architecture: str | None = None
    moved_to: str | None = None
    tags: tuple[str, ...] = field(default=())


SONIC_FLAT = {
    "unet.pth": 3 * MB,
    "audio2token.pth": 300 * KB,
    "audio2bucket.pth": 150 * KB,
    "yoloface_v5m.pt": 120 * KB,
    "RIFE/flownet.pkl": 60 * KB,
}

REPOSITORIES = (
    Listed(
        "LeonJoe13/Sonic",
        {
            **{f"Sonic/{name}": size for name, size in SONIC_FLAT.items() if name.endswith(".pth")},
            "yoloface_v5m.pt": SONIC_FLAT["yoloface_v5m.pt"],
            "RIFE/flownet.pkl": SONIC_FLAT["RIFE/flownet.pkl"],
        },
    ),
    Listed(
        "RedbeardNZ/comfyui-sonic-models", SONIC_FLAT, revision="1cf858513a5ea35c94905eec5a2153e26fd59be6"
    ),
    Listed(
        "openai/whisper-tiny",
        {"config.json": 2 * KB, "preprocessor_config.json": 2 * KB, "model.safetensors": 200 * KB},
        license="apache-2.0",
        revision="169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
        architecture="whisper",
    ),
    Listed(
        "openai/whisper-large-v3-turbo",
        {
            **dict.fromkeys(
                (
                    "added_tokens.json",
                    "config.json",
                    "generation_config.json",
                    "normalizer.json",
                    "preprocessor_config.json",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.json",
                ),
                KB,
            ),
            "merges.txt": KB,
            "model.safetensors": 400 * KB,
        },
        license="mit",
        revision="41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
        architecture="whisper",
    ),
    Listed(
        "stabilityai/stable-video-diffusion-img2vid-xt-1-1",
        {"svd_xt_1_1.safetensors": 4 * MB, "model_index.json": KB},
        license="other",
        gated="auto",
        architecture="stable-video-diffusion-v1",
    ),
    Listed(
        "stabilityai/stable-video-diffusion-img2vid-xt",
        {"svd_xt.safetensors": 4 * MB},
        license="other",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        architecture="stable-video-diffusion-v1",
    ),
    Listed(
        "weights/stable-video-diffusion-img2vid-xt-1-1",
        {"svd_xt_1_1.safetensors": 4 * MB},
        license="other",
        architecture="stable-video-diffusion-v1",
    ),
    Listed(
        "SWivid/F5-TTS",
        {
            "F5TTS_v1_Base/model_1250000.safetensors": 2 * MB,
            "F5TTS_v1_Base/vocab.txt": 2 * KB,
            "F5TTS_Base/model_1200000.safetensors": 1 * MB,
            "F5TTS_Base/vocab.txt": 2 * KB,
        },
        license="cc-by-nc-4.0",
        revision="84e5a410d9cead4de2f847e7c9369a6440bdfaca",
        architecture="f5-tts",
    ),
    Listed(
        "charactr/vocos-mel-24khz",
        {"config.yaml": KB, "pytorch_model.bin": 500 * KB},
        license="mit",
        revision="0feb3fdd929bcd6649e0e7c5a688cf7dd012ef21",
    ),
    Listed(
        "stabilityai/stable-diffusion-xl-base-1.0",
        {"sd_xl_base_1.0.safetensors": 5 * MB},
        license="openrail++",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        architecture="stable-diffusion-xl-v1-base",
    ),
    Listed(
        "Comfy-Org/stable-diffusion-v1-5-archive",
        {"v1-5-pruned-emaonly-fp16.safetensors": 3 * MB, "v1-5-pruned-emaonly.safetensors": 4 * MB},
        license="creativeml-openrail-m",
        revision="4fddeb7f9096623f1b77f4708feb96126a08a0cf",
        architecture="stable-diffusion-v1",
    ),
    Listed("runwayml/stable-diffusion-v1-5", {}, moved_to="Comfy-Org/stable-diffusion-v1-5-archive"),
    Listed(
        "Comfy-Org/flux1-schnell",
        {"flux1-schnell-fp8.safetensors": 6 * MB},
        license="apache-2.0",
        revision="0cb207e7e753453ef479ae266caf7c1ab364e363",
        architecture="flux-1-schnell",
    ),
    Listed(
        "madebyollin/sdxl-vae-fp16-fix",
        {"sdxl_vae.safetensors": 400 * KB, "config.json": KB},
        license="mit",
        revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
        architecture="stable-diffusion-xl-v1-base/vae",
    ),
    Listed(
        "Comfy-Org/z_image_turbo",
        {
            "split_files/diffusion_models/z_image_turbo_bf16.safetensors": 4 * MB,
            "split_files/text_encoders/qwen_3_4b.safetensors": 2 * MB,
            "split_files/vae/ae.safetensors": 400 * KB,
        },
        license="apache-2.0",
        revision="08d04455279082882deaabc8d0d09fc914c071e1",
        architecture="z-image-turbo",
    ),
)
