"""What the images are made of: everything pinned, nothing secret, nothing hidden, and enough to run."""

from __future__ import annotations

import ast
import fnmatch
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock_proof, worker_locks

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ["worker/Dockerfile", "worker/Dockerfile.ops"]


def instructions(image: str) -> list[tuple[str, str]]:
    """Read a Dockerfile into (instruction, arguments), without comments, lines joined."""
    lines = [line for line in (ROOT / image).read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def arguments(image: str, instruction: str) -> list[str]:
    return [rest for name, rest in instructions(image) if name == instruction]


def pins(lock: str) -> dict[str, str]:
    """Read a lock's packages and versions."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("image", IMAGES)
def test_every_base_is_pinned_by_tag_and_digest(image):
    """The tag is for people, the digest is what is built from; stages of our own have names."""
    stages = {base.partition(" AS ")[2] for base in arguments(image, "FROM")} - {""}
    bases = [base.split()[0] for base in arguments(image, "FROM") if base.split()[0] not in stages]

    assert set(bases) == {"${BASE}"}
    assert re.fullmatch(r"BASE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", arguments(image, "ARG")[0])


def test_the_proof_is_about_the_base_image_of_both():
    """The locks are judged for the Python that the images have."""
    bases = {arguments(image, "ARG")[0] for image in IMAGES}

    assert len(bases) == 1
    assert f"python:{lock_proof.PYTHON}-slim" in bases.pop()


@pytest.mark.parametrize("image", IMAGES)
def test_no_step_hides_its_failure_or_takes_what_is_newest(image):
    """`|| true` once shipped an image without half of its packages."""
    text = "\n".join(f"{name} {rest}" for name, rest in instructions(image))

    assert (
        re.findall(
            r"\|\||;|--no-check-certificate|set \+e|latest|curl|wget|--pre\b|pip install (?!.*--no-deps)",
            text,
        )
        == []
    )
    assert arguments(image, "ADD") == []


def test_sources_come_from_the_pins():
    """ComfyUI and its packs are cloned as ``worker/comfyui.toml`` pins them, and nowhere else."""
    runs = " ".join(arguments("worker/Dockerfile", "RUN"))

    assert "python sources.py /opt/ComfyUI" in runs
    assert "COPY worker/comfyui.toml worker/sources.py" in (ROOT / "worker/Dockerfile").read_text()
    assert re.findall(r"git clone|https://github|checkout", runs) == []


@pytest.mark.parametrize("image", IMAGES)
def test_python_packages_come_from_locks_with_hashes(image):
    """Only our own code is installed without: it is built from the files that were copied in.

    Nothing is resolved: pip looks for newer versions of what a package wants before it heeds the lock.
    """
    installs = [step for run in arguments(image, "RUN") for step in run.split("&&") if "pip install" in step]
    ours = [step for step in installs if step.rstrip().endswith(" .")]

    assert len(ours) == 1
    for step in set(installs) - set(ours):
        assert {"--require-hashes", "--no-deps"} <= set(step.split()), step


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_and_no_model_is_built_in(image):
    """Keys come with the endpoint's environment, models with the volume."""
    names = " ".join(arguments(image, "ENV") + arguments(image, "ARG"))
    text = (ROOT / image).read_text()

    assert re.findall(r"\w*(?:TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)\w*", names) == []
    assert re.findall(r"\.(?:safetensors|ckpt|pth|gguf)\b|huggingface", text) == []


@pytest.mark.parametrize("image", IMAGES)
def test_the_container_is_nobody_special_and_hears_signals(image):
    """Not root, and the worker alone: no shell between it and SIGTERM, no init that shows its keys."""
    last_stage = instructions(image)[[name for name, _ in instructions(image)].index("USER") :]

    assert dict(last_stage)["USER"] == "comfy"
    assert json.loads(dict(last_stage)["ENTRYPOINT"]) == ["python", "-m", "worker"]
    assert "CMD" not in dict(last_stage)


@pytest.mark.parametrize("image", IMAGES)
def test_system_packages_leave_no_lists_behind(image):
    """Small layers: no recommended extras, no package lists."""
    runs = [run for run in arguments(image, "RUN") if "apt-get install" in run]

    assert runs or image.endswith(".ops")  # which has none
    assert [
        run for run in runs if "--no-install-recommends" not in run or "rm -rf /var/lib/apt" not in run
    ] == []


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_is_not_ignored(image):
    """A file that .dockerignore hides would only be missed at build time."""
    ignored = [
        line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] not in "#!"
    ]
    remaining = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")
    ]
    sources = [
        source
        for copy in arguments(image, "COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    ]

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if source.split("/")[0] not in remaining] == []
    hidden = [pattern for pattern in ignored if pattern != "*"]
    assert [source for source in sources if any(fnmatch.fnmatch(source, pattern) for pattern in hidden)] == []


def test_both_images_hold_the_same_worker():
    """One code base: the steps that install it are the same, line by line."""
    stages = []
    for image in IMAGES:
        text = (ROOT / image).read_text()
        found = re.search(r"AS worker\n(.*?)\n\nFROM", text, re.DOTALL)
        assert found is not None
        stages.append(found[1])

    assert stages[0] == stages[1]


def test_the_worker_takes_its_bounds_from_the_project():
    """What requirements.in asks for is what pyproject.toml asks for, word for word."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stated = {
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["worker"],
        *project["build-system"]["requires"],
    }
    required = {
        line for line in (ROOT / "worker/requirements.in").read_text().splitlines() if line and line[0] != "#"
    }

    assert required - stated == set()
    assert set(project["project"]["optional-dependencies"]["worker"]) <= required


def imported_names(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, at any place; of ours also what is taken from a package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.slow
def test_the_worker_asks_for_every_package_that_it_imports():
    """A package that only came along with another would vanish with that one's next version."""
    paths, seen, packages = list((ROOT / "worker").rglob("*.py")), set(), set()
    while paths:
        path = paths.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported_names(path):
            top = name.partition(".")[0]
            if top in ("backend", "ops", "worker"):
                place = ROOT / name.replace(".", "/")
                paths += [
                    file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()
                ]
            elif top not in sys.stdlib_module_names:
                packages.add(top)
    distributions = importlib.metadata.packages_distributions()
    needed = {canonicalize_name(distributions[name][0]) for name in packages}
    required = {
        canonicalize_name(Requirement(line).name)
        for line in worker_locks.requirements(ROOT / "worker/requirements.in")
    }

    assert {"pyyaml", "runpod"} <= needed
    # httpcore is the transport inside httpx, whose bounds hold for both.
    assert needed - {"httpcore"} - required == set()


def test_the_worker_runs_what_was_tested():
    """Every version in the image is the one in the project's own lock, which the tests ran with."""
    tested, shipped = pins("requirements.lock"), pins("worker/requirements.lock")

    assert {name: version for name, version in shipped.items() if tested.get(name, version) != version} == {}
    assert set(shipped) - set(tested) == {"setuptools"}


def test_the_locks_of_comfyui_are_two_layers():
    """No package twice, and torch apart from the rest."""
    cuda, rest = pins("worker/cuda.lock"), pins("worker/comfyui.lock")

    assert set(cuda) & set(rest) == set()
    assert "torch" in cuda


@pytest.mark.slow
def test_the_ops_image_has_all_that_the_worker_imports(tmp_path):
    """With only the locked packages and the copied folders, the worker starts and answers a job."""
    site = tmp_path / "site"
    site.mkdir()
    for name in set(pins("worker/requirements.lock")) - {"setuptools"}:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another Python or system
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    for folder in ("backend", "ops", "worker"):
        shutil.copytree(ROOT / folder, site / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "volume").mkdir()
    # Without the site folder of this environment: only what the image would have.
    start = f"""
import runpy, sys
sys.path.insert(0, {str(site)!r})
sys.argv = ["worker", "--test_input", '{{"id": "j", "input": {{"action": "inventory"}}}}']
runpy.run_module("worker", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", start],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"RUNPOD_VOLUME_PATH": str(tmp_path / "volume"), "PATH": "/usr/bin:/bin"},
        check=False,
    )

    assert "Job j completed successfully." in done.stdout, done.stdout + done.stderr
    assert "'inventory': []" in done.stdout
