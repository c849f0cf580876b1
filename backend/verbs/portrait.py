"""``portrait``: a picture of a person, from a prompt."""

from typing import Annotated, Any, Final, Required, TypedDict

from backend.verbs.families.architectures import Architecture
from backend.verbs.families.text_to_image import planned_picture
from backend.verbs.params import (
    Checkpoint,
    Height,
    Loras,
    NegativePrompt,
    OutputPath,
    Param,
    Seed,
    Width,
)
from backend.verbs.request import Request
from backend.verbs.verb import GraphContext, Lookup, Planned, Verb


class PortraitParams(TypedDict, total=False):
    """Arguments of ``portrait``."""

    prompt: Required[Annotated[str, Param("What the picture shows.", aliases=("description",))]]
    negative_prompt: NegativePrompt
    model: Checkpoint
    width: Width
    height: Height
    steps: Annotated[int, Param("Sampling steps; by default the model's own.", low=1, high=200)]
    cfg_scale: Annotated[float, Param("Guidance; by default the model's own.", low=0, high=30)]
    sampler: Annotated[str, Param("Sampler; by default the model's own.")]
    scheduler: Annotated[str, Param("Scheduler; by default the model's own.")]
    loras: Loras
    seed: Seed
    save_to_avatars: Annotated[
        bool, Param("Keep it among ComfyUI's inputs too, as avatars/NAME.", default=False)
    ]
    avatar_name: Annotated[
        str, Param("The name to keep it under.", default="generated_portrait.png", filename=True)
    ]
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build the graph."""
    return planned_picture(request, context, _values)


def _values(request: Request, architecture: Architecture) -> dict[str, Any]:
    width, height = architecture.portrait
    return {
        "prompt": request["prompt"],
        "width": request["width"] or width,
        "height": request["height"] or height,
        "steps": request["steps"] or architecture.portrait_steps,
        "cfg": architecture.cfg if request["cfg_scale"] is None else request["cfg_scale"],
        "sampler": request["sampler"] or architecture.sampler,
        "scheduler": request["scheduler"] or architecture.scheduler,
    }


VERB: Final = Verb(
    name="portrait",
    arguments=PortraitParams,
    summary="Make a portrait from a prompt.",
    tool="Make a portrait of a person from a prompt, as a PNG file. For other pictures use imagine.",
    suffix=".png",
    graph=build,
)
