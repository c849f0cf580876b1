"""Runtime ``volume`` on the real engine: from an account with nothing but a key to a portrait, and on.

pip installs the locked packages from its index; the archives, the start command and the workers are real.
Only ComfyUI is the stand-in, so the generation environment of these stacks is the demo's, which is empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import Settings, get_backend
from backend.flow.http_driver import Http
from infra.cli.runtime_finding import compare, live_environments
from infra.runtime_plan import RuntimePlan
from ops.commands import runtime as commands
from ops.commands.doctor_checks import Finding
from ops.runtime.environment_key import KINDS
from tests.support.emulation import Emulator, running_emulator
from tests.support.pages import clone
from tests.support.pulumi_project import project

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
LONG_S = 1500.0
"""An up that builds the ops environment: pip installs a hundred packages."""
CONFIG = {
    "comfyform:runtime": "volume",
    "comfyform:generation_folder": "generation",
    "comfyform:workers_max": "1",
}


class Stack:
    """A stack on the volume, and the RunPod that it is on, over its lives.

    Attributes:
        emu: RunPod as it runs now.
        infra: the project; its code is a copy that a test may change.
    """

    def __init__(self, root: Path, cleanup: contextlib.ExitStack) -> None:
        self._root, self._cleanup = root, cleanup
        (root / "runpod").mkdir()
        self.emu = self._start(0)
        self.infra = cleanup.enter_context(project(root / "project", self.emu, config=CONFIG))
        clone(self.infra.root)
        self.infra.env["PYTHONPATH"] = str(self.infra.root)
        shutil.copytree(DEMO / "generation", self.infra.root / "generation")

    def _start(self, port: int) -> Emulator:
        return self._cleanup.enter_context(running_emulator(self._root / "runpod", port=port))

    def restart(self) -> None:
        """End RunPod with all its workers, and start it again with what it had."""
        port = int(self.emu.url("rest").split(":")[2].split("/")[0])
        self.emu.process.terminate()
        self.emu.process.wait(60)
        self.emu = self._start(port)

    def up(self) -> str:
        """Bring the stack up, however long its environments take."""
        return self.infra.up(timeout_s=LONG_S).stdout

    @property
    def settings(self) -> Settings:
        """Settings that point at the stack."""
        return Settings.from_env({**self.infra.env, **self.infra.outputs()["backend_env"]})

    @property
    def store(self) -> Path:
        """The runtime folder of the volume."""
        return self.emu.volume_dir(self.infra.outputs()["volume_id"]) / ".comfyform" / "runtime"

    def archives(self, part: str = ".") -> set[str]:
        """Return the names of the archives on the volume, without their endings."""
        return {path.name.partition(".")[0] for path in (self.store / part).rglob("*.tar.*")}

    def environments(self) -> set[str]:
        """Return the keys of the environments on the volume."""
        return {path.parent.name for path in self.store.rglob("record.json")}

    def portrait(self) -> bytes:
        """Make a portrait on a worker that runs this checkout's code."""
        path = self.infra.root / "odin.png"
        with get_backend("runpod", settings=self.settings) as backend:
            backend.portrait(prompt="Odin", seed=7, output_path=path).raise_for_failure()
        return path.read_bytes()

    def worker_version(self) -> str:
        """Ask a GPU worker which code it runs."""
        job = {"input": {"action": "health"}}
        answer = self.emu.jobs("POST", f"/{self.settings.runpod_endpoint_id}/runsync?wait=300000", job).json()
        assert answer["status"] == "COMPLETED", answer
        return str(answer["output"]["worker_version"])

    def plan(self) -> RuntimePlan:
        """Return what the stack's copy of the code makes."""
        code = "import pickle, sys, pathlib; from infra.runtime_plan import RuntimePlan; "
        code += "sys.stdout.buffer.write(pickle.dumps(RuntimePlan.of(pathlib.Path('generation'))))"
        command = [sys.executable, "-c", code]
        answer = subprocess.run(
            command, cwd=self.infra.root, env=self.infra.env, capture_output=True, check=True
        )
        plan: RuntimePlan = pickle.loads(answer.stdout)
        return plan

    def finding(self) -> Finding:
        """Return what `inv doctor` says about the runtime."""
        with Http() as http:
            return compare(self.plan(), live_environments(self.infra.outputs(), self.settings, http))

    def change_code(self) -> None:
        """Change a line of the worker's code."""
        with (self.infra.root / "worker" / "actions.py").open("a") as file:
            file.write("# changed\n")

    def change_lock(self) -> None:
        """Change the lock of the generation environment."""
        with (self.infra.root / "generation" / "comfyui.lock").open("a") as file:
            file.write("# changed\n")

    def jobs(self, action: str) -> int:
        """Count the jobs of an action that RunPod has taken so far."""
        return sum(job.get("action") == action for job in self.emu.submitted().values())


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with contextlib.ExitStack() as cleanup:
        yield Stack(tmp_path, cleanup)


