"""Turns the functions of a commands module into tasks, from the module's text.

A commands module (``ops.commands_models``) holds one function a command: plain
arguments with literal defaults, a docstring with an ``Args:`` section, an exit
code as its result. That is all a task needs to be listed and explained, so the
module itself is imported only when one of its commands runs: ``./inv --list``
stays quick however many there are. A house test holds the reading against the
imported functions.
"""

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from invoke.exceptions import Exit
from invoke.tasks import Task

from backend.errors import ComfyformError

_SHOWN_TYPES: Final = (str, bool, int, float)


def run(module: str, function: str, /, *arguments: Any, **options: Any) -> None:
    """Run one function; its errors become one line on stderr and an exit code.

    Raises:
        Exit: the function failed, gave an exit code that is not 0, or was stopped by Ctrl-C.
    """
    from ops import console

    try:
        command: Callable[..., int | None] = getattr(importlib.import_module(module), function)
        code = command(*arguments, **options) or 0
    except ComfyformError as error:
        code = console.fail(error)
    except KeyboardInterrupt:
        console.Console().say("Stopped. Run the same command again to go on.")
        code = console.INTERRUPTED
    if code:
        raise Exit(code=code)


def tasks_of(module: str) -> Iterator[Task[Any]]:
    """Give a task for every public function that a commands module defines."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    constants = _constants(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield _task(module, node, constants)


def _task(module: str, node: ast.FunctionDef, constants: Mapping[str, Any]) -> Task[Any]:
    docstring = ast.get_docstring(node) or ""
    parameters = list(_parameters(node, constants))

    def body(_context: Any, **options: Any) -> None:
        run(module, node.name, **options)

    context = inspect.Parameter("c", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    body.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]  # inspect reads it
    body.__name__ = node.name
    body.__doc__ = docstring.split("\n\n", 1)[0].replace("\n", " ")
    explained = _explanations(docstring)
    names = {parameter.name for parameter in parameters}
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    return Task(
        body,
        name=node.name,
        positional=required,
        help={name: text for name, text in explained.items() if name in names},
    )


def _parameters(node: ast.FunctionDef, constants: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """Give the parameters that can be typed on a command line, as a task's own."""
    plain = node.args.args
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(node.args.defaults))
    pairs = [*zip(plain, [*defaults, *node.args.defaults], strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    for argument, given in pairs:
        default: Any = inspect.Parameter.empty
        if given is not None:
            default = constants[given.id] if isinstance(given, ast.Name) else ast.literal_eval(given)
            if not isinstance(default, _SHOWN_TYPES):
                continue  # for callers in Python, such as `settings`
        yield inspect.Parameter(argument.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Give the module's constants with literal values, which a default may name."""
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = node.value.value
    return found


def _explanations(docstring: str) -> dict[str, str]:
    """Give the sentence for each argument, from the docstring's ``Args:`` section."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): ((?:.*)(?:\n        .*)*)", section[1], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}
