"""kill -9 around every change of an up, of the CLI or of all of RunPod: then there is one of everything.

The requests of an undisturbed up are the moments to die at. A request that changes something is two
moments: before RunPod acts, and after it acted but before its answer arrives. Of the reads between two
changes the last one is a moment, and the very first: killed at the others, the same objects remain.
Each moment has an up of its own, for a new environment. The environments share a stack, so that the final
checks run once: another up creates everything exactly once, and destroy leaves nothing.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.engine import orphan_processes
from infra.engine.stacks import Stack
from infra.engine.state_files import repair, state_folder, unlock
from tests.support.deadlines import HANG_S
from tests.support.emulation import TESTS, Emulator, running_emulator, until
from tests.support.ports import free_port
from tests.support.pulumi_project import STACK, kill, logical_name, project, providers

pytestmark = pytest.mark.slow

ENVIRONMENT = ["ops", "ops", "registry", "volume", "worker", "worker"]
"""What an environment has at RunPod: two templates, two endpoints, a login, a volume."""
CLOCKWORK = ("/job-take", "/job-stop", "/ping", "/status")
"""Requests that repeat by the clock: the first of each is a moment."""


class Moment(NamedTuple):
    """When to die: at the `nth` request of a method and path, before RunPod has acted, or after."""

    method: str
    path: str
    nth: int
    after: bool


class Life:
    """A stack with an environment for each moment, and the RunPod that it is on, over its deaths.

    Attributes:
        emu: RunPod as it runs now.
        wanted: the environments so far, as the program takes them.
    """

    def __init__(self, root: Path, cleanup: contextlib.ExitStack) -> None:
        self._root, self._cleanup = root, cleanup
        self.wanted: list[str] = []
        (root / "runpod").mkdir()
        self.emu = self._start(free_port())
        self.infra = cleanup.enter_context(project(root / "project", self.emu))
        shutil.copyfile(TESTS / "environments_program.py", self.infra.root / "infra" / "__main__.py")

    def _start(self, port: int) -> Emulator:
        emu = self._cleanup.enter_context(running_emulator(self._root / "runpod", port=port))
        # Workers end with their work, so that what they ask is not taken for a request of the next up.
        emu.set(worker_quota=1000, idle_timeout_scale=0.01)
        return emu

    def restart(self) -> None:
        """Start RunPod again, where it was and with what it had."""
        self.emu = self._start(int(self.emu.url("rest").split(":")[2].split("/")[0]))

    @contextlib.contextmanager
    def up(self, *, model: bool) -> Iterator[subprocess.Popen[str]]:
        """Begin an up of one more environment, and clear away what is left of it at the end."""
        name = f"env{len(self.wanted):02}"
        self.wanted.append(f"{name}+" if model else name)
        self.infra.env["ENVIRONMENTS"] = self.wanted[-1]
        run = self.infra.start("up", "--yes", "--skip-preview", "--target", f"**{name}**")
        yield run
        assert run.poll() is not None
        # Those that were at work end; one that was never asked anything waits for ever, as Pulumi made it.
        until(lambda: len(providers(self.infra.root)) <= 1)
        orphan_processes.end()
        until(lambda: not providers(self.infra.root))
        folder = state_folder(self.infra.env)
        repair(folder, "comfyform", STACK)
        unlock(folder, run.pid)
        until(lambda: all(job["status"] in ("COMPLETED", "FAILED") for job in self.emu.state()["jobs"]))
        until(lambda: not self.emu.state()["workers"])

    def moments(self, *, model: bool) -> list[Moment]:
        """Return the moments of an undisturbed up."""
        before = len(self.emu.requests())
        with self.up(model=model) as run:
            output, _ = run.communicate(timeout=HANG_S)
            assert run.returncode == 0, output
            requests = self.emu.requests()[before:]
        routes = self.emu.control("GET", "/routes")["routes"]
        counts: Counter[tuple[str, str]] = Counter()
        moments: list[Moment] = []
        for each in requests:
            method = each["method"]
            path = max((glob for glob in routes if fnmatchcase(each["path"], glob)), key=len)
            # There are two ways to ask for a job's status; which one is used depends on the clock, too.
            path = path.replace("/status-sync/*", "/status*").replace("/status/*", "/status*")
            if not counts[method, path] or not any(word in path for word in CLOCKWORK):
                moments += [
                    Moment(method, path, counts[method, path], after)
                    for after in ((False, True) if method == "POST" else (False,))
                ]
            counts[method, path] += 1
        return moments

    def check(self) -> None:
        """One more up makes everything once, another has nothing to do, and destroy leaves nothing."""
        self.infra.env["ENVIRONMENTS"] = " ".join(self.wanted)
        stack = Stack.at(STACK, project=self.infra.root, environ=self.infra.env, say=lambda _: None)
        stack.opened().make_ready()
        self.infra.up()
        assert self.made() == {name.rstrip("+"): ENVIRONMENT for name in self.wanted}
        volumes = [self.emu.volume_dir(each["id"]) / "models" for each in self.emu.state()["volumes"]]
        files = [path.parent.name for folder in volumes for path in folder.glob("*/config.json")]
        assert sorted(files) == [name.rstrip("+") for name in self.wanted if name.endswith("+")]
        self.infra.up("--expect-no-changes")

        self.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert self.made() == {}

    def made(self) -> dict[str, list[str]]:
        """Return what is at RunPod, by environment."""
        state = self.emu.state()
        kinds = ("volumes", "templates", "endpoints", "registries")
        names = [logical_name(each["name"]) for kind in kinds for each in state[kind]]
        found: dict[str, list[str]] = {}
        for name in sorted(names):
            environment, _, part = name.partition("-")
            found.setdefault(environment, []).append(part)
        return found


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with contextlib.ExitStack() as cleanup:
        yield Life(tmp_path, cleanup)


def last_reads(moments: list[Moment]) -> list[Moment]:
    """Keep the first request, every change, and of consecutive reads of the control plane the last one."""

    def is_read(moment: Moment) -> bool:
        return moment.method == "GET" and moment.path.startswith("/rest/")

    return moments[:1] + [
        moment
        for moment, following in zip(moments[1:], [*moments[2:], None], strict=True)
        if not (is_read(moment) and following is not None and is_read(following))
    ]


def moments_of(life: Life, part: str) -> tuple[list[Moment], bool]:
    """Return moments while `resources` are made, or those that a `model` adds, and whether there is one."""
    found = life.moments(model=False)
    creates = {moment.path for moment in found if moment.after}
    kinds = ("network-volumes", "templates", "serverless", "registries")
    assert creates == {f"/rest/v2/{kind}" for kind in kinds}
    if part == "resources":
        return last_reads(found), False
    added = list((Counter(life.moments(model=True)) - Counter(found)).elements())
    assert {moment.path.rpartition("*/")[2] for moment in added if moment.after} >= {"run"}
    return added, True


@pytest.mark.parametrize("part", ["resources", "model"])
def test_the_cli_is_killed_at_every_request(life: Life, part: str) -> None:
    """Nobody is there any more to hear RunPod's answer, or to write it down."""
    moments, model = moments_of(life, part)
    for moment in moments:
        kill_cli(life, moment, model=model)
    life.check()


