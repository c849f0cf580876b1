"""The tools that make something: one for each verb that says when to choose it."""

import asyncio
from typing import Any, Final

from backend.verbs.catalog import verbs
from backend.verbs.verb import Verb
from mcp_server import results, schemas
from mcp_server.generation import start
from mcp_server.spending import Costs
from mcp_server.tool import Answer, Call, Tool


def _tool(verb: Verb) -> Tool:
    async def run(call: Call) -> Answer:
        # In a thread: it looks at the files that are named.
        return await start(call, verb.name, await asyncio.to_thread(_params, call, verb))

    return Tool(
        name=verb.name,
        title=verb.summary.partition(":")[0].removesuffix("."),
        description=f"{verb.tool} Free on a local ComfyUI; the other backends charge for it.",
        parameters=schemas.for_verb(verb.name),
        output=results.GENERATION,
        run=run,
        costs=Costs.GPU,
    )


def _params(call: Call, verb: Verb) -> dict[str, Any]:
    """The verb's own arguments, with inputs found and the output's place decided."""
    outputs = call.studio.outputs
    params = {name: value for name, value in call.arguments.items() if name in verb.params}
    for name, spec in verb.params.items():
        if spec.what == "input" and name in params:
            params[name] = outputs.source(params[name])
    params["output_path"] = outputs.path_for(verb.name, params.get("output_path"))
    return params


TOOLS: Final = tuple(_tool(verb) for verb in verbs().values() if verb.tool)
