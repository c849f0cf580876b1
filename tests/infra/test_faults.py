"""An up that RunPod answers badly, or that left a broken state: afterwards there is one of everything."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from infra.engine.stacks import Stack
from tests.infra.test_engine import EVERYTHING, FILES, on_volume, owned
from tests.support.emulation import Emulator, running_emulator, until
from tests.support.pulumi_project import STACK, Project, project, providers

pytestmark = pytest.mark.slow


def ready(infra: Project) -> Stack:
    """Do what `inv stack.up` does before it runs the CLI."""
    # Those that were at work have ended; one that was never asked anything waits for ever, as Pulumi made it.
    until(lambda: len(providers(infra.root)) <= 1)
    stack = Stack.at(STACK, project=infra.root, environ=infra.env, say=lambda _: None).opened()
    stack.make_ready()
    return stack


BAD_ANSWERS: dict[str, dict[str, Any]] = {
    "a rate limit": {"status": 429, "headers": {"Retry-After": "1"}, "body": {}},
    "an error": {"status": 500, "body": {}},
    "a gateway's error": {"status": 502, "body": "<html>"},
    "a cut before": {"cut": "before"},
    "a cut after": {"cut": "after"},
    "a late answer": {"delay_s": 1.0},
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every call of the control and job planes that an undisturbed up makes: method and route."""
    root = tmp_path_factory.mktemp("calls")
    with running_emulator(root / "runpod") as emu, project(root / "project", emu) as infra:
        infra.up()
        routes = emu.control("GET", "/routes")["routes"]
        created = {(each["method"], each["path"]) for each in emu.requests()}
    workers = ("job-take", "job-stop", "job-done", "ping")
    found = set()
    for method, path in created:
        route = max((glob for glob in routes if fnmatchcase(path, glob)), key=len)
        if route.startswith(("/rest/", "/jobs/")) and not any(name in route for name in workers):
            # There are two ways to ask for a job; which one is taken depends on the clock.
            found.add((method, re.sub(r"/status(-sync)?/\*", "/status*", route)))
    return sorted(found)


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_any_call_may_be_answered_badly(
    emu: Emulator, tmp_path: Path, calls: list[tuple[str, str]], bad: dict[str, Any]
) -> None:
    """Each call once: an up gets over it, or ends in a line that names the call; nothing is made twice."""
    with project(tmp_path / "project", emu) as infra:
        for method, path in calls:
            emu.fault(path, method=method, **bad)

        ups = 0
        while (done := infra.up(ok=False)).returncode:
            ups += 1
            output = done.stdout + done.stderr
            assert ups <= len(calls), output
            assert "Traceback" not in output
            errors = re.findall(r"^    error: (.*)$", output, re.MULTILINE)
            assert {error for error in errors if not CALL.search(error)} <= {"update failed"}, errors

        assert owned(emu) == EVERYTHING
        assert on_volume(emu, infra.outputs()["volume_id"]) == FILES
        infra.up("--expect-no-changes")


CALL = re.compile(r"(GET|POST|PATCH) http|^comfyform: (Create|List|Look|Submit|Ask)")
"""How a sentence names the call that failed."""


def test_a_failure_that_stays_is_one_line_that_names_the_call(emu: Emulator, tmp_path: Path) -> None:
    """RunPod refuses for good: its words, on the resource, with what was asked; the next up goes on."""
    with project(tmp_path / "project", emu) as infra:
        emu.fault(
            "/rest/v2/serverless",
            method="POST",
            times=1,
            status=400,
            body={"title": "Bad Request", "status": 400, "detail": "out of luck today"},
        )
        done = infra.up(ok=False)

        output = done.stdout + done.stderr
        assert done.returncode == 1
        assert "Traceback" not in output
        assert re.search(rf"Create endpoint 'comfyform-{STACK}-comfy-ops-[0-9a-f]{{6}}'", output), output
        assert "out of luck today" in output
        infra.up()
        assert owned(emu) == EVERYTHING


def test_a_volume_that_moves_takes_its_models_along(emu: Emulator, tmp_path: Path) -> None:
    """The new volume is filled, both endpoints are on it, the preview said so, and the old one is gone."""
    with project(tmp_path / "project", emu) as infra:
        infra.up()
        before = infra.outputs()
        infra.configure(data_center="EU-CZ-1")
        steps = json.loads(infra.pulumi("preview", "--json").stdout)["steps"]
        planned = {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] != "same"}

        infra.up()

        after = infra.outputs()
        assert planned["comfy-volume"].endswith("replace")
        assert (planned["comfy-ops"], planned["comfy-worker"]) == ("update", "update")
        assert owned(emu) == EVERYTHING
        assert on_volume(emu, after["volume_id"]) == FILES
        assert after["volume_id"] != before["volume_id"]
        assert after["endpoint_id"] == before["endpoint_id"]
        assert [each["networkVolumes"] for each in emu.state()["endpoints"]] == [[after["volume_id"]]] * 2
        infra.up("--expect-no-changes")


def test_a_state_that_was_cut_off_is_mended(emu: Emulator, tmp_path: Path) -> None:
    """A kill in the middle of a checkpoint write stops every pulumi command; opening the stack mends it."""
    with project(tmp_path / "project", emu) as infra:
        (infra.root / "models-registry.yaml").write_text("required: {}\n")
        infra.up()
        folder = infra.root / "pulumi" / "stacks" / ".pulumi" / "stacks" / "comfyform"
        for name in (f"{STACK}.json.attrs", f"{STACK}.json"):
            (folder / name).write_bytes(b"")
        assert infra.pulumi("stack", "export", ok=False).returncode == 1

        ready(infra)
        infra.up()

        assert owned(emu) == EVERYTHING
        infra.up("--expect-no-changes")
