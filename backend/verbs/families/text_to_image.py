"""Text to picture, for every checkpoint that holds model, text encoders and VAE in one file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backend.verbs.families.architectures import Architecture, recognise
from backend.verbs.params import DEFAULT_CHECKPOINT, Lora
from backend.verbs.request import Request
from backend.verbs.seed import filename_prefix, seed_of
from backend.verbs.verb import Graph, GraphContext, Lookup, Planned


def planned_picture(
    request: Request, context: GraphContext, values: Callable[[Request, Architecture], dict[str, Any]]
) -> Lookup[Planned]:
    """Build the graph of a verb that makes a picture with a checkpoint.

    Args:
        request: with model, negative_prompt, loras and seed.
        context: the ComfyUI.
        values: the other arguments of `picture`, for the checkpoint's architecture.
    """
    named: str | None = request["model"]
    checkpoint, warnings = (named, []) if named else (yield from _available(context))
    metadata: Mapping[str, str] = {}
    if checkpoint.endswith(".safetensors"):
        metadata = yield from context.metadata("checkpoints", checkpoint)
    architecture, certain = recognise(checkpoint, metadata)
    if not certain:
        warnings.append(f"What {checkpoint} is could not be told; it is treated as {architecture.name}.")
    seed = seed_of(request)
    graph = picture(
        architecture,
        checkpoint=checkpoint,
        negative_prompt=request["negative_prompt"],
        seed=seed,
        loras=request["loras"] or (),
        filename_prefix=filename_prefix(request, seed),
        **values(request, architecture),
    )
    return Planned(
        graph=graph,
        seed=seed,
        warnings=tuple(warnings),
        chosen_inputs=frozenset() if named else frozenset({"ckpt_name"}),
    )


def _available(context: GraphContext) -> Lookup[tuple[str, list[str]]]:
    """Choose a checkpoint: the default one, else the first that makes pictures."""
    names = sorted(str(name) for name in (yield from context.options("CheckpointLoaderSimple", "ckpt_name")))
    for name in names:
        if name.rpartition("/")[2] == DEFAULT_CHECKPOINT:
            return name, []
    usable = [name for name in names if not name.startswith(("video/", "F5-TTS/")) and "svd" not in name]
    if not usable:
        return DEFAULT_CHECKPOINT, []
    return usable[0], [f"No model was given and {DEFAULT_CHECKPOINT} is not there: {usable[0]} was used."]


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
