"""Files that a job brings along: checked, put under ComfyUI's inputs, taken away again."""

import base64
import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.contract import InputFile
from backend.errors import HashMismatch, InvalidArgument, SourceMissing
from worker.jobs.cancellation import StopSign
from worker.jobs.inputs import gathered, placed

CONTENT = b"not really a picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DATA = base64.b64encode(CONTENT).decode()


@pytest.fixture
def put(tmp_path):
    """Place files for a moment and return what was then in the input folder."""
    (tmp_path / "input").mkdir()
    (tmp_path / "arriving").mkdir()
    (tmp_path / "volume" / "outputs").mkdir(parents=True)
    (tmp_path / "volume" / "outputs" / "speech.flac").write_bytes(CONTENT)
    (tmp_path / "volume" / "models").mkdir()
    (tmp_path / "volume" / "models" / "secret.bin").write_bytes(b"weights")

    def put(*files):
        folder = tmp_path / "input"
        places = {"folder": tmp_path / "arriving", "volume": tmp_path / "volume"}
        with (
            gathered(files, **places, allow_hosts=(), stop=StopSign()) as arrived,
            placed(arrived, folder) as names,
        ):
            return {name: (folder / name).read_bytes() for name in names}

    return put


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        f"data:image/png;base64,{DATA}",
        f"DATA:image/png;base64,{DATA}",
        f"image/png;base64,{DATA}",
        f"{DATA[:10]}\n{DATA[10:]}",
    ],
)
def test_base64_in_every_usual_form_becomes_the_file(put, data):
    """Plain, as a data URI, and with line breaks."""
    assert put({"name": "a/portrait 图.png", "data": data, "sha256": SHA256}) == {
        "a/portrait 图.png": CONTENT
    }


def test_a_file_on_the_volume_is_used_where_it_lies(put):
    """The result of an earlier job goes into the next one without a copy."""
    assert put({"name": "speech.flac", "volume_path": "outputs/speech.flac", "sha256": SHA256}) == {
        "speech.flac": CONTENT
    }


def test_inputs_are_gone_after_the_job_and_the_volumes_stay(put, tmp_path):
    """A worker that keeps every input runs full; what lies on the volume is not its own."""
    put({"name": "a.png", "data": DATA}, {"name": "b.flac", "volume_path": "outputs/speech.flac"})

    assert list((tmp_path / "input").iterdir()) == []
    assert (tmp_path / "volume" / "outputs" / "speech.flac").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/etc/passwd", "a/../../b", "C:\\a.png", "a\\..\\b", "", ".", "a//b", ".ssh/id", "a\x00b"],
)
def test_a_name_never_leaves_the_input_folder(put, name):
    """Under no path grammar, and no hidden file."""
    with pytest.raises(InvalidArgument, match="The input's name"):
        put({"name": name, "data": DATA})


def test_a_link_on_the_way_does_not_lead_out(put, tmp_path):
    """The check looks at where links lead, not only at the text."""
    (tmp_path / "input" / "out").symlink_to(tmp_path / "volume")

    with pytest.raises(InvalidArgument, match="leads out of its folder"):
        put({"name": "out/a.png", "data": DATA})


@pytest.mark.parametrize(
    "path", ["models/secret.bin", ".comfyform/records/x.json", "../volume/outputs/speech.flac"]
)
def test_only_job_folders_of_the_volume_can_be_read(put, path):
    """A job cannot send itself the weights or the records."""
    with pytest.raises(InvalidArgument):
        put({"name": "a.bin", "volume_path": path})


@pytest.mark.parametrize(
    ("file", "error", "says"),
    [
        ({"name": "a.png", "data": "!!!"}, InvalidArgument, "not valid base64"),
        ({"name": "a.png", "data": "äöü="}, InvalidArgument, "not valid base64"),
        ({"name": "a.png", "data": ""}, InvalidArgument, "is empty"),
        ({"name": "a.png"}, InvalidArgument, "exactly one of data, url, volume_path"),
        ({"name": "a.png", "data": DATA, "url": "https://x/y"}, InvalidArgument, "exactly one of"),
        ({"data": DATA}, InvalidArgument, "has no 'name'"),
        ({"name": "avatars/odin.png", "data": DATA}, InvalidArgument, "would replace a file of the volume"),
        (
            {"name": "a.png", "data": DATA, "sha256": "0" * 64},
            HashMismatch,
            "other bytes than were announced",
        ),
        ({"name": "a.flac", "volume_path": "outputs/gone.flac"}, SourceMissing, "not on the volume"),
        ({"name": "a.png", "url": "http://example.com/a.png"}, InvalidArgument, "plain http"),
        ({"name": "a.png", "url": "https://127.0.0.1/a.png"}, InvalidArgument, "not a public address"),
    ],
)
def test_a_broken_input_is_refused_in_a_sentence(put, file, error, says):
    """Each way in which an input can be wrong has its own words."""
    with pytest.raises(error, match=says):
        put(file)


def test_a_refused_input_takes_the_others_with_it(put, tmp_path):
    """Nothing is left behind when the second of two files is wrong."""
    with pytest.raises(InvalidArgument):
        put({"name": "a.png", "data": DATA}, {"name": "b.png", "data": "!!!"})

    assert list((tmp_path / "input").iterdir()) == []
    assert list((tmp_path / "arriving").iterdir()) == []


@given(st.lists(st.sampled_from(["a", "b", "a/b", "a/b/c", "b/c", "a/c", "A"]), min_size=2, max_size=4))
def test_names_that_collide_are_refused_together(names):
    """One name twice, or a file where another needs a folder; whatever the order."""
    collide = len(set(names)) < len(names) or any(
        other.startswith(f"{name}/") for name in names for other in names
    )
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("input", "arriving")}
        for path in places.values():
            path.mkdir()
        files = [InputFile(name=name, data=DATA) for name in names]

        def put() -> dict[str, bytes]:
            with (
                gathered(
                    files, folder=places["arriving"], volume=Path(folder), allow_hosts=(), stop=StopSign()
                ) as arrived,
                placed(arrived, places["input"]) as placed_names,
            ):
                return {name: (places["input"] / name).read_bytes() for name in placed_names}

        if collide:
            with pytest.raises(InvalidArgument, match="cannot lie side by side"):
                put()
        else:
            assert put() == dict.fromkeys(names, CONTENT)


def test_a_sha256_may_be_written_in_capitals(put):
    """Windows' own tool writes it so."""
    assert put({"name": "a.png", "data": DATA, "sha256": SHA256.upper()}) == {"a.png": CONTENT}
