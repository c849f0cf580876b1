"""The arguments of a verb in its methods' docstrings, so that ``help(backend.portrait)`` lists them."""

from collections.abc import Callable
from typing import Any, TypeVar

from backend.verbs.params import PARAMS, Param

Method = TypeVar("Method", bound=Callable[..., Any])


def with_arguments(method: Method) -> Method:
    """Append the arguments of the verb that the method is named after to its docstring."""
    params = PARAMS[method.__name__]  # type: ignore[index]  # the methods are named after the verbs
    lines = [f"    {name} ({_shape(param)}): {param.sentence}" for name, param in params.items()]
    lines.append("    timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.")
    lines.append("    on_progress (callable): Called with a mapping at every step of progress.")
    method.__doc__ = "\n".join([method.__doc__ or "", "", "Args:", *lines])
    return method


def _shape(param: Param) -> str:
    """The type, the bounds and the default of an argument, as help shows them."""
    kind = " | ".join(param.choices) if param.choices else param.what
    if param.low is not None and param.high is not None:
        kind += f" {param.low:g} to {param.high:g}" if param.high < 2**53 else f", at least {param.low:g}"
    if param.required:
        return f"{kind}, required"
    return kind if param.default is None else f"{kind}, default {param.default}"
