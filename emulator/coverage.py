"""`python -m emulator.coverage SPEC`: what of RunPod is emulated, as a page of Markdown.

SPEC is the published OpenAPI document of REST v2. With `--check PAGE` nothing is printed, and the exit
status says whether the page is current.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import json
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from emulator import planes
from emulator.control.faults import Fault
from emulator.control.limits import Limits
from emulator.document import Document
from emulator.jobs.app import not_emulated
from emulator.rest.app import OPERATIONS
from emulator.s3.app import HANDLERS
from emulator.state import State

METHODS = ("get", "post", "put", "patch", "delete")
NAMES = {
    "/jobs/v2": "Job plane and worker protocol",
    "/hub": "Model hub (Hugging Face)",
    "/civitai": "Civitai",
    "/comfyui": "ComfyUI stand-in",
    "/hedra": "Hedra API v3",
    "/comfy-api": "Comfy API v2",
}
HEAD = """\
# What the emulator covers

<!-- Written by `python -m emulator.coverage SPEC` from the published document and the code. -->

How to run it: [emulator.md](emulator.md).

An operation that is not emulated answers 501 and says its name.
Nothing here has been compared with the live service yet: the rules come from RunPod's published
document and from reports, and the knobs of `/_emulator/knobs` turn the uncertain ones.
"""

ASSUMPTIONS = (
    "A cancelled job calls its webhook, with the status CANCELLED and without `output`.",
    "A job that was purged from the queue answers 404 at once.",
    '`{"input": null}` is accepted by `/run` and, like `{}`, never handled.',
    'A handler that returns `{"error": ""}` or `{"error": null}` ends COMPLETED without `output`.',
    "`/stream` returns early and empty when the state of the job changes.",
    "Two readers of one stream share its chunks.",
    "Chunks that were not read when a job was cancelled can still be read.",
    "Only strings are split at `stream_chunk_bytes`: how RunPod splits another value is not documented.",
    "The documented rate limits do not grow with the running workers.",
    "`mounts` is missing in a template without a persistent volume, although the document requires it.",
    "Billing gives a record for each bucket and each resource that was used in the window, also with zeros.",
    "Weeks of the billing routes begin on Monday; the platform's fee is zero.",
    "An idle connection stays open for ten minutes.",
)
"""What RunPod's documents leave open, and how the emulator decides it."""


def operations(document: Document) -> list[tuple[str, str, str]]:
    """Return the operations of the document: id, method, path without its version."""
    return [
        (details["operationId"], method.upper(), path.removeprefix("/v2"))
        for path, item in document["paths"].items()
        for method, details in item.items()
        if method in METHODS
    ]


def page(document: Document) -> str:
    """Return the whole page."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = planes.load(State(Path(folder)))
        parts = [*_rest(document), *_s3(), *_others(loaded), *_assumptions(), *_knobs(), *_faults()]
        return "\n".join([HEAD, *parts]) + "\n"


def _rest(document: Document) -> Iterator[str]:
    handled = {operation.id for operation in OPERATIONS if operation.handler is not None}
    listed = operations(document)
    done = sum(name in handled for name, _, _ in listed)
    version = document["info"]["version"]
    yield f"## REST v2 ({version}): {done} of {len(listed)} operations\n"
    yield "| operation | method | path | emulated |\n|---|---|---|---|"
    for name, method, path in listed:
        yield f"| {name} | {method} | `/v2{path}` | {'yes' if name in handled else '501'} |"
    yield ""


def _s3() -> Iterator[str]:
    yield "## S3\n"
    yield from (f"- {name}" for name in sorted({"ListBuckets", *HANDLERS}))
    yield ""
    yield "What RunPod's API lacks (DeleteObjects, presigned URLs, and the rest) is refused by name.\n"


def _others(loaded: list[planes.Plane]) -> Iterator[str]:
    for plane in loaded:
        if plane.prefix in NAMES and isinstance(plane.app, Starlette):
            yield f"## {NAMES[plane.prefix]}\n"
            yield "| method | path | emulated |\n|---|---|---|"
            yield from _routes(plane.app)
            yield ""


def _routes(app: Starlette) -> Iterator[str]:
    for route in app.routes:
        if isinstance(route, Mount):
            yield f"| | `{route.path}/…` | yes |"
        elif (
            isinstance(route, Route) and "{rest" not in route.path and not route.path.startswith("/_emulator")
        ):
            methods = " ".join(sorted((route.methods or {"any"}) - {"HEAD"}))
            yield f"| {methods} | `{route.path}` | {'501' if route.endpoint is not_emulated else 'yes'} |"


def _assumptions() -> Iterator[str]:
    yield "## Assumptions\n"
    yield "RunPod's documents do not settle these:\n"
    yield from (f"- {sentence}" for sentence in ASSUMPTIONS)
    yield ""


def _knobs() -> Iterator[str]:
    yield "## Knobs\n"
    yield "`PATCH /_emulator/knobs` turns them, `POST /_emulator/reset` turns them back.\n"
    yield "| knob | default | meaning |\n|---|---|---|"
    defaults = Limits().to_json()
    for name, sentence in attribute_docs(Limits).items():
        yield f"| `{name}` | `{json.dumps(defaults[name])}` | {sentence} |"
    yield ""


def _faults() -> Iterator[str]:
    yield "## Faults\n"
    yield '`POST /_emulator/faults` with `{"match": {"method", "path", "skip"}, …}`:\n'
    yield "```"
    yield (inspect.getdoc(Fault) or "").partition("Attributes:\n")[2]
    yield "```"


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstring below each field of a class, in their order, on one line."""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = node.body if isinstance(node, ast.ClassDef) else []
    found = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(field.target, ast.Name)
        ):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the page, or check one."""
    parser = argparse.ArgumentParser(
        prog="python -m emulator.coverage", description="Write the coverage page."
    )
    parser.add_argument("spec", type=Path, metavar="SPEC", help="the published OpenAPI document of REST v2")
    parser.add_argument(
        "--check", type=Path, metavar="PAGE", help="compare with this page instead of printing"
    )
    options = parser.parse_args(argv)
    text = page(json.loads(options.spec.read_text()))
    if options.check is None:
        sys.stdout.write(text)
        return 0
    if options.check.exists() and options.check.read_text() == text:
        return 0
    sys.stderr.write(f"{options.check} is not current: python -m emulator.coverage SPEC > {options.check}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
