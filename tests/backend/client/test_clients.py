"""The public surface: two equal faces, light imports, types that users see, backends of one's own."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import backend
from backend import (
    AsyncBackend,
    Backend,
    GenerationResult,
    Health,
    InvalidArgument,
    JobFailed,
    NotSupported,
    Request,
    Settings,
    Unavailable,
    fallback,
    get_async_backend,
    get_backend,
    register_backend,
)
from backend.flow import Flow, Work
from backend.verbs.catalog import verbs

VERBS = ("portrait", "tts", "lipsync", "imagine", "workflow", "talk")


class Echo:
    """A backend of one's own: a class of flows, and nothing else."""

    def __init__(self, name: str = "echo", *, healthy: bool = True, error: Exception | None = None) -> None:
        self.name = name
        self._healthy = healthy
        self._error = error

    def health_check(self) -> Flow[Health]:
        yield Work(lambda: None)
        return Health(backend=self.name, healthy=self._healthy, error=None if self._healthy else "asleep")

    def generate(self, request: Request, *, deadline_s: float) -> Flow[GenerationResult]:
        yield Work(lambda: None)
        if self._error is not None:
            raise self._error
        return GenerationResult(success=True, backend=self.name, seed=request["seed"])


@pytest.fixture
def registered() -> Iterator[None]:
    """Backends under names of their own, for this test."""
    from backend.client import factory

    register_backend("echo", lambda _: Echo())
    register_backend("asleep", lambda _: Echo("asleep", healthy=False))
    register_backend("gone", lambda _: Echo("gone", error=Unavailable("no connection", sent=False)))
    register_backend("cut", lambda _: Echo("cut", error=Unavailable("cut", sent=True)))
    register_backend("silent", lambda _: Echo("silent", error=NotSupported("no such verb here")))
    yield
    for name in ("echo", "asleep", "gone", "cut", "silent"):
        factory._registered.pop(name)


def test_the_two_faces_are_equal():
    """The same public names, with the same arguments; one is awaited."""
    renamed = {"close": "aclose"}
    public = [name for name in dir(Backend) if inspect.isfunction(getattr(Backend, name)) and name[0] != "_"]

    assert sorted(renamed.get(name, name) for name in public) == [
        name
        for name in dir(AsyncBackend)
        if inspect.isfunction(getattr(AsyncBackend, name)) and name[0] != "_"
    ]
    assert set(verbs()) < set(public)
    for name in public:
        sync, awaited = getattr(Backend, name), getattr(AsyncBackend, renamed.get(name, name))
        mine, its = inspect.signature(sync), inspect.signature(awaited)
        assert list(mine.parameters.values()) == list(its.parameters.values()), name
        assert inspect.iscoroutinefunction(awaited), name


def test_a_backend_of_ones_own_is_one_class(registered):
    """Registered under a name, it is had like any other, through both faces."""
    settings = Settings(comfy_backend="echo")

    async def main() -> GenerationResult:
        async with get_async_backend(settings=settings) as client:
            return await client.portrait(prompt="x", seed=3)

    with get_backend(settings=settings) as client:
        here = client.portrait(prompt="x", seed=3)

    assert here == asyncio.run(main()) == GenerationResult(success=True, backend="echo", seed=3)


def test_a_backend_without_jobs_says_so(registered):
    """Submitting needs a backend whose jobs live on."""
    with get_backend("echo") as client, pytest.raises(NotSupported, match="echo backend keeps no jobs"):
        client.submit("portrait", prompt="x")


def test_a_backend_of_a_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    """Whoever installs it names it; nothing has to be registered."""
    info = tmp_path / "moonlight-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moonlight\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[comfyform.backends]\nmoon = moonlight:make\n")
    (tmp_path / "moonlight.py").write_text(
        "class Moon:\n    name = 'moon'\n\n\ndef make(settings):\n    return Moon()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert get_backend("moon").name == "moon"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("echo",), "echo"),
        (("asleep", "echo"), "echo"),
        (("gone", "echo"), "echo"),
        (("silent", "asleep", "echo"), "echo"),
    ],
)
def test_the_first_healthy_backend_does_the_work(registered, names, expected):
    """One that sleeps, that cannot be reached or that cannot do it is passed over."""
    with fallback(*names) as client:
        result = client.portrait(prompt="x", seed=1)
        assert client.health_check().healthy

    assert (result.success, result.backend) == (True, expected)


def test_a_job_that_may_have_been_taken_is_not_given_to_another(registered):
    """It may be running and paid for: the chain ends there."""
    with fallback("cut", "echo") as client:
        result = client.portrait(prompt="x")

    assert (result.success, result.error) == (False, "cut")


def test_a_chain_with_nobody_healthy_says_why(registered):
    """The reasons of all of them, by name."""
    with fallback("asleep", "gone") as client:
        result = client.portrait(prompt="x")

    assert result.error == "No backend can run this: asleep: asleep; gone: no connection"


def test_one_client_serves_many_threads(registered):
    """A client may be shared between threads; each call gets its own result."""
    with get_backend("echo") as client, ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda seed: client.portrait(prompt="x", seed=seed), range(200)))

    assert [result.seed for result in results] == list(range(200))


def test_a_result_raises_what_went_wrong():
    """The typed error where there is one, like a status that is raised for."""
    failed = GenerationResult(success=False, backend="x", error="no", exception=InvalidArgument("no"))

    with pytest.raises(InvalidArgument):
        failed.raise_for_failure()
    with pytest.raises(JobFailed, match="no"):
        GenerationResult(success=False, backend="x", error="no").raise_for_failure()


