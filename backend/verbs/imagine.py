"""``imagine``: a picture of anything, from a description and a quality."""

from typing import Annotated, Any, Final, Literal, Required, TypedDict

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

Quality = Literal["draft", "standard", "high", "ultra"]


class ImagineParams(TypedDict, total=False):
    """Arguments of ``imagine``."""

    description: Required[Annotated[str, Param("What the picture shows.", aliases=("prompt",))]]
    style: Annotated[str, Param("Its style, added to the description.")]
    negative_prompt: NegativePrompt
    model: Checkpoint
    width: Width
    height: Height
    quality: Annotated[Quality, Param("Number of sampling steps, by name.", default="standard")]
    loras: Loras
    seed: Seed
    output_path: OutputPath


def build(request: Request, context: GraphContext) -> Lookup[Planned]:
    """Build the graph."""
    return planned_picture(request, context, _values)


def _values(request: Request, architecture: Architecture) -> dict[str, Any]:
    width, height = architecture.picture
    style = request["style"]
    return {
        "prompt": f"{request['description']}, {style}" if style else request["description"],
        "width": request["width"] or width,
        "height": request["height"] or height,
        "steps": architecture.steps[request["quality"]],
        "cfg": architecture.cfg,
        "sampler": architecture.sampler,
        "scheduler": architecture.scheduler,
    }


VERB: Final = Verb(
    name="imagine",
    arguments=ImagineParams,
    summary="Make a picture from a description, as well as its checkpoint can.",
    tool="Make an image of anything from a description and a style, as a PNG file.",
    suffix=".png",
    graph=build,
)
