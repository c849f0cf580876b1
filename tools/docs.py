"""Write the reference pages that follow from the code, or check that they are current.

Run as ``python -m tools.docs`` or ``python -m tools.docs --check``.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from invoke.collection import Collection

import backend.errors as errors
import tasks
from backend.settings import Secret, Settings
from ops.registry.schema import json_schema
from tools import resource_tables, verb_methods

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by `./inv docs` from the code: change it there. -->\n"


def configuration() -> str:
    """Return the page of variables, one row a field of Settings."""
    rows = []
    for spec in fields(Settings):
        secret = "yes" if Secret.__name__ in str(spec.type) else ""
        shown = spec.metadata["shown"] or _default(spec.default)
        rows.append(f"| `{spec.metadata['variable']}` | {shown} | {secret} | {spec.metadata['sentence']} |")
    return "\n".join(
        [
            "# Configuration",
            "",
            "comfyform reads these variables, and nothing else, from the environment.",
            "An argument of a call wins over a variable; a variable wins over a default.",
            "`./inv env` prints those that follow from your stack.",
            "A secret is never printed, logged, pickled or written to a state.",
            "",
            "| variable | default | secret | meaning |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return f"`{value}`"


def error_page() -> str:
    """Return the page of errors: the tree, then a row a class."""
    tree = inspect.getdoc(errors) or ""
    drawing = tree.split("::", 1)[1].split("\n\nAn error holds", 1)[0]
    rows = [
        f"| `{cls.__name__}` | `{cls.__bases__[0].__name__}` | {cls.exit_code} | {_sentence(cls)} |"
        for cls in vars(errors).values()
        if inspect.isclass(cls) and issubclass(cls, errors.ComfyformError)
    ]
    return "\n".join(
        [
            "# Errors",
            "",
            "Every error says what happened, to what, and in `.hint` what to do next.",
            "A command prints that on one line and ends with the code of the error's class.",
            "",
            "```",
            inspect.cleandoc(drawing.strip("\n")),
            "```",
            "",
            "| error | is a | exit code | when |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _sentence(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n", 1)[0].replace("\n", " ")


def command_line() -> str:
    """Return the page of tasks, with every option."""
    lines = [
        "# Commands",
        "",
        "`./inv` makes what it needs on first use and then runs one of these tasks.",
        "`./inv --list` shows them, `./inv --help TASK` one of them.",
        "",
    ]
    for name, task in sorted(_walk(tasks.namespace)):
        lines += [f"## `./inv {name}`", "", inspect.getdoc(task.body) or "", ""]
        options = [argument for argument in task.get_arguments() if argument.name]
        for argument in options:
            flag = ", ".join(f"`{'--' if len(n) > 1 else '-'}{n.replace('_', '-')}`" for n in argument.names)
            default = "" if argument.default in (None, False, "") else f" (default `{argument.default}`)"
            lines.append(f"- {flag}: {argument.help or ''}{default}")
        if options:
            lines.append("")
    return "\n".join(lines)


def _walk(collection: Collection, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, task in collection.tasks.items():
        yield f"{prefix}{name}", task
    for name, inner in collection.collections.items():
        yield from _walk(inner, f"{prefix}{name}.")


def registry_schema() -> str:
    """Return the JSON Schema of a models registry, for editors."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False)


PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration,
    "docs/errors.md": error_page,
    "docs/cli.md": command_line,
    "docs/models-registry.schema.json": registry_schema,
    "backend/client/sync_verbs.py": verb_methods.sync_methods,
    "backend/client/async_verbs.py": verb_methods.async_methods,
}


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/infrastructure.md": {"fields": resource_tables.fields, "keys": resource_tables.keys},
    "backend/__init__.py": {"verbs": verb_methods.public_types},
}
"""File written by hand → marker → what stands between its two lines: ``<!-- marker -->`` and
``<!-- /marker -->`` in a page, ``# marker: …`` and ``# /marker`` in a module."""


def sections(name: str) -> str:
    """Return a page with its generated sections."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for marker, render in SECTIONS[name].items():
        first, last = (rf"# {marker}: .*", f"# /{marker}") if name.endswith(".py") else _comments(marker)
        before, begin, after = re.split(rf"^({first}\n)", text, maxsplit=1, flags=re.MULTILINE)
        _, end, after = re.split(rf"^({last})$", after, maxsplit=1, flags=re.MULTILINE)
        text = f"{before}{begin}\n{render()}\n\n{end}{after}"
    return text


def _comments(marker: str) -> tuple[str, str]:
    return f"<!-- {marker} -->", f"<!-- /{marker} -->"


def main(arguments: list[str]) -> int:
    """Write the pages; with ``--check`` only name those that are not current."""
    stale = []
    pages = {name: f"{render().rstrip()}\n" for name, render in PAGES.items()}
    pages = {name: f"{NOTE}\n{text}" if name.endswith(".md") else text for name, text in pages.items()}
    for name, text in {**pages, **{name: sections(name) for name in SECTIONS}}.items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if stale:
        print(f"Not current: {', '.join(stale)}. Run ./inv docs.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
