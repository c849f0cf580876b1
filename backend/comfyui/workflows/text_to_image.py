"""Text to picture, for every checkpoint that holds model, text encoders and VAE in one file."""

from collections.abc import Sequence

from backend.comfyui.workflows import Graph
from backend.comfyui.workflows.architectures import Architecture
from backend.verbs.params import Lora


def picture(
    architecture: Architecture,
    *,
    checkpoint: str,
    prompt: str,
    negative_prompt: str,
    width: int,
    height: int,
    steps: int,
    cfg: float,
    seed: int,
    sampler: str,
    scheduler: str,
    filename_prefix: str,
    loras: Sequence[Lora] = (),
) -> Graph:
    """Build the graph.

    Args:
        architecture: of the checkpoint.
        cfg: classifier-free guidance; for Flux it goes into FluxGuidance and the sampler runs at 1,
            where it ignores the negative prompt.

    Source: recordings txt2img_tiny_sd15_lora and object_info_full, v0.29.0 and v0.3.64.
    """
    graph: Graph = {
        "checkpoint": _node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "positive": _node("CLIPTextEncode", text=prompt),
        "negative": _node("CLIPTextEncode", text="" if architecture.is_flux else negative_prompt),
        "latent": _node(
            "EmptySD3LatentImage" if architecture.is_flux else "EmptyLatentImage",
            width=width,
            height=height,
            batch_size=1,
        ),
        "sampler": _node(
            "KSampler",
            seed=seed,
            steps=steps,
            cfg=1.0 if architecture.is_flux else cfg,
            sampler_name=sampler,
            scheduler=scheduler,
            denoise=1.0,
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
        ),
        "decode": _node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": _node("SaveImage", images=["decode", 0], filename_prefix=filename_prefix),
    }
    if architecture.is_flux:
        graph["guidance"] = _node("FluxGuidance", conditioning=["positive", 0], guidance=cfg)
        graph["sampler"]["inputs"]["positive"] = ["guidance", 0]
    model, clip = ["checkpoint", 0], ["checkpoint", 1]
    for number, lora in enumerate(loras, start=1):
        graph[f"lora_{number}"] = _node(
            "LoraLoader",
            lora_name=lora["name"],
            strength_model=lora.get("strength_model", 1.0),
            strength_clip=lora.get("strength_clip", 1.0),
            model=model,
            clip=clip,
        )
        model, clip = [f"lora_{number}", 0], [f"lora_{number}", 1]
    graph["sampler"]["inputs"]["model"] = model
    graph["positive"]["inputs"]["clip"] = clip
    graph["negative"]["inputs"]["clip"] = clip
    return graph


def _node(class_type: str, **inputs: object) -> dict[str, object]:
    return {"class_type": class_type, "inputs": inputs}
