"""The log: off by default, to stderr where it is asked for, with what a report needs and no more."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys

import pytest

from backend.errors import ConfigError
from backend.flow import Retry, Send, ask
from backend.flow.http_driver import AsyncHttp, Http
from backend.settings import Secret, Settings
from tests.support.small_server import Answer, Seen, serving

ONE_CALL = """
import os
from backend import get_backend
from backend.errors import ComfyformError
{setup}
try:
    get_backend("local").health_check()
except ComfyformError:
    pass
print("done")
"""


def program(level: str | None, url: str, setup: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of a user's, which asks a ComfyUI how it is."""
    variables = {"COMFYUI_URL": url, **({"COMFYFORM_LOG": level} if level else {})}
    command = [sys.executable, "-c", ONE_CALL.format(setup=setup)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_a_program_logs_to_stderr_only_where_it_is_asked_to() -> None:
    """Nothing by default; with debug a line for each request, with method, address, status and time."""
    with serving(lambda _: Answer(body=b"{}")) as server:
        silent = program(None, server.url)
        logged = program("debug", server.url)
        own = program("debug", server.url, "import logging; logging.basicConfig(format='mine %(message)s')")

    assert (silent.stdout, silent.stderr) == ("done\n", "")
    assert logged.stdout == "done\n"
    line = rf"^\d\d:\d\d:\d\d\.\d{{3}} DEBUG +backend\.\S+: GET {re.escape(server.url)}/\S+: 200 in \d+ ms$"
    assert re.search(line, logged.stderr, re.MULTILINE)
    requests = [each for each in own.stderr.splitlines() if ": 200 in " in each]
    assert requests
    assert all(each.startswith("mine GET ") for each in requests)


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_a_retry_says_why_and_when_and_shows_no_query_and_no_key(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([Answer(status=503, body=b'{"error": "too busy"}'), Answer(body=b"{}")])

    def answer(_: Seen) -> Answer:
        return next(answers)

    async def run_async(step: Send) -> None:
        async with AsyncHttp() as http:
            await http.run(ask(step, "Read the list", retry=Retry(first_s=0.01)))

    caplog.set_level(logging.DEBUG, "backend")
    with serving(answer) as server:
        step = Send("GET", f"{server.url}/list", query={"token": "MARK1"}, key=Secret("MARK2"))
        if driver == "sync":
            with Http() as http:
                http.run(ask(step, "Read the list", retry=Retry(first_s=0.01)))
        else:
            asyncio.run(run_async(step))

    lines = [each.getMessage() for each in caplog.records]
    assert [re.sub(r" in \d+ ms", "", each) for each in lines if each.startswith("GET")] == [
        f"GET {server.url}/list: 503",
        f"GET {server.url}/list: 200",
    ]
    (retry,) = [
        each for each in caplog.records if "Trying again in 0.0 s: Read the list: " in each.getMessage()
    ]
    assert (retry.levelname, "too busy" in retry.getMessage()) == ("INFO", True)
    assert "MARK" not in caplog.text


def test_a_request_without_an_answer_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "backend")
    with serving(lambda _: Answer()) as server:
        pass
    with Http() as http, pytest.raises(Exception, match="could not be sent"):
        http.send(Send("GET", f"{server.url}/x?token=MARK"))

    assert re.search(r"GET \S+/x failed after \d+ ms: \S", caplog.text)
    assert "MARK" not in caplog.text


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"COMFYFORM_LOG: must be one of off, info, debug \(got 'all'\)"):
        Settings.from_env({"COMFYFORM_LOG": "all"})

    assert Settings.from_env({"COMFYFORM_LOG": "DEBUG"}).comfyform_log == "debug"
    assert Settings.from_env({"HEDRA_POLL_S": "x"}, only=["comfyform_log"]).comfyform_log == "off"