@pytest.mark.slow
def test_from_a_key_to_a_portrait_and_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty account, its first up, and all that follows on one stack: one build of packages is enough."""
    stack.up()
    a_first_up_brings_everything(stack)
    a_new_worker_downloads_nothing(stack, monkeypatch)
    a_changed_line_runs_after_the_next_up(stack)
    the_endpoint_moves_when_a_new_environment_is_built(stack)
    pruning_leaves_what_is_in_use(stack, capsys)
    damage_and_loss_are_repaired(stack)


def a_first_up_brings_everything(stack: Stack) -> None:
    """Code and both environments are on the volume, each once, and a portrait comes of them."""
    plan = stack.plan()
    built = {kind: stack.infra.resources()[f"comfy-{kind}-environment"]["outputs"] for kind in KINDS}
    assert stack.archives("code") == {plan.code.sha256}
    assert stack.archives("environments") == {each["sha256"] for each in built.values()}
    assert stack.portrait().startswith(b"\x89PNG")
    stack.infra.up("--expect-no-changes")
    stack.infra.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes", timeout_s=LONG_S)
    assert stack.finding().state == "ok"


def a_new_worker_downloads_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers are gone, there is no package index, and nothing is asked of the hub."""
    with monkeypatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
        stack.restart()
    assert stack.portrait().startswith(b"\x89PNG")
    assert stack.emu.requests(path="/hub/*") == []


def a_changed_line_runs_after_the_next_up(stack: Stack) -> None:
    """The code is installed again, nothing is built, and the next worker runs the new line."""
    before, builds = stack.plan().code.sha256, stack.jobs("build_environment")
    stack.change_code()
    after = stack.plan().code.sha256
    assert stack.finding().state == "warning"
    stack.up()
    assert stack.jobs("build_environment") == builds
    assert stack.archives("code") == {before, after}
    assert stack.worker_version().endswith(after[:12])
    assert stack.finding().state == "ok"


def the_endpoint_moves_when_a_new_environment_is_built(stack: Stack) -> None:
    """Until then the endpoint has the old environment, which is still there for its workers."""
    settings, old = stack.settings, stack.environments()
    stack.change_lock()
    seen = len(stack.emu.requests())
    stack.up()
    paths = [f"{each['method']} {each['path']}" for each in stack.emu.requests()[seen:]]
    moved = paths.index(f"PATCH /rest/v2/serverless/{settings.runpod_endpoint_id}")
    asked = paths.index(
        f"POST /jobs/v2/{settings.runpod_ops_endpoint_id}/run",
        paths.index(f"POST /jobs/v2/{settings.runpod_ops_endpoint_id}/run") + 1,
    )  # the first one installs the code
    answers = [place for place, path in enumerate(paths) if "/job-done/" in path]
    assert any(asked < place < moved for place in answers)
    assert old < stack.environments()
    assert stack.portrait().startswith(b"\x89PNG")


def pruning_leaves_what_is_in_use(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """The list says who uses what; pruning removes the rest."""
    plan = stack.plan()
    capsys.readouterr()
    assert commands.list_runtime(json=True, settings=stack.settings) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {each["sha256"]: len(each["endpoints"]) for each in listed["code"]}[plan.code.sha256] == 2
    used = {each["key"] for each in listed["environments"] if each["endpoints"]}
    assert used == set(plan.keys.values())
    assert len(listed["environments"]) == 3
    assert commands.prune(yes=True, json=True, settings=stack.settings) == 0
    assert stack.archives("code") == {plan.code.sha256}
    assert stack.environments() == set(plan.keys.values())
    assert commands.prune(yes=True, json=True, settings=stack.settings) == 0


def damage_and_loss_are_repaired(stack: Stack) -> None:
    """A code archive with other bytes and an environment that is gone are drift; up repairs both."""
    plan = stack.plan()
    code = stack.store / "code" / f"{plan.code.sha256}.tar.gz"
    code.write_bytes(b"x" + code.read_bytes()[1:])
    shutil.rmtree(stack.store / "environments" / plan.keys["generation"])
    stack.restart()
    stack.infra.pulumi("refresh", "--yes", "--skip-preview", timeout_s=LONG_S)
    assert "comfy-code" not in stack.infra.resources()
    stack.up()
    assert hashlib.sha256(code.read_bytes()).hexdigest() == plan.code.sha256
    assert (stack.store / "environments" / plan.keys["generation"] / "record.json").is_file()
    assert stack.portrait().startswith(b"\x89PNG")
