"""What a tool of this server is, what a call of it is given, and what it answers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import mcp.types as types

from mcp_server.cancellation import Submission
from mcp_server.server_state import Studio
from mcp_server.spending import Costs

Schema: TypeAlias = dict[str, Any]
"""A JSON Schema, draft 2020-12, in the subset that every model's tool use understands."""


PATIENCE_S: Final = 45.0
"""How long a call waits by default. Most clients give up on a call after 60 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool.

    Attributes:
        arguments: checked against the tool's parameters, so of the right names and types.
        report: sends a progress notification, a sentence; does nothing where the client wants none.
        agree: asks whoever pays and returns when they agree. Takes what the call costs and what gives the
            question; raises `mcp_server.confirm.NotConfirmed`. A tool asks after everything that can be
            checked is checked and before it sends anything, and does the same when it is run again with
            the answer.
        submitted: takes the submission of the job that the call starts, which goes on when the call is
            interrupted; the job is cancelled when the client cancels the call.
    """

    studio: Studio
    arguments: Mapping[str, Any]
    report: Callable[[str], Awaitable[None]]
    agree: Callable[[Costs, Callable[[], Awaitable[str]]], Awaitable[None]]
    submitted: Callable[[Submission], None]

    @property
    def patience_s(self) -> float:
        """How long the caller waits for whatever takes long."""
        return float(self.arguments.get("timeout_s", PATIENCE_S))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool gives back.

    Attributes:
        structured: JSON that fits the tool's output schema.
        text: the same for a reader, in a few lines.
        blocks: pictures and links that go along.
    """

    structured: Mapping[str, Any]
    text: str
    blocks: tuple[types.ContentBlock, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: how it shows in a client's list, and what it does.

    Attributes:
        parameters, output: schemas of an object.
        run: does it. Raises `ComfyformError` for what a person can act on.
        reads_only: changes nothing, here or there.
        destroys: may end or delete something.
        repeatable: a second call with the same arguments changes nothing more.
        costs: the most that a call may spend.
    """

    name: str
    title: str
    description: str
    parameters: Schema
    output: Schema
    run: Callable[[Call], Awaitable[Answer]] = field(repr=False)
    reads_only: bool = False
    destroys: bool = False
    repeatable: bool = False
    costs: Costs = Costs.NOTHING

    def listed(self) -> types.Tool:
        """Return the tool as ``tools/list`` shows it."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.parameters,
            output_schema=self.output,
            annotations=types.ToolAnnotations(
                title=self.title,
                read_only_hint=self.reads_only,
                destructive_hint=self.destroys,
                idempotent_hint=self.repeatable or self.reads_only,
                # Everything here talks to a ComfyUI or to RunPod, and nothing else.
                open_world_hint=True,
            ),
            # The protocol has no hint for money, so it travels under a name of our own.
            _meta={"comfyform/costs": self.costs.name.lower()},
        )


def an_object(
    properties: Mapping[str, Schema], *, required: tuple[str, ...] = (), closed: bool = True
) -> Schema:
    """Make the schema of an object.

    Args:
        properties: name → schema.
        required: names that must be there.
        closed: refuse other names.
    """
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    if closed:
        schema["additionalProperties"] = False
    return schema
