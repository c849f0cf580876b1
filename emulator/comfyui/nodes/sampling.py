"""Nodes between a prompt and a latent. Sampling draws a portrait instead of denoising one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.comfyui.graph.run import Run
from emulator.comfyui.graph.values import Conditioning, Latent, Picture, Weights
from emulator.comfyui.media import image_rendering
from emulator.comfyui.nodes.declarations import Input, choice, integer, link, node, number, text, words
from emulator.comfyui.nodes.loaders import out_of_memory

if TYPE_CHECKING:
    from PIL.Image import Image

SEED_MAX = 2**64 - 1
SCHEDULERS = words(
    "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal"
)
SAMPLERS = words(
    """euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms
    dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m
    dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
    dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral
    res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3
    sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2"""
)
BYTES_PER_PIXEL = 1_500
"""What sampling one pixel takes on the GPU, about: 1024² in SDXL takes some GiB."""


def sample(
    run: Run, model: Weights, prompt: str, seed: int, steps: int, latent: Latent, denoise: float
) -> Latent:
    """Go through the steps and return a latent that decodes to a drawing.

    Raises:
        Failure: the batch is too big for the GPU.
    """
    required = latent.width * latent.height * latent.count * BYTES_PER_PIXEL / 2**30
    if required > run.knobs.vram_gb:
        raise out_of_memory(required, run.knobs.vram_gb)
    loras = "".join(f" + {name}" for name in model.loras)
    start = latent.picture

    def draw(index: int) -> Image:
        caption = f"{model.name}{loras} · seed {seed + index} · {steps} steps"
        fresh = image_rendering.portrait(prompt, seed + index, latent.width, latent.height, caption)
        if start is None or denoise >= 1.0:
            return fresh
        return image_rendering.blend(start.draw(index), fresh, denoise)

    picture = Picture(latent.width, latent.height, latent.count, draw)
    run.steps(steps, lambda: image_rendering.preview(image_rendering.noise_blend(draw(0), 0.5)))
    return Latent(latent.width, latent.height, latent.count, picture)


@node(
    "CLIPTextEncode",
    inputs={"text": text(multiline=True, dynamicPrompts=True), "clip": link("CLIP")},
    outputs=("CONDITIONING",),
    category="model/conditioning",
    title="CLIP Text Encode (Prompt)",
)
def clip_text_encode(run: Run, text: str, clip: Weights) -> tuple[Conditioning]:
    """Encode a prompt."""
    return (Conditioning(text),)


@node(
    "FluxGuidance",
    inputs={"conditioning": link("CONDITIONING"), "guidance": number(3.5, 0.0, 100.0, 0.1)},
    outputs=("CONDITIONING",),
    category="model/conditioning/flux",
    module="comfy_extras.nodes_flux",
)
def flux_guidance(run: Run, conditioning: Conditioning, guidance: float) -> tuple[Conditioning]:
    """Set how closely Flux follows a prompt."""
    return (Conditioning(conditioning.text, guidance),)


def _sides(default: int, step: int) -> dict[str, Input]:
    side = integer(default, 16, 16384, step)
    return {"width": side, "height": side, "batch_size": integer(1, 1, 4096)}


@node(
    "EmptyLatentImage",
    inputs=_sides(512, 8),
    outputs=("LATENT",),
    category="model/latent",
    title="Empty Latent Image",
)
def empty_latent_image(run: Run, width: int, height: int, batch_size: int) -> tuple[Latent]:
    """Start from nothing; sides are cut to whole latent cells of 8 pixels."""
    return (Latent(width // 8 * 8, height // 8 * 8, batch_size),)


@node(
    "EmptySD3LatentImage",
    inputs=_sides(1024, 16),
    outputs=("LATENT",),
    category="model/latent/stable diffusion",
    module="comfy_extras.nodes_sd3",
)
def empty_sd3_latent_image(run: Run, width: int, height: int, batch_size: int) -> tuple[Latent]:
    """Start from nothing, for models with 16 latent channels."""
    return (Latent(width // 8 * 8, height // 8 * 8, batch_size),)


DENOISE = number(1.0, 0.0, 1.0)


@node(
    "KSampler",
    inputs={
        "model": link("MODEL"),
        "seed": integer(0, 0, SEED_MAX, control_after_generate=True),
        "steps": integer(20, 1, 10_000),
        "cfg": number(8.0, 0.0, 100.0, 0.1),
        "sampler_name": choice(*SAMPLERS),
        "scheduler": choice(*SCHEDULERS),
        "positive": link("CONDITIONING"),
        "negative": link("CONDITIONING"),
        "latent_image": link("LATENT"),
        "denoise": DENOISE,
    },
    outputs=("LATENT",),
    category="model/sampling",
)
def ksampler(
    run: Run,
    model: Weights,
    seed: int,
    steps: int,
    positive: Conditioning,
    latent_image: Latent,
    denoise: float,
    **_: object,
) -> tuple[Latent]:
    """Sample in one node."""
    return (sample(run, model, positive.text, seed, steps, latent_image, denoise),)


@node(
    "RandomNoise",
    inputs={"noise_seed": integer(0, 0, SEED_MAX, control_after_generate=True)},
    outputs=("NOISE",),
    category="model/sampling/noise",
    module="comfy_extras.nodes_custom_sampler",
)
def random_noise(run: Run, noise_seed: int) -> tuple[int]:
    """Return the noise of a seed: the seed itself."""
    return (noise_seed,)


@node(
    "KSamplerSelect",
    inputs={"sampler_name": choice(*SAMPLERS)},
    outputs=("SAMPLER",),
    category="model/sampling/samplers",
    module="comfy_extras.nodes_custom_sampler",
    combos="new since 0.29",
)
def ksampler_select(run: Run, sampler_name: str) -> tuple[str]:
    """Choose a sampler."""
    return (sampler_name,)


@node(
    "BasicScheduler",
    inputs={
        "model": link("MODEL"),
        "scheduler": choice(*SCHEDULERS),
        "steps": integer(20, 1, 10_000),
        "denoise": DENOISE,
    },
    outputs=("SIGMAS",),
    category="model/sampling/schedulers",
    module="comfy_extras.nodes_custom_sampler",
    combos="new since 0.29",
)
def basic_scheduler(
    run: Run, model: Weights, scheduler: str, steps: int, denoise: float
) -> tuple[tuple[int, float]]:
    """Plan the steps: how many, and from how much noise."""
    return ((steps, denoise),)


@node(
    "BasicGuider",
    inputs={"model": link("MODEL"), "conditioning": link("CONDITIONING")},
    outputs=("GUIDER",),
    category="model/sampling/guiders",
    title="Basic Guider",
    module="comfy_extras.nodes_custom_sampler",
)
def basic_guider(run: Run, model: Weights, conditioning: Conditioning) -> tuple[tuple[Weights, Conditioning]]:
    """Bind a model to a prompt."""
    return ((model, conditioning),)


@node(
    "SamplerCustomAdvanced",
    inputs={
        "noise": link("NOISE"),
        "guider": link("GUIDER"),
        "sampler": link("SAMPLER"),
        "sigmas": link("SIGMAS"),
        "latent_image": link("LATENT"),
    },
    outputs=("LATENT", "LATENT"),
    names=("output", "denoised_output"),
    category="model/sampling/custom",
    module="comfy_extras.nodes_custom_sampler",
)
def sampler_custom_advanced(
    run: Run,
    noise: int,
    guider: tuple[Weights, Conditioning],
    sampler: str,
    sigmas: tuple[int, float],
    latent_image: Latent,
) -> tuple[Latent, Latent]:
    """Sample from parts, as Flux graphs do."""
    model, conditioning = guider
    steps, denoise = sigmas
    latent = sample(run, model, conditioning.text, noise, steps, latent_image, denoise)
    return latent, latent
