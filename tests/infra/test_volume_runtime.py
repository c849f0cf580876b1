"""Runtime ``volume`` on the real engine: from an account with nothing but a key to a portrait, and on.

pip installs the locked packages from its index; the archives, the start command and the workers are real. Only
ComfyUI is the stand-in, so that the generation environment of these stacks is the demo's, which is empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import Settings, get_backend
from infra.runtime_plan import RuntimePlan
from ops.commands import runtime as commands
from ops.runtime.environment_key import KINDS
from tests.support.emulation import Emulator, running_emulator
from tests.support.pages import clone
from tests.support.pulumi_project import Project, project

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
LONG_S = 1500.0
"""An up that builds the ops environment: pip installs a hundred packages."""
CONFIG = {"comfyform:generation_folder": "generation", "comfyform:workers_max": "1"}


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
        code = clone(root / "code")
        shutil.rmtree(self.infra.root / "infra")
        (self.infra.root / "infra").symlink_to(code / "infra")
        self.infra.env["PYTHONPATH"] = str(code)
        self.code = code
        shutil.copytree(DEMO / "generation", self.infra.root / "generation")
        for name in ("models-registry.yaml", "models-registry.lock.yaml"):
            shutil.copy(DEMO / name, self.infra.root / name)

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
    """An empty account, a first up, and all that follows: new workers, new code, a new lock, drift, damage."""
    stack.up()
    first = RuntimePlan.of("generation", project=stack.infra.root)
    built = {name: stack.infra.resources()[f"comfy-{name}-environment"]["outputs"] for name in KINDS}
    assert stack.archives("code") == {first.code.sha256}
    assert stack.archives("environments") == {each["sha256"] for each in built.values()}
    portrait = stack.portrait()
    assert portrait.startswith(b"\x89PNG")
    stack.infra.up("--expect-no-changes")

    # A new worker downloads nothing: there is no package index any more, and the hub is not asked.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    stack.restart()
    before = len(stack.emu.requests(path="/hub/*"))
    assert stack.portrait() == portrait
    assert len(stack.emu.requests(path="/hub/*")) == before

    # A changed line of code: installed by the next up, without a build, and the next worker runs it.
    builds = stack.jobs("build_environment")
    with (stack.code / "worker" / "actions.py").open("a") as file:
        file.write("# changed\n")
    said = stack.up()
    assert "comfy-code updated" in said and stack.jobs("build_environment") == builds
    (second,) = stack.archives("code") - {first.code.sha256}
    assert stack.worker_version().endswith(second[:12])
    assert stack.archives("code") == {first.code.sha256, second}

    # A changed lock: another environment, and the GPU endpoint moves to it only when it is built.
    (stack.infra.root / "generation" / "comfyui.lock").write_text("# another lock\n")
    seen = len(stack.emu.requests())
    stack.up()
    wrote = [each for each in stack.emu.requests()[seen:] if each["method"] in ("PATCH", "POST")]
    moved = [each["path"] for each in wrote].index(f"/rest/v2/serverless/{stack.settings.runpod_endpoint_id}")
    jobs = [place for place, each in enumerate(wrote) if each["path"].endswith("/job-done") or "/run" in each["path"]]
    assert jobs and max(place for place in jobs if place < moved) < moved
    assert len(stack.archives("environments")) == 3
    assert stack.portrait().startswith(b"\x89PNG")

    # Pruning leaves what the endpoints start from, and asks nothing of RunPod twice.
    assert commands.list_runtime(json=True, settings=stack.settings) == 0
    listed = json.loads(capsys.readouterr().out)
    unused = [each["sha256"] for each in listed["code"] if not each["endpoints"]]
    assert sorted(unused) == sorted(stack.archives("code") - {max(unused, key=len)}) or len(unused) == 2
    assert commands.prune(yes=True, json=True, settings=stack.settings) == 0
    assert len(stack.archives("code")) == 1
    assert len(stack.archives("environments")) == 2

    # Damage and loss are drift, and up repairs both.
    (code,) = (stack.store / "code").glob("*.tar.gz")
    code.write_bytes(b"x" + code.read_bytes()[1:])
    key = stack.infra.resources()["comfy-generation-environment"]["outputs"]["key"]
    shutil.rmtree(stack.store / "environments" / key)
    stack.infra.pulumi("refresh", "--yes", "--skip-preview", timeout_s=LONG_S)
    assert "comfy-generation-environment" not in stack.infra.resources()
    stack.up()
    assert hashlib.sha256(code.read_bytes()).hexdigest() == code.name.partition(".")[0]
    assert len(stack.archives("environments")) == 2
    assert stack.portrait().startswith(b"\x89PNG")

    stack.infra.pulumi("destroy", "--yes", "--skip-preview")
    assert stack.emu.state()["endpoints"] == []