def python(code: str) -> str:
    """Run a few lines in a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", code]
    # Compiled modules are kept, as on any machine where a program is used twice.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


def test_making_a_client_loads_no_http_library():
    """httpx comes with the first request, and nothing slower ever."""
    code = "import sys, backend; backend.get_backend('local'); print(*sys.modules)"

    loaded = set(python(code).split())

    heavy = {"httpx", "ssl", "asyncio", "boto3", "pydantic", "yaml", "pulumi", "runpod", "importlib.metadata"}
    assert sorted(heavy & loaded) == []


def test_httpx_comes_without_its_command_line_program():
    """The HTTP driver loads neither click nor rich nor pygments, and httpx itself works afterwards."""
    code = (
        "import sys, backend.flow.http_driver; print(*sys.modules); "
        "import httpx; assert callable(httpx.main); "
        "from httpx._main import main; assert main.params"
    )

    loaded = set(python(code).split())

    assert "httpx" in loaded
    assert sorted({"click", "pygments", "rich", "httpx._main"} & loaded) == []


def test_help_lists_the_arguments_of_a_verb():
    """``help(backend.tts)`` shows each argument with its type, bounds and default, in both clients."""
    for client in (backend.Backend, backend.AsyncBackend):
        text = inspect.getdoc(client.tts) or ""
        assert "text (text, required): " in text
        assert "speed (number 0.25 to 4, default 1.0): " in text
    assert repr(backend.get_backend("local")) == "<Backend 'local'>"


def test_a_result_names_its_one_file(tmp_path):
    """``result.path`` is the file; a failed run raises its own error, several files a sentence."""
    file = backend.GeneratedFile(type="image", filename="a.png", local_path=tmp_path / "a.png")
    result = backend.GenerationResult(success=True, backend="local", files=(file,))

    assert result.path == tmp_path / "a.png"
    with pytest.raises(backend.TransferError, match="Expected exactly one file, got 2"):
        _ = dataclasses.replace(result, files=(file, file)).path
    with pytest.raises(backend.TransferError, match=r"a\.png was not downloaded"):
        _ = dataclasses.replace(result, files=(dataclasses.replace(file, local_path=None),)).path
    with pytest.raises(JobFailed, match="out of memory"):
        _ = backend.GenerationResult(success=False, backend="local", error="out of memory").path


def test_tracebacks_name_the_public_error():
    """An error's class names the module that users import, and survives pickling."""
    error = pickle.loads(pickle.dumps(backend.errors.Unavailable("no answer", hint="Try again.")))

    assert f"{type(error).__module__}.{type(error).__qualname__}" == "backend.Unavailable"
    assert error.hint == "Try again."


def test_public_names_say_where_users_find_them():
    """Tracebacks and help show ``backend.X``, not where X happens to be written."""
    homes = {getattr(backend, name).__module__ for name in backend.__all__}

    assert homes == {"backend"}


USER = """
from pathlib import Path

from backend import AsyncBackend, GeneratedFile, GenerationResult, get_async_backend, get_backend

client = get_backend()
result: GenerationResult = client.lipsync(portrait_image="a.png", audio=Path("b.wav"), output_path="c.mp4")
file: GeneratedFile = result.raise_for_failure().files[0]
client.imagine(description="x", quality="ultra", loras=[{"name": "l", "strength_model": 0.5}])


async def main(other: AsyncBackend) -> int | None:
    job = await other.submit("tts", text="x", voice_reference=file)
    spoken: Path = (await job.wait()).path
    return (await other.talk(text="x", voice_reference=spoken, portrait_image="p.png")).seed
"""
WRONG = {
    'client.submit("portrait", promt="x")\n': "No overload variant",
    "client.portrait()\n": 'Missing named argument "prompt"',
    'client.portrait(prompt="x", wdth=3)\n': 'Unexpected keyword argument "wdth"',
    'client.imagine(description="x", quality="best")\n': "incompatible type \"Literal['best']\"",
    'client.tts(text="x", voice_reference="v", seed="7")\n': 'incompatible type "str"',
}


@pytest.mark.slow
def test_a_users_program_is_type_checked(tmp_path):
    """mypy, strict, sees the whole surface: right calls pass, each wrong one is found."""
    (tmp_path / "right.py").write_text(USER)
    for number, line in enumerate(WRONG):
        (tmp_path / f"wrong_{number}.py").write_text(
            f"from backend import get_backend\n\nclient = get_backend()\n{line}"
        )
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nfollow_imports = silent\n")

    cache = Path(inspect.getfile(backend)).parent.parent / ".mypy_cache" / "users"
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(cache), "."]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    found = [line for line in output.splitlines() if ": error: " in line]
    assert [line for line in found if line.startswith("right.py")] == []
    for number, words in enumerate(WRONG.values()):
        assert words in "".join(line for line in found if line.startswith(f"wrong_{number}.py"))
    assert {line.partition(":")[0] for line in found} == {
        f"wrong_{number}.py" for number in range(len(WRONG))
    }


def test_the_marker_of_types_is_there():
    """Without py.typed a type checker would not look into an installed package."""
    assert (Path(inspect.getfile(backend)).parent / "py.typed").is_file()


def test_values_survive_the_trip_through_json():
    """A file of a result can be written down and handed on later."""
    created: Any = backend.GeneratedFile(
        type="audio", filename="a.flac", local_path=Path("a").absolute(), origin="runpod x", origin_path="y"
    )

    assert backend.GeneratedFile.from_json({**created.to_json(), "new_in_a_later_version": 1}) == created
