"""Makes the tasks of ``inv generate.*`` from what the verbs declare."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

from invoke.tasks import Task

from backend.verbs.catalog import verbs
from backend.verbs.params import Param
from ops.commands.invoke_tasks import make_task

_COMMON: Final[Mapping[str, Any]] = {"backend": "", "timeout": None, "detach": False, "json": False}
_DETACH: Final = "Submit it and print the job's id; inv jobs.wait fetches the result."


def verb_tasks() -> Iterator[Task[Any]]:
    """Yield a task for each verb."""
    for name, verb in verbs().items():
        ordered = sorted(verb.params.items(), key=lambda item: not item[1].required)
        parameters = [_parameter(argument, param) for argument, param in ordered]
        parameters += [_option(option, default) for option, default in _COMMON.items()]
        explanations = {argument: _sentence(param) for argument, param in ordered} | {"detach": _DETACH}
        yield make_task(
            name, verb.summary, parameters, explanations, "ops.commands.generate", "generate", name
        )


def _parameter(name: str, param: Param) -> inspect.Parameter:
    """Return an argument as an option. Texts are read by the command, which knows the verb's types."""
    return _option(name, inspect.Parameter.empty if param.required else "")


def _option(name: str, default: Any) -> inspect.Parameter:
    kind = float if default is None else str if default is inspect.Parameter.empty else type(default)
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def _sentence(param: Param) -> str:
    """Return an argument's sentence, with its choices and bounds."""
    sentence = param.sentence
    if param.choices:
        sentence += f" One of {', '.join(param.choices)}."
    if param.low is not None and param.high is not None and param.high < 2**31:
        sentence += f" From {param.low:.10g} to {param.high:.10g}."
    if param.default not in (None, False, ""):
        sentence += f" Default: {param.default}."
    return sentence
