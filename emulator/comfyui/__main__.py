"""`python -m emulator.comfyui`: the stand-in as a program, started with ComfyUI's own flags."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import uvicorn

from emulator.comfyui import console
from emulator.comfyui.app import build
from emulator.comfyui.nodes.declarations import NODES
from emulator.comfyui.settings import Folders, Knobs, Settings, Version

logger = logging.getLogger("comfyui")
MIB = 1 << 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator.comfyui", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--listen", nargs="?", const="0.0.0.0", default="127.0.0.1")  # noqa: S104 - refused below
    parser.add_argument("--port", type=int, default=8188)
    for name in ("base", "models", "input", "output", "temp"):
        parser.add_argument(f"--{name}-directory", type=Path)
    parser.add_argument("--extra-model-paths-config", type=Path, nargs="+", action="extend", default=[])
    parser.add_argument("--preview-method", default="none", choices=["none", "auto", "latent2rgb", "taesd"])
    parser.add_argument("--max-upload-size", type=float, default=100, metavar="MB")
    parser.add_argument("--cache-none", action="store_true")
    parser.add_argument("--disable-metadata", action="store_true")
    parser.add_argument("--enable-cors-header", nargs="?", const="*", metavar="ORIGIN")
    emulator = parser.add_argument_group("of the stand-in alone")
    emulator.add_argument("--pretend-version", type=_version, default=(0, 29, 0), metavar="0.3.64|0.29.0")
    emulator.add_argument("--emulate", action="append", default=[], metavar="KNOB=VALUE")
    return parser


def _version(text: str) -> Version:
    major, minor, patch = (int(part) for part in text.split("."))
    return major, minor, patch


def _knobs(pairs: list[str], parser: argparse.ArgumentParser) -> Knobs:
    knobs = Knobs()
    changes = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        is_text = isinstance(getattr(knobs, name, ""), str)
        with contextlib.suppress(ValueError):
            changes[name] = value if is_text else json.loads(value)
    for problem in knobs.update(changes):
        parser.error(problem)
    return knobs


def _huggingface_cache() -> Path:
    """Find the cache as huggingface_hub does."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def settings(argv: list[str]) -> tuple[Settings, str, int]:
    """Read a command line: the settings, the host and the port. Unknown flags are named and ignored."""
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        logger.info("flags that the stand-in has no use for: %s", " ".join(unknown))
    if args.listen not in ("127.0.0.1", "localhost"):
        logger.info("--listen %s: the stand-in only listens on 127.0.0.1", args.listen)
    base = (args.base_directory or Path.cwd()).resolve()
    moved = {name: getattr(args, f"{name}_directory") for name in ("models", "input", "output", "temp")}
    found = Settings(
        folders=Folders.under(base, **moved),
        version=args.pretend_version,
        extra_model_paths=tuple(path.resolve() for path in args.extra_model_paths_config),
        preview_method=args.preview_method,
        cache=not args.cache_none,
        metadata=not args.disable_metadata,
        huggingface_cache=_huggingface_cache(),
        max_upload_bytes=int(args.max_upload_size * MIB),
        prints=True,
        any_origin=args.enable_cors_header is not None,
        argv=("main.py", *argv),
        knobs=_knobs(args.emulate, parser),
    )
    return found, "127.0.0.1", args.port


def main() -> int:
    """Serve until stopped; return the exit status."""
    console.start()
    found, host, port = settings(sys.argv[1:])
    # As ComfyUI does: what an earlier run left in temp is gone.
    shutil.rmtree(found.folders.temp, ignore_errors=True)
    time.sleep(found.knobs.start_s)
    comfyui, engine = build(found)
    console.failed_imports(node for name, node in NODES.items() if name not in engine.nodes)
    # A real ComfyUI is an aiohttp server, which keeps an idle connection for 75 s.
    config = uvicorn.Config(comfyui, log_level="warning", access_log=False, timeout_keep_alive=75)
    server = uvicorn.Server(config)
    # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer takes 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        logger.error("cannot listen on %s:%s: %s", host, port, error.strerror)
        return 1
    listener.listen()
    logger.info("ComfyUI version: %s (stand-in)", ".".join(map(str, found.version)))
    # As with ComfyUI, from this line on requests are taken.
    logger.info("To see the GUI go to: http://%s:%s", *listener.getsockname())
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
