"""What a worker answers: any JSON value at any place ends in files or in a typed error; nothing is lost."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend import Backend, GenerationResult, Settings, get_backend
from backend.errors import ComfyformError, JobFailed, TransferError
from backend.files.output_paths import MAX_FILE_NAME_BYTES, file_name, within
from backend.jobs.journal import Journal
from backend.runpod.output_files import arrived
from tests.support.deadlines import HANG_S
from tests.support.small_server import Answer, Seen, serving

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
DATA = base64.b64encode(PNG).decode()
FILE = {"filename": "a.png", "type": "image", "size_bytes": len(PNG), "data": DATA}
KEYS = st.sampled_from(
    ["files", "images", "filename", "data", "type", "size_bytes", "size", "sha256", "warnings", "error",
     "errors", "seed", "prompt_id", "status", "output", "volume_path", "image", "name", "result", "action"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", DATA, "a.png", "..", "/", "a/../b", "x" * 300, "\0", "\ud83d", "data:image/png;base64,AAAA", "error",
     "success", "base64", "no*base64", "../../etc/passwd", "CON", "1e400", "12", "a\nb"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


class Plane:
    """A job plane that takes every job and answers one thing about it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "state" / "jobs")
        self.settings = Settings.from_env(
            {
                "RUNPOD_API_KEY": "rpa_x",
                "RUNPOD_ENDPOINT_ID": "ep1",
                "RUNPOD_JOBS_URL": f"{url}/v2",
                "RUNPOD_REST_URL": f"{url}/rest",
                "COMFYFORM_STATE_DIR": str(folder / "state"),
            }
        )
        self.backend: Backend = get_backend("runpod", settings=self.settings)
        self.says: bytes = b""

    def answer(self, request: Seen) -> Answer:
        if request.method == "POST" and request.path.endswith("/run"):
            return Answer(200, b'{"id": "job-1", "status": "IN_QUEUE"}')
        return Answer(200, self.says)

    def job(
        self, output: Any, *, status: str = "COMPLETED", place: str = "out", **more: Any
    ) -> GenerationResult:
        return self.raw({"id": "job-1", "status": status, "output": output, **more}, place=place)

    def raw(self, body: Any, *, place: str = "out", timeout_s: float = 5.0) -> GenerationResult:
        self.says = body if isinstance(body, bytes) else json.dumps(body).encode()
        where = self.folder / place
        where.mkdir(exist_ok=True)
        return self.backend.portrait(prompt="x", output_path=where, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    holder: list[Plane] = []
    with serving(lambda request: holder[0].answer(request)) as server:
        holder.append(Plane(server.url, tmp_path_factory.mktemp("plane")))
        with holder[0].backend:
            yield holder[0]


def checked(plane: Plane, result: GenerationResult) -> None:
    """A result is typed, can be written as JSON, and left nothing outside its folder."""
    json.dumps(result.to_json(), allow_nan=False, ensure_ascii=False).encode()
    assert result.success is (result.exception is None)
    assert result.success or isinstance(result.exception, ComfyformError)
    assert {path.name for path in plane.folder.iterdir()} <= {"out", "state"}
    assert not list(plane.folder.glob("out/*.part"))


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_any_output_ends_in_files_or_in_a_typed_error(plane, output):
    """Of a job that ended well; every file that is reported is there."""
    result = plane.job(output)

    checked(plane, result)
    assert all(
        file.local_path is None or file.local_path.is_file() for file in result.files if result.success
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, VALUES)
def test_any_error_is_a_typed_failure(plane, error, output):
    """Of a job that failed."""
    result = plane.job(output, status="FAILED", error=error)

    checked(plane, result)
    assert isinstance(result.exception, JobFailed)


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["id", "status", "output", "error", "delayTime", "executionTime", "workerId"]), VALUES)
def test_any_value_in_a_status_is_read(plane, name, value):
    """A state that is not known is waited for; it ends at the deadline."""
    body = {"id": "job-1", "status": "COMPLETED", "output": {"files": [FILE]}, name: value}
    result = plane.raw(body, timeout_s=0.05)

    checked(plane, result)


@pytest.mark.parametrize("body", [b"[" * 300_000, b"[]", b"5", b"", b"<html>", b'{"id": 5, "output"'])
def test_a_status_that_is_none_is_waited_out(plane, body):
    checked(plane, plane.raw(body, timeout_s=0.05))


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ({"files": [FILE]}, ["a.png"]),
        ({"files": [{**FILE, "size_bytes": str(len(PNG))}]}, ["a.png"]),
        ({"images": [f"data:image/png;base64,{DATA}"]}, ["output.png"]),
        ({"images": [DATA]}, ["output.png"]),
        ({"image": DATA}, ["output.png"]),
        ({"image": f"data:image/jpeg;base64,{DATA}"}, ["output.jpg"]),
        ({"images": [{"filename": "b.png", "type": "base64", "data": DATA}]}, ["b.png"]),
        ({"images": {"name": "c.png", "image": DATA}}, ["c.png"]),
        ([{"filename": "d.png", "data": DATA}], ["d.png"]),
        ({"output": {"images": [{"image": DATA}]}}, ["output.png"]),
        ({"result": [FILE, FILE | {"filename": "e.png"}]}, ["a.png", "e.png"]),
        (f"data:image/png;base64,{DATA}", ["output.png"]),
        ({"images": [FILE], "errors": ["node 5: careful"]}, ["a.png"]),
        ({"filename": "f.png", "data": DATA}, ["f.png"]),
    ],
)
def test_a_common_form_is_read(plane, tmp_path, output, names):
    """Whichever worker made it; an error beside files is a warning."""
    result = plane.job(output).raise_for_failure()

    assert [file.filename for file in result.files] == names
    assert all(file.local_path and file.local_path.read_bytes() == PNG for file in result.files)
    assert bool(result.warnings) is ("errors" in output)


