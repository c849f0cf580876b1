"""The tools that make something: portrait, tts, lipsync, imagine and talk."""

import asyncio
from typing import Any, Final

from backend.verbs.params import PARAMS, TALK
from mcp_server import results, schemas
from mcp_server.generation import start
from mcp_server.spending import Costs
from mcp_server.tool import Answer, Call, Tool

_TITLES: Final = {
    "portrait": "Make a portrait",
    "tts": "Speak a text",
    "lipsync": "Make a portrait speak",
    "imagine": "Make an image",
    "talk": "Make a portrait say a text",
}
_DESCRIPTIONS: Final = {
    "portrait": "Make a portrait of a person from a prompt, as a PNG file. For other pictures use imagine.",
    "tts": "Speak a text in the voice of a recording of 5 to 15 seconds, as a FLAC file. Give "
    "voice_reference_text, the exact words of the recording, for a better and quicker result.",
    "lipsync": "Make a video of a portrait speaking a recording, as an MP4 file. Takes minutes: expect "
    'status "running". To start from a text instead of a recording use talk.',
    "imagine": "Make an image of anything from a description and a style, as a PNG file.",
    "talk": "Speak a text in the voice of a recording and make a portrait say it: tts and lipsync in one, as "
    'an MP4 file. Takes minutes: expect status "running". On Hedra use tts, then lipsync.',
}


def _tool(verb: str) -> Tool:
    async def run(call: Call) -> Answer:
        # In a thread: it looks at the files that are named.
        return await start(call, verb, await asyncio.to_thread(_params, call, verb))

    return Tool(
        name=verb,
        title=_TITLES[verb],
        description=f"{_DESCRIPTIONS[verb]} Free on a local ComfyUI; the other backends charge for it.",
        parameters=schemas.for_verb(verb),
        output=results.GENERATION,
        run=run,
        costs=Costs.GPU,
    )


def _params(call: Call, verb: str) -> dict[str, Any]:
    """The verb's own arguments, with inputs found and the output's place decided."""
    outputs = call.studio.outputs
    names = TALK if verb == "talk" else PARAMS[verb]  # type: ignore[index]  # the tools' verbs are the backend's
    params = {name: value for name, value in call.arguments.items() if name in names}
    for name in ("voice_reference", "portrait_image", "audio"):
        if name in params:
            params[name] = outputs.source(params[name])
    params["output_path"] = outputs.path_for(verb, params.get("output_path"))
    return params


TOOLS: Final = tuple(_tool(verb) for verb in _DESCRIPTIONS)
