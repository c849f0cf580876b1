"""``./inv conform``: run the checks on a ComfyUI and print what held and what failed."""

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from backend import Settings, get_backend
from backend.comfyui.api import ComfyUI
from backend.errors import ComfyformError, InvalidArgument
from backend.flow.http_driver import Http
from ops.console.console import Console
from tools.conformance.checks import CHECKS
from tools.conformance.context import Run, Skipped
from tools.conformance.server import Server, started

FAILED: Final = 1
NOTE_CHARS: Final = 160


def conform(
    *,
    comfyui_url: str = "",
    comfyui_dir: str = "",
    python: str = "",
    arguments: str = "",
    only: str = "",
    mutated: int = 300,
    json: bool = False,
) -> int:
    """Drive comfyform against a real ComfyUI, and print what held and what failed.

    Args:
        comfyui_url: a ComfyUI that runs; its queue should be empty.
        comfyui_dir: or the folder of one, which is started on the CPU with a random checkpoint of 0.5 GB.
        python: the Python that has that ComfyUI's packages; by default this one.
        arguments: further arguments for its main.py, for example '--front-end-root FOLDER'.
        only: run the checks whose names contain this text.
        mutated: how many changed graphs are compared with the server's own check.
        json: give JSON, for a script.
    """
    if bool(comfyui_url) == bool(comfyui_dir):
        raise InvalidArgument("Give either --comfyui-url or --comfyui-dir.")
    if comfyui_dir and not (Path(comfyui_dir) / "main.py").is_file():
        raise InvalidArgument(f"{comfyui_dir!r} is not ComfyUI's folder: it has no main.py.")
    console = Console("json" if json else "human")
    chosen = {name: check for name, check in CHECKS.items() if only.lower() in name.lower()}
    if not chosen:
        raise InvalidArgument(f"No check is named like {only!r}.", hint=f"There are: {', '.join(CHECKS)}.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="comfyform-conformance-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        with _server(comfyui_url, comfyui_dir, python or sys.executable, folder, shlex.split(arguments)) as (
            url,
            server,
        ):
            for row in _rows(url, server, folder, chosen, mutated):
                rows.append(row)
                console.text(f"{row['verdict']:7} {row['check']}  {row['seconds']:.1f} s  {row['note']}")
    failed = [row["check"] for row in rows if row["verdict"] == "failed"]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("held", "failed", "skipped")
    }
    console.data({"checks": rows, **counts})
    console.say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".")
    return FAILED if failed else 0


@contextmanager
def _server(
    url: str, comfyui: str, python: str, folder: Path, more: list[str]
) -> Iterator[tuple[str, Server | None]]:
    """Yield the address of the ComfyUI, and its process where it is started here."""
    if url:
        yield url, None
        return
    # The interpreter of a virtual environment is a link, which must not be resolved.
    with started(Path(comfyui).resolve(), str(Path.cwd() / python), folder, more) as server:
        yield server.url, server


def _rows(
    url: str, server: Server | None, folder: Path, chosen: dict[str, Callable[[Run], str]], mutated: int
) -> Iterator[dict[str, Any]]:
    """Run the checks, one after another."""
    files = folder / "files"
    files.mkdir()
    settings = Settings.from_env(
        {"COMFYUI_URL": url, "COMFYFORM_STATE_DIR": str(folder / "state"), "COMFYFORM_TIMEOUT_S": "600"}
    )
    with Http() as http, get_backend("local", settings=settings) as client:
        comfyui = ComfyUI(url)
        definitions = http.run(comfyui.object_info())
        run = Run(client, comfyui, http, definitions, files, server, mutated)
        for name, check in chosen.items():
            start = time.monotonic()
            try:
                verdict, note = "held", check(run)
            except Skipped as reason:
                verdict, note = "skipped", str(reason)
            except (AssertionError, ComfyformError, OSError, ValueError, KeyError) as error:
                verdict, note = "failed", f"{type(error).__name__}: {error}"
            seconds = round(time.monotonic() - start, 1)
            note = " ".join(note.split())
            yield {"check": name, "verdict": verdict, "seconds": seconds, "note": note[:NOTE_CHARS]}
