"""Write a checkpoint of the Stable Diffusion 1.5 kind with random weights, and a LoRA for it: 0.5 GB.

    PYTHON_OF_COMFYUI tiny_checkpoint.py COMFYUI_FOLDER MODELS_FOLDER

A program of its own, run with ComfyUI's packages. Its pictures are noise; files, seeds, LoRAs and progress
behave like those of a real checkpoint, and 64 by 64 pixels take seconds on a CPU.

Source: ComfyUI v0.29.0 and v0.33.0, comfy/supported_models.py (SD15) and comfy/sd1_clip_config.json.
"""

import json
import sys
from pathlib import Path

SEED = 20261130
CHECKPOINT = "checkpoints/conformance-sd15.safetensors"
LORA = "loras/conformance-lora.safetensors"
RANK = 4


def main(comfyui: Path, models: Path) -> None:
    """Write what is not there yet."""
    sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads the command line when it is imported
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch
    from safetensors.torch import save_file

    weights = {}
    with torch.no_grad():
        generator = torch.Generator().manual_seed(SEED)
        for prefix, module in parts(comfyui):
            for name, tensor in module.state_dict().items():
                weights[f"{prefix}{name}"] = random_like(tensor, name, generator)
        # The projections of text attention are what SD 1.5 LoRAs change.
        names = [name for name in weights if name.endswith(("attn2.to_q.weight", "attn2.to_v.weight"))]
        lora = {}
        for name in names:
            rows, columns = weights[name].shape
            key = name.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")
            lora[f"lora_unet_{key}.lora_up.weight"] = torch.randn(rows, RANK, generator=generator).half() / 8
            lora[f"lora_unet_{key}.lora_down.weight"] = (
                torch.randn(RANK, columns, generator=generator).half() / 8
            )
            lora[f"lora_unet_{key}.alpha"] = torch.tensor(float(RANK))
    for place, tensors in ((CHECKPOINT, weights), (LORA, lora)):
        path = models / place
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        part.replace(path)


def parts(comfyui: Path):
    """Make the three models of a checkpoint, small where ComfyUI reads the size from the weights."""
    import torch
    from comfy import ops
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    levels = 2
    unet = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        context_dim=768,
        num_heads=8,
        channel_mult=[1] * levels,
        num_res_blocks=[1] * levels,
        transformer_depth=[1] * levels,
        transformer_depth_output=[1] * (2 * levels),
        transformer_depth_middle=1,
        use_spatial_transformer=True,
        legacy=False,
        dtype=torch.float32,
        operations=ops.manual_cast,
    )
    yield "model.diffusion_model.", unet
    # The decoder and the text encoder have the sizes that ComfyUI takes for granted.
    vae = {
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "z_channels": 4,
        "double_z": True,
        "in_channels": 3,
        "out_ch": 3,
        "resolution": 256,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    yield "first_stage_model.", AutoencoderKL(ddconfig=vae, embed_dim=4)
    text = json.loads((comfyui / "comfy" / "sd1_clip_config.json").read_text(encoding="utf-8"))
    yield "cond_stage_model.transformer.", CLIPTextModel(text, torch.float32, "cpu", ops.manual_cast)


def random_like(tensor, name: str, generator):
    """Make weights that keep numbers finite: small matrices, and norms that change nothing."""
    import torch

    if not tensor.is_floating_point():
        return tensor.clone()
    if tensor.ndim > 1:
        return (torch.randn(tensor.shape, generator=generator) * 0.02).half()
    return (torch.ones if name.endswith("weight") else torch.zeros)(tensor.shape).half()


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:3]))
