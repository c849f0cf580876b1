"""Write the typed methods of both clients, and the verbs' public types, from what the verbs declare."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator

from backend.verbs.catalog import verbs
from backend.verbs.params import Param
from backend.verbs.verb import Verb

WRITTEN_BY_HAND = ("workflow",)
"""Verbs whose first argument has no name in a call, so that their method is in the client itself."""


def sync_methods() -> str:
    """Return the module with the methods of `backend.Backend`."""
    return formatted("\n".join(_module("Verbs", "Job", "", "")))


def async_methods() -> str:
    """Return the module with the methods of `backend.AsyncBackend`."""
    return formatted("\n".join(_module("AsyncVerbs", "AsyncJob", "async ", "await ")))


def public_types() -> str:
    """Return the part of backend/__init__.py that makes the types of the verbs' arguments public."""
    homes = {f"verbs.{verb.name}": verb.arguments.__name__ for verb in verbs().values()}
    lines = ["if typing.TYPE_CHECKING:"]
    lines += [f"    from backend.{home} import {name}" for home, name in homes.items()]
    lines += ["", f"_HOMES |= { ({home: (name,) for home, name in homes.items()})!r}"]
    lines += ["", f"__all__ += {sorted(homes.values())!r}"]
    return formatted("\n".join(lines)).strip()


def formatted(code: str) -> str:
    """Return a module's text as `ruff format` writes it."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", "backend/x.py", "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout


def _module(name: str, job: str, define: str, wait: str) -> Iterator[str]:
    client = "Backend" if name == "Verbs" else "AsyncBackend"
    other = "async_client" if define else "sync_client"
    yield f'"""The verbs as methods of `backend.{client}`. Written by `./inv docs` from `backend.verbs`."""'
    yield ""
    yield "from collections.abc import Mapping"
    yield "from typing import TYPE_CHECKING, Any, Literal, Unpack, overload"
    yield ""
    yield "if TYPE_CHECKING:  # a verb is loaded with its first call"
    yield f"    from backend.client.{other} import {job}"
    yield "    from backend.flow.http_driver import OnProgress"
    imports = {verb.name: verb.arguments.__name__ for verb in verbs().values()} | {
        "result": "GenerationResult"
    }
    yield from (f"    from backend.verbs.{home} import {imports[home]}" for home in sorted(imports))
    yield ""
    yield f"class {name}:"
    yield '    """A method for each verb, and ``submit`` typed by verb."""'
    for verb in verbs().values():
        if verb.name not in WRITTEN_BY_HAND:
            yield from _method(verb, define, wait)
    yield from _submit(job, define, wait)
    yield f'''
    {define}def generate(
        self,
        verb: str,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Any,
    ) -> "GenerationResult":
        """Run a verb by its name."""
        raise NotImplementedError

    {define}def _submit_job(
        self, verb: str, params: Mapping[str, Any], timeout_s: float | None
    ) -> "{job}":
        raise NotImplementedError
'''


def _method(verb: Verb, define: str, wait: str) -> Iterator[str]:
    yield f'''
    {define}def {verb.name}(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[{verb.arguments.__name__}]",
    ) -> "GenerationResult":
        """{verb.summary}

        Args:'''
    for name, param in verb.params.items():
        line = f"{name} ({_shape(param)}): {param.sentence}"
        yield textwrap.fill(line, 108, initial_indent=" " * 12, subsequent_indent=" " * 16)
    yield "            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S."
    yield "            on_progress (callable): Called with a mapping at every step of progress."
    yield '        """'
    call = f'{wait}self.generate("{verb.name}", timeout_s=timeout_s, on_progress=on_progress, **params)'
    yield f"        return {call}"


def _submit(job: str, define: str, wait: str) -> Iterator[str]:
    for verb in verbs().values():
        yield f'''
    @overload
    {define}def submit(
        self,
        verb: Literal["{verb.name}"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[{verb.arguments.__name__}]",
    ) -> "{job}": ...'''
    names = [f'"{name}"' for name in verbs()]
    yield f'''
    {define}def submit(self, verb: str, *, timeout_s: float | None = None, **params: Any) -> "{job}":
        """Submit a verb and come back for its result later, from any process.

        Args:
            verb: {", ".join(names[:-1])} or {names[-1]}.
            timeout_s: how long a worker may run.
            params: the verb's own.
        """
        return {wait}self._submit_job(verb, params, timeout_s)'''


def _shape(param: Param) -> str:
    """Return the type, the bounds and the default of an argument."""
    kind = " | ".join(param.choices) if param.choices else param.what
    if param.low is not None and param.high is not None:
        kind += f" {param.low:g} to {param.high:g}" if param.high < 2**53 else f", at least {param.low:g}"
    if param.required:
        return f"{kind}, required"
    return kind if param.default is None else f"{kind}, default {param.default}"
