"""The server: what it answers to each request of the protocol.

Built on the SDK's low-level server, because the tools' schemas come from the
tables that the backend and the ops toolkit already keep: a decorated function
a tool would say each parameter a second time, would let unknown arguments
pass in silence, and would put its own words before our errors.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final

import mcp.types as types
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError

from backend.errors import ComfyformError, JobFailed
from mcp_server import arguments, confirm
from mcp_server.cancellation import request_key
from mcp_server.generation import cancel_submission
from mcp_server.paging import page
from mcp_server.resources import Resources
from mcp_server.server_state import Studio
from mcp_server.spending import ASKED, Costs
from mcp_server.tool import Call
from mcp_server.tools import TOOLS

ERROR_MOST: Final = 4000
"""Characters of an error that a model is shown."""

logger = logging.getLogger(__name__)

INSTRUCTIONS = """\
Makes portraits, speech, lip-synced video and images with ComfyUI, on this machine or on RunPod, and says \
which model files are where. Start with backend_status when you do not know what is configured. A generation \
that takes longer than timeout_s answers with status "running" and a job: call the job tool with it to go on \
waiting; never make the same generation again for that. Results are files on this machine; their paths are \
in the answer.\
"""


def make_server(studio: Studio) -> Server:
    """Make a server over a studio; one server serves any number of clients."""
    resources = Resources(studio)

    async def list_tools(
        _: ServerRequestContext, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        shown, cursor = page(list(TOOLS.values()), params.cursor if params else None)
        return types.ListToolsResult(tools=[tool.listed() for tool in shown], next_cursor=cursor)

    async def call_tool(
        context: ServerRequestContext, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        return await _call(studio, context, params)

    async def list_resources(
        _: ServerRequestContext, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        shown, cursor = page(await resources.all(), params.cursor if params else None)
        return types.ListResourcesResult(resources=shown, next_cursor=cursor)

    async def list_templates(
        _: ServerRequestContext, __: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.templates())

    async def read_resource(
        _: ServerRequestContext, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        try:
            return types.ReadResourceResult(contents=[await resources.read(str(params.uri))])
        except ComfyformError as error:
            # A resource has no error result of its own, as a tool has.
            raise MCPError(types.INVALID_PARAMS, str(error)) from error

    async def cancelled(context: ServerRequestContext, params: types.CancelledNotificationParams) -> None:
        submission = studio.submissions.take(request_key(context, params.request_id))
        if submission is not None:
            # Not within the connection, which the client may close at once.
            studio.spawn(cancel_submission(studio, submission))

    server: Server = Server(
        "comfyform",
        version=version("comfyform"),
        title="comfyform",
        description="Portraits, speech, lip sync and images on your own ComfyUI.",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )
    server.add_notification_handler("notifications/cancelled", types.CancelledNotificationParams, cancelled)
    return server


async def _call(
    studio: Studio, context: ServerRequestContext, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    """Run one tool. What a person or a model can act on is a tool error, never a traceback."""
    tool = TOOLS.get(params.name)
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool {params.name!r}. Available: {', '.join(TOOLS)}.")
    asked = ASKED[studio.settings.comfyform_mcp_confirm]
    steps = 0

    async def report(message: str) -> None:
        nonlocal steps
        steps += 1
        await context.session.report_progress(steps, None, message)

    async def agree(costs: Costs, question: Callable[[], Awaitable[str]]) -> None:
        if costs in asked:
            await confirm.confirm(context, params, question)

    given = arguments.given(tool.parameters, params.arguments)
    try:
        arguments.check(tool.name, tool.parameters, given)
        given.pop(confirm.ARGUMENT, None)
        with studio.submissions.of_call(request_key(context, context.request_id)) as submitted:
            call = Call(studio=studio, arguments=given, report=report, agree=agree, submitted=submitted)
            answer = await tool.run(call)
    except confirm.Question as question:
        return question.result
    except ComfyformError as error:
        logger.info("%s: %s: %s", tool.name, type(error).__name__, error.message)
        return _failure(str(await asyncio.to_thread(_helped, error, studio)))
    except Exception as error:  # the boundary: one call's defect must not end the server
        logger.exception("%s failed", tool.name)
        return _failure(f"{tool.name} failed inside the server ({type(error).__name__}). Its log says more.")
    text = types.TextContent(text=answer.text)
    return types.CallToolResult(content=[text, *answer.blocks], structured_content=dict(answer.structured))


def _helped(error: ComfyformError, studio: Studio) -> ComfyformError:
    """Name the registry's entry for a model that a job found missing."""
    if not isinstance(error, JobFailed):
        return error
    from ops.commands.generate import with_provider

    return with_provider(error, studio.registry)


def _failure(sentence: str) -> types.CallToolResult:
    """Make a tool error, bounded: a ComfyUI may list every file that it has."""
    shown = sentence if len(sentence) <= ERROR_MOST else f"{sentence[:ERROR_MOST]} …"
    return types.CallToolResult(content=[types.TextContent(text=shown)], is_error=True)