@pytest.mark.parametrize("part", ["resources", "model"])
def test_runpod_is_killed_at_every_request(life: Life, part: str) -> None:
    """All of RunPod dies in the middle of an up, and comes back: the up goes on, or ends in clean words."""
    moments, model = moments_of(life, part)
    for moment in moments:
        kill_runpod(life, moment, model=model)
    life.check()


def kill_cli(life: Life, moment: Moment, *, model: bool) -> None:
    """Kill an up while its request is held: before RunPod acts, or before its answer is whole."""
    emu = life.emu
    what = {"stall": 0} if moment.after else {"delay_s": 600}
    fault = emu.fault(moment.path, method=moment.method, skip=moment.nth, **what)["id"]

    def held() -> bool:
        if moment.after:
            return any(each["fault"] == f"#{fault}" for each in emu.requests(moment.method, moment.path))
        return any(each["id"] == fault and each["hits"] for each in emu.control("GET", "/faults")["faults"])

    with life.up(model=model) as run:
        until(lambda: held() or run.poll() is not None)
        assert run.poll() is None, (moment, run.communicate()[0])
        kill(run)
        emu.control("DELETE", f"/faults/{fault}")


def kill_runpod(life: Life, moment: Moment, *, model: bool) -> None:
    """Kill RunPod at a request of an up, start it again at once, and let the up end."""
    die = "after" if moment.after else "before"
    life.emu.fault(moment.path, method=moment.method, skip=moment.nth, die=die)
    with life.up(model=model) as run:
        died = until(lambda: life.emu.process.poll() or run.poll() is not None)
        assert died == -signal.SIGKILL, moment
        life.restart()
        if moment.path.startswith("/rest/") and (moment.method, moment.after) == ("POST", False):
            # It looks for what became of its create, for 15 seconds and in vain: it may as well die now.
            until(lambda: life.emu.requests("GET", moment.path) or run.poll() is not None)
            kill(run)
        else:
            output, _ = run.communicate(timeout=HANG_S)
            assert "Traceback" not in output
