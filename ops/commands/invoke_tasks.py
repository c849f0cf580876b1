"""Turns the functions of a commands module into tasks, from the module's text.

A commands module (``ops.commands.models``) holds one function a command: plain
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
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from invoke.exceptions import Exit
from invoke.tasks import Task

from backend.errors import ComfyformError, ConfigError

USUAL: Final[Mapping[str, str]] = {
    "backend": "local, runpod, cloud or hedra; by default COMFY_BACKEND.",
    "job": "The job's id.",
    "json": "Print JSON, for scripts.",
    "output_path": "Where the result goes.",
    "registry": "The registry file.",
    "stack": "Name of the stack; by default PULUMI_STACK, else dev.",
    "timeout": "Total timeout in seconds.",
    "yes": "Do not ask for confirmation.",
}
"""What an option means wherever it appears, unless a docstring says more."""

LETTERS: Final[Mapping[str, str]] = {
    "backend": "b",
    "json": "j",
    "output_path": "o",
    "registry": "r",
    "stack": "s",
    "transport": "t",
    "yes": "y",
}
"""The options with a short form: a letter means the same in every task, and -h is always help."""

_TYPES: Final[Mapping[str, type]] = {kind.__name__: kind for kind in (str, bool, int, float)}


class CommandTask(Task[Any]):
    """A task whose options have a letter only where `LETTERS` gives them one.

    Invoke's own letters follow the order of the parameters: a new option would change those of others.
    """

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Any]:
        """The arguments, as often as they are asked for; Invoke's own way takes the help texts away."""
        texts = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = texts

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """The options of one argument, as invoke's parser takes them."""
        self.auto_shortflags = False
        options = super().arg_opts(name, default, taken_names)
        if letter := LETTERS.get(name):
            options["names"] = [*options["names"], letter]
        return options


def run(module: str, function: str, /, *arguments: Any, **options: Any) -> None:
    """Run one function; its errors become one line on stderr and an exit code.

    Raises:
        Exit: the function failed, gave an exit code that is not 0, or was stopped by Ctrl-C.
    """
    from ops.console import console

    try:
        command: Callable[..., int | None] = getattr(importlib.import_module(module), function)
        code = command(*arguments, **options) or 0
    except ComfyformError as error:
        code = console.fail(error)
    except OSError as error:
        if error.filename is None:  # no file that somebody named: a bug of ours
            raise
        code = console.fail(ConfigError(f"{os.fsdecode(error.filename)}: {error.strerror}."))
    except KeyboardInterrupt as stop:
        console.Console().say(str(stop) or "Stopped. Run the same command again to go on.")
        code = console.INTERRUPTED
    if code:
        raise Exit(code=code)


def tasks_of(module: str, names: Mapping[str, str] | None = None) -> Iterator[Task[Any]]:
    """Yield a task for every public function that a commands module defines.

    Args:
        module: its dotted name.
        names: task name → function, where only some are meant or they go by other names.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    constants = _constants(tree)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if names is None:
        # A task that is called like a keyword of Python is a function with an underscore behind.
        names = {name.rstrip("_"): name for name in functions if not name.startswith("_")}
    for name, function in names.items():
        yield _task(name, module, functions[function], constants)


def _task(name: str, module: str, node: ast.FunctionDef, constants: Mapping[str, Any]) -> Task[Any]:
    docstring = ast.get_docstring(node) or ""
    sentence = docstring.split("\n\n", 1)[0].replace("\n", " ").replace("``", "`")
    parameters = list(_parameters(node, constants))
    return make_task(name, sentence, parameters, _explanations(docstring), module, node.name)


def make_task(
    name: str,
    sentence: str,
    parameters: Sequence[inspect.Parameter],
    explanations: Mapping[str, str],
    module: str,
    function: str,
    *arguments: Any,
) -> Task[Any]:
    """Make a task that runs ``module:function``.

    Args:
        parameters: its options: name, default, and the type as the annotation; without a default, positional.
        explanations: parameter → sentence.
        arguments: passed before the options.
    """
    kinds = {parameter.name: parameter for parameter in parameters}

    def body(_context: Any, **options: Any) -> None:
        run(
            module, function, *arguments, **{key: _typed(kinds[key], value) for key, value in options.items()}
        )

    context = inspect.Parameter("c", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    body.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]  # inspect reads it
    body.__name__ = name
    body.__doc__ = sentence
    return CommandTask(
        body,
        positional=[p.name for p in parameters if p.default is inspect.Parameter.empty],
        help={key: text for key, text in {**USUAL, **explanations}.items() if key in kinds},
    )


def _parameters(node: ast.FunctionDef, constants: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters that a command line can give; others, such as `settings`, are for callers."""
    plain = node.args.args
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(node.args.defaults))
    pairs = [*zip(plain, [*defaults, *node.args.defaults], strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    for argument, given in pairs:
        default: Any = inspect.Parameter.empty
        written = ast.unparse(argument.annotation) if argument.annotation else ""
        kind = _TYPES.get(written.removesuffix(" | None"))
        if isinstance(given, ast.Name):
            default = constants.get(given.id)
            kind = None if default is None else type(default)
        elif given is not None:
            default = ast.literal_eval(given)
            kind = kind if default is None else type(default)
        if kind in _TYPES.values():
            yield inspect.Parameter(
                argument.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind
            )


def _typed(parameter: inspect.Parameter, value: Any) -> Any:
    """Return an option's value in the type of its parameter; a default of None leaves it as text."""
    if not isinstance(value, str) or parameter.annotation is str:
        return value
    try:
        return parameter.annotation(value)
    except ValueError:
        name = parameter.name.replace("_", "-")
        raise Exit(f"--{name} must be a number, got {value!r}.", code=2) from None


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return the module's constants with literal values, which a default may name."""
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = node.value.value
    return found


def _explanations(docstring: str) -> dict[str, str]:
    """Return the sentence for each argument, from the docstring's ``Args:`` section."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): ((?:.*)(?:\n        .*)*)", section[1], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}
