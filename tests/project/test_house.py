"""The rules of the house: what may import what, what is public, what importing costs."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("backend", "ops", "infra", "worker", "mcp_server")
LONGEST_FILE = 350
SOURCES = sorted(
    path
    for folder in (*PRODUCT, "emulator", "tools", "examples", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


def run(code: str) -> str:
    """Run a line of Python in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


@pytest.mark.slow
def test_the_import_ladder_holds():
    """infra, worker and mcp_server stand on ops, ops on backend; each foreign library has one home."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_backend_import_loads_nothing_heavy():
    """`import backend` stays light: the libraries come with the first call that needs them."""
    heavy = {"httpx", "pulumi", "yaml", "runpod", "boto3", "pydantic", "rich", "ssl", "asyncio", "ops"}

    loaded = set(run("import sys, backend; print(*sys.modules)").split())

    assert loaded & heavy == set()


def test_public_names_are_sorted_and_complete():
    """`backend.__all__` lists every public name once, and each one resolves."""
    backend = importlib.import_module("backend")

    assert len(backend.__all__) == len(set(backend.__all__))
    assert [name for name in backend.__all__ if not hasattr(backend, name)] == []
    strays = [
        name
        for name, value in vars(backend).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name not in backend.__all__
    ]
    assert strays == []


def test_every_public_error_is_in_the_tree_that_its_module_draws():
    """The drawing at the top of backend/errors.py names every class, and no other."""
    errors = importlib.import_module("backend.errors")
    drawn = set(re.findall(r"[├└]─ (\w+)", inspect.getdoc(errors) or ""))
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}

    assert drawn | {"ComfyformError"} == {n for n in defined if issubclass(getattr(errors, n), Exception)}


@pytest.mark.parametrize("package", PRODUCT)
def test_the_product_does_not_know_the_emulator(package):
    """There is no test mode: no product file speaks of an emulator."""
    events = [
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"emulat|_emulator|test_mode|TESTING", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]

    assert events == []


def test_files_are_short_enough_to_read():
    """A module has one reason to be opened, and fits in a reader's head."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }

    assert long == {}


def test_no_module_is_a_drawer_for_everything():
    """Modules are nouns that one can hold: no utils, helpers, common, base or manager."""
    drawers = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

    assert [str(path.relative_to(ROOT)) for path in SOURCES if path.stem.lstrip("_") in drawers] == []


def test_infra_shadows_no_other_module():
    """Pulumi puts infra/ first on sys.path, so a file there must not be named like a known module."""
    names = {path.stem for path in (ROOT / "infra").glob("*.py")} - {"__init__", "__main__"}

    assert names & set(sys.stdlib_module_names) == set()


@pytest.mark.slow
def test_only_drivers_wait():
    """Nothing in the product sleeps on its own: a wait can be interrupted, and a test needs no clock."""
    sleepers = [
        str(path.relative_to(ROOT))
        for package in PRODUCT
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep"
    ]

    assert sleepers == []


@pytest.mark.slow
def test_the_generated_pages_are_current():
    """docs/configuration.md, docs/errors.md and docs/cli.md say what the code says."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.docs", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr


def test_the_changelog_leads_with_this_version():
    """CHANGELOG.md has an entry for the version in pyproject.toml, at the top or under Unreleased."""
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert version[1] in headings[:2]


@pytest.mark.slow
def test_no_file_names_a_machine_or_a_registry_host():
    """What is committed is true everywhere: no path of one machine, no address of a package registry."""
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    hosts = "|".join(["py" + r"pi\.org", "python" + "hosted", "npm" + r"js\.org", "proxy" + r"\.golang"])
    events = [
        name
        for name in files
        if (ROOT / name).is_file()
        and not name.endswith("go.sum")
        and re.search(
            rf"{hosts}|(?<![\w.])/(?:work|root|home/\w+)/", (ROOT / name).read_text("utf-8", errors="replace")
        )
    ]

    assert events == []


def test_the_lock_is_installed_as_it_is():
    """Hashes are demanded and nothing is resolved: a release of today must not break a clone of yesterday."""
    (install,) = [line for line in (ROOT / "inv").read_text().splitlines() if "-r requirements.lock" in line]

    assert {"--require-hashes", "--no-deps"} <= set(install.split())


@pytest.mark.slow
def test_no_server_closes_idle_connections_by_uvicorns_default():
    """5 s is shorter than what clients take between two requests; a worker's result was lost by it."""
    calls = [
        (path.relative_to(ROOT), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "uvicorn.Config"
    ]

    assert calls
    lacking = [
        f"{path}:{node.lineno}"
        for path, node in calls
        if "timeout_keep_alive" not in {keyword.arg for keyword in node.keywords}
    ]
    assert lacking == []
