"""A worker on the real `runpod` SDK that does what its input says; the emulator runs it as image `echo`.

Not a test: the smallest program that shows every way a job can go.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import runpod


async def handler(job: dict[str, Any]) -> Any:
    """Do what `job["input"]["do"]` says; without it, echo.

    "sleep" holds the whole process, "wait" can be cancelled.
    """
    wish = job["input"]
    match wish.get("do", "echo") if isinstance(wish, dict) else "echo":
        case "progress":
            for step in range(wish["steps"]):
                runpod.serverless.progress_update(job, {"step": step})
                await asyncio.sleep(wish.get("every_s", 0.05))
            return {"steps": wish["steps"]}
        case "raise":
            raise RuntimeError(wish["message"])
        case "error":
            return {"error": wish["message"]}
        case "die":
            marker = Path(wish["unless"]) if "unless" in wish else None
            if marker is None or not marker.exists():
                if marker is not None:
                    marker.write_text("died once")
                os.kill(os.getpid(), signal.SIGKILL)
            return {"survived": True}
        case "sleep":
            time.sleep(wish["seconds"])  # noqa: ASYNC251 - it is meant to hold the loop
            return {"slept": wish["seconds"]}
        case "wait":
            await asyncio.sleep(wish["seconds"])
            return {"waited": wish["seconds"]}
        case "env":
            return {name: os.environ.get(name) for name in wish["names"]}
        case "write":
            path = Path(os.environ["RUNPOD_VOLUME_PATH"]) / wish["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wish["text"])
            return {"path": str(path)}
        case "refresh":
            return {"refresh_worker": True, "pid": os.getpid()}
        case "big":
            return {"data": "x" * wish["bytes"]}
    return {"echo": wish, "keys": sorted(job)}


async def streamer(job: dict[str, Any]) -> AsyncIterator[str]:
    """Yield each word of `job["input"]["words"]`."""
    for word in job["input"]["words"]:
        yield word


if __name__ == "__main__":
    concurrency = int(os.environ.get("CONCURRENCY", "1"))
    runpod.serverless.start(
        {
            "handler": streamer if "STREAM" in os.environ else handler,
            "return_aggregate_stream": True,
            "concurrency_modifier": lambda _: concurrency,
        }
    )
