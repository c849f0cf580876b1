"""What a checkpoint is, and what suits it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Name = Literal["sd15", "sdxl", "pony", "illustrious", "flux-schnell", "flux-dev"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How to sample from a kind of checkpoint.

    Attributes:
        portrait, picture: width and height in pixels that it was trained near.
        steps: by quality, draft to ultra.
        cfg: classifier-free guidance; for Flux the FluxGuidance, since it samples at cfg 1.
    """

    name: Name
    portrait: tuple[int, int]
    picture: tuple[int, int]
    portrait_steps: int
    steps: Mapping[str, int]
    cfg: float
    sampler: str
    scheduler: str

    @property
    def is_flux(self) -> bool:
        """Flux takes no negative prompt and its guidance as a conditioning."""
        return self.name.startswith("flux")


def _steps(draft: int, standard: int, high: int, ultra: int) -> Mapping[str, int]:
    return {"draft": draft, "standard": standard, "high": high, "ultra": ultra}


def _xl(name: Name) -> Architecture:
    return Architecture(
        name=name,
        portrait=(768, 1024),
        picture=(1024, 1024),
        portrait_steps=20,
        steps=_steps(15, 25, 35, 40),
        cfg=7.0,
        sampler="euler_ancestral",
        scheduler="normal",
    )


def _flux(name: Name, portrait_steps: int, steps: Mapping[str, int], guidance: float) -> Architecture:
    return Architecture(
        name=name,
        portrait=(768, 1024),
        picture=(1024, 1024),
        portrait_steps=portrait_steps,
        steps=steps,
        cfg=guidance,
        sampler="euler",
        scheduler="simple",
    )


ARCHITECTURES: Final[Mapping[Name, Architecture]] = {
    "sd15": Architecture(
        name="sd15",
        portrait=(512, 768),
        picture=(512, 512),
        portrait_steps=20,
        steps=_steps(15, 25, 35, 50),
        cfg=7.0,
        sampler="euler_ancestral",
        scheduler="normal",
    ),
    "sdxl": _xl("sdxl"),
    "pony": _xl("pony"),
    "illustrious": _xl("illustrious"),
    # Schnell is distilled to four steps and has no guidance input to speak of.
    "flux-schnell": _flux("flux-schnell", 4, _steps(2, 4, 8, 12), 3.5),
    "flux-dev": _flux("flux-dev", 20, _steps(12, 20, 28, 40), 3.5),
}

_SD15: Final = (
    r"v1-5|sd[-_ ]?v?1[-_.]?5|stable[-_ ]?diffusion[-_ ]?v?1|deliberate|dreamshaper"
    r"|realistic[-_ ]?vision|cyberrealistic|epicrealism|anything[-_ ]?v?[3-5]"
)
# The first that fits decides. "xl" in a name outranks the names of families that exist for both.
_NAMES: Final[tuple[tuple[str, Name], ...]] = (
    (r"schnell", "flux-schnell"),
    (r"flux", "flux-dev"),
    (r"pony|pdxl|score_", "pony"),
    (r"illustrious|noob|wai.*xl|anim.*xl|novelai.*xl", "illustrious"),
    (r"xl", "sdxl"),
    (_SD15, "sd15"),
)
# Source: the modelspec of safetensors metadata, github.com/Stability-AI/ModelSpec (read 2026-08).
_METADATA: Final[tuple[tuple[str, Name], ...]] = (
    (r"flux-1-schnell", "flux-schnell"),
    (r"flux", "flux-dev"),
    (r"stable-diffusion-xl", "sdxl"),
    (r"stable-diffusion-v1", "sd15"),
)


def recognise(checkpoint: str, metadata: Mapping[str, str] | None = None) -> tuple[Architecture, bool]:
    """Tell a checkpoint's architecture, from its metadata, else from its name.

    Args:
        checkpoint: file name.
        metadata: the ``__metadata__`` of a safetensors file, where it is known.

    Returns:
        The architecture, and False where neither said it and SDXL is only the likeliest.
    """
    stated = (metadata or {}).get("modelspec.architecture", "").lower()
    by_name = _first(_NAMES, checkpoint.rpartition("/")[2].lower())
    by_metadata = _first(_METADATA, stated)
    # Pony and Illustrious are SDXL by their metadata; only their names tell them apart.
    if by_metadata == "sdxl" and by_name in ("pony", "illustrious"):
        return ARCHITECTURES[by_name], True
    found = by_metadata or by_name
    return ARCHITECTURES[found or "sdxl"], found is not None


def _first(patterns: tuple[tuple[str, Name], ...], text: str) -> Name | None:
    return next((name for pattern, name in patterns if re.search(pattern, text)), None)
