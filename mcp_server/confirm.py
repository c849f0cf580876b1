"""Ask the person before money is spent.

The client puts the question to its user where it can (elicitation). Since
protocol 2026-07-28 a question is an answer to the call, which the client makes
again with the reply; before, it is a request of its own in the middle of the
call. Where the client cannot ask its user, the model has to pass ``confirm: true``,
and is told to ask first.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import mcp.types as types
from mcp.server import ServerRequestContext
from mcp.types.version import is_version_at_least

from backend.errors import ComfyformError
from mcp_server.tool import Schema

ARGUMENT: Final = "confirm"
SCHEMA: Final[Schema] = {
    "type": "boolean",
    "description": "Set this only after the user agreed to the cost, and only when a call was refused "
    "because it was missing. Clients that can ask their user do so themselves and ignore it.",
}

_FIRST_WITH_QUESTIONS_AS_ANSWERS: Final = "2026-07-28"
_KEY: Final = "confirm"
_NO_FIELDS: Final[Schema] = {"type": "object", "properties": {}}


class NotConfirmed(ComfyformError):
    """The cost was not confirmed, so nothing was sent and nothing was spent."""


class Question(Exception):
    """The call's answer is a question, to be sent to the client.

    Attributes:
        result: the question.
    """

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__()
        self.result = result


async def confirm(
    context: ServerRequestContext,
    params: types.CallToolRequestParams,
    question: Callable[[], Awaitable[str]],
) -> None:
    """Return when the user agrees.

    Args:
        context: of the call.
        params: the call itself, which may bring the reply or ``confirm: true``.
        question: gives what the user reads; called only where the user has to be asked now.

    Raises:
        NotConfirmed: the user said no, or could not be asked.
        Question: the client has to ask first.
    """
    if not _can_ask(context):
        if (params.arguments or {}).get(ARGUMENT) is True:
            return
        raise NotConfirmed(
            f"Not confirmed, so nothing was sent. {await question()}",
            hint="Ask the user. If they agree, make the same call with confirm: true.",
        )
    reply = await _ask(context, params, question)
    if reply.action != "accept":
        raise NotConfirmed("The user did not agree, so nothing was sent and nothing was spent.")


async def _ask(
    context: ServerRequestContext,
    params: types.CallToolRequestParams,
    question: Callable[[], Awaitable[str]],
) -> types.ElicitResult:
    if not is_version_at_least(context.protocol_version, _FIRST_WITH_QUESTIONS_AS_ANSWERS):
        return await context.session.elicit_form(await question(), _NO_FIELDS, context.request_id)
    reply = (params.input_responses or {}).get(_KEY)
    if isinstance(reply, types.ElicitResult):
        return reply
    form = types.ElicitRequestFormParams(message=await question(), requested_schema=_NO_FIELDS)
    raise Question(types.InputRequiredResult(input_requests={_KEY: types.ElicitRequest(params=form)}))


def _can_ask(context: ServerRequestContext) -> bool:
    """Tell whether the client can put a form before its user.

    Source: MCP 2025-11-25, elicitation: a bare ``elicitation: {}`` declares forms; ``url`` alone does not.
    """
    capabilities = context.session.client_capabilities
    asks = capabilities.elicitation if capabilities is not None else None
    if asks is None or (asks.form is None and asks.url is not None):
        return False
    as_answer = is_version_at_least(context.protocol_version, _FIRST_WITH_QUESTIONS_AS_ANSWERS)
    return as_answer or context.session.can_send_request