def test_an_address_is_a_file_of_its_own():
    """Its name is the last part of its path."""
    (file,) = arrived({"images": ["https://bucket.example/x/ü%20a.png?sig=1"]})

    assert (file.filename, file.type, file.url) == (
        "ü a.png",
        "image",
        "https://bucket.example/x/ü%20a.png?sig=1",
    )


@pytest.mark.parametrize(
    ("output", "status", "error"),
    [
        ({"error": "CUDA out of memory"}, "COMPLETED", "CUDA out of memory"),
        ({"output": {"error": "boom"}}, "COMPLETED", "boom"),
        ({"status": "error", "error_message": "boom"}, "COMPLETED", "boom"),
        ({"errors": ["one", "two"]}, "COMPLETED", "one; two"),
        (
            {"error": {"error_type": "<class 'ValueError'>", "error_message": "no"}},
            "FAILED",
            "ValueError: no",
        ),
        ({"error": "boom in output"}, "FAILED", "boom in output"),
        (None, "FAILED", "the worker gave no reason"),
        (
            {"a": 1, "b": [1]},
            "COMPLETED",
            "produced no file: its answer is an object with a (number), b (list of 1)",
        ),
        ([], "COMPLETED", "produced no file: its answer is an empty list"),
    ],
)
def test_an_error_is_said_wherever_the_worker_put_it(plane, output, status, error):
    result = plane.job(output, status=status)

    assert isinstance(result.exception, JobFailed)
    assert error in str(result.error)


@pytest.mark.parametrize(
    "change",
    [
        {"data": 5},
        {"data": ""},
        {"data": "no*base64"},
        {"size_bytes": 5},
        {"sha256": "0" * 64},
        {"data": DATA[:-8]},
    ],
    ids=["no text", "nothing", "no base64", "another size", "another sha256", "cut"],
)
def test_a_damaged_file_is_an_error_and_its_answer_is_kept(plane, change):
    """RunPod forgets it soon; what came is beside the journal, under the job's key."""
    result = plane.job({"files": [{**FILE, **change}]})
    entry = plane.journal.entries(1)[0]
    remaining = plane.folder / "state" / "answers" / f"{entry.key}.json"

    assert isinstance(result.exception, TransferError)
    assert f"The answer is kept as {remaining}" in str(result.error)
    assert json.loads(remaining.read_text())["files"][0]["filename"] == "a.png"
    assert result.job_id == "job-1"


def test_an_error_of_megabytes_is_shortened_and_cannot_steer_a_terminal(plane):
    result = plane.job(None, status="FAILED", error="start \x1b[31m\0" + "x" * 2_000_000 + " the end")

    assert len(str(result.error)) < 5000
    assert "\x1b" not in str(result.error)
    assert "start" in str(result.error)
    assert "the end" in str(result.error)
    assert len(str(plane.journal.entries(1)[0].error)) < 5000


def test_a_timing_that_is_no_number_is_left_out(plane):
    """`--json` can write the result."""
    result = plane.job({"files": [FILE]}, delayTime=math.inf, executionTime="1e400")

    assert result.success
    assert set(result.timings) == {"total"}


NAMES = st.lists(st.text(st.characters(exclude_categories=()), max_size=300) | TEXTS, max_size=12)


@given(NAMES)
def test_each_result_has_a_place_of_its_own(names):
    """Inside its folder, whatever it is called, also where the disk ignores case."""
    found = within(Path("/out"), names)

    assert len({str(path).casefold() for path in found}) == len(names)
    assert all(path.parent == Path("/out") for path in found)
    for name in names:
        assert len(file_name(name).encode()) <= MAX_FILE_NAME_BYTES + 1
        assert file_name(name).isprintable()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.png", "a.png"], ["a.png", "a-2.png"]),
        (["a.png", "a-2.png", "a.png"], ["a.png", "a-2.png", "a-3.png"]),
        (["a-2.png", "a.png", "a.png"], ["a-2.png", "a.png", "a-3.png"]),
        (["A.png", "a.png"], ["A.png", "a-2.png"]),
        (["x/a.png", "y\\a.png"], ["a.png", "a-2.png"]),
        (["..", "/", "", "con.png"], ["output", "output-2", "output-3", "_con.png"]),
        (["a\nb.png", "x" * 300 + ".png"], ["a_b.png", "x" * 176 + ".png"]),
    ],
)
def test_names_that_collide_are_numbered(names, found):
    assert [path.name for path in within(Path("/out"), names)] == found


@pytest.mark.parametrize(
    "body", [b"[" * 300_000, b'{"id": "job-1", "status": "COMPLETED", "output'], ids=["deep", "cut"]
)
def test_an_answer_that_cannot_be_read_is_kept_and_its_job_is_not_cancelled(plane, body):
    """It may hold a result that is paid for; the job stays open in the journal."""
    result = plane.raw(body, timeout_s=HANG_S)
    entry = plane.journal.entries(1)[0]

    assert isinstance(result.exception, TransferError)
    assert (result.job_id, entry.state, entry.open) == ("job-1", "IN_QUEUE", True)
    assert (plane.folder / "state" / "answers" / f"{entry.key}.json").read_bytes() == body
