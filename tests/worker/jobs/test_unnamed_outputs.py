"""Files that nodes save without telling ComfyUI: delivered with a warning, and only those of this run."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from backend.files.deliver import Delivered
from backend.verbs.result import GeneratedFile
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio
from worker.jobs.unnamed_outputs import MAX_FILES, add_unnamed, is_unnamed

IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 3, "color": 3}}
SAVED = {"1": IMAGE, "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}


def quiet(names: str, kilobytes: int = 1) -> dict[str, Any]:
    """A node that writes files and leaves them out of history."""
    return {"9": {"class_type": "EmulatorQuietSave", "inputs": {"names": names, "kilobytes": kilobytes}}}


def output_folder(studio: Studio) -> Path:
    """The output folder of the worker's ComfyUI, as its command line names it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "--output-directory" in words and int(parent) == studio.worker_pid():
            return Path(words[words.index("--output-directory") + 1])
    raise AssertionError("the worker has no ComfyUI")


@pytest.mark.slow
def test_files_that_history_does_not_name_are_delivered(emu: Emulator) -> None:
    """Alone, beside named ones, from ComfyUI's cache, and never those that another run wrote late."""
    studio = Studio(emu, "comfyform/worker")
    alone = studio.output(action="workflow", workflow=quiet("mesh.glb,parts/mesh.glb,.lock"))
    again = studio.output(action="workflow", workflow=quiet("mesh.glb,parts/mesh.glb,.lock"))
    (output_folder(studio) / "late.glb").write_bytes(b"of the run before")
    beside = studio.output(action="workflow", workflow=SAVED | quiet("a.mtl"))
    plain = studio.output(action="workflow", workflow=SAVED)

    for job in (alone, again):
        contents = [base64.b64decode(file["data"]).rstrip(b".") for file in job["files"]]
        assert [file["filename"] for file in job["files"]] == ["mesh.glb", "mesh-2.glb"]
        assert contents == [b"mesh.glb", b"parts/mesh.glb"]
        assert job["warnings"] == [
            "The run also wrote files that ComfyUI's history does not name; added: 'mesh.glb', 'mesh-2.glb'."
        ]
    assert [Path(file["filename"]).suffix for file in beside["files"]] == [".png"] * 3 + [".mtl"]
    assert [Path(file["filename"]).suffix for file in plain["files"]] == [".png"] * 3
    assert "warnings" not in plain or not plain["warnings"]


@pytest.mark.slow
def test_an_unnamed_file_that_cannot_be_sent_does_not_fail_the_job(emu: Emulator) -> None:
    """What history names is delivered; alone, the file is the result, and the job says why it failed."""
    studio = Studio(emu, "comfyform/worker")
    (studio.volume / "outputs").write_text("a file where a folder should be")
    beside = studio.output(action="workflow", workflow=SAVED | quiet("huge.bin", 8_000))
    alone = studio.error(action="workflow", workflow=quiet("huge.bin", 8_000))

    assert [file["type"] for file in beside["files"]] == ["image"] * 3
    assert "huge.bin was left out: huge.bin could not be written to the volume" in beside["warnings"][-1]
    assert alone.startswith("huge.bin could not be written to the volume")


@pytest.mark.slow
def test_a_video_comes_without_its_first_frame_and_its_silent_twin(emu: Emulator) -> None:
    """VideoHelperSuite writes three files for one video, and names one."""
    studio = Studio(emu, "comfyform/worker")
    combine = {"images": ["1", 0], "frame_rate": 8, "loop_count": 0, "filename_prefix": "v/x"}
    combine |= {"format": "video/h264-mp4", "pingpong": False, "save_output": True, "audio": ["3", 0]}
    sound = {"class_type": "EmptyAudio", "inputs": {"duration": 1.0, "sample_rate": 44100, "channels": 2}}
    graph = {"1": IMAGE, "2": {"class_type": "VHS_VideoCombine", "inputs": combine}, "3": sound}

    output = studio.output(action="workflow", workflow=graph)

    assert [file["filename"] for file in output["files"]] == ["x_00001-audio.mp4"]


def placed(tmp_path: Path, *names: str) -> Path:
    """An output folder with files of these names."""
    for name in names:
        path = tmp_path / "output" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "results").mkdir()
    return tmp_path / "output"


def named(path: str, tmp_path: Path) -> GeneratedFile:
    """A file that history names."""
    name = path.rpartition("/")[2]
    place = tmp_path / "results" / name
    return GeneratedFile(type="file", filename=name, local_path=place, origin_path=f"{path} [output]")


@pytest.mark.parametrize(
    ("named_paths", "written", "added"),
    [
        (["x.mp4"], ["x.mp4", "x.png"], []),
        (["v/x-audio.webm"], ["v/x.png", "v/x.webm", "v/x-audio.webm"], []),
        (["x.gif"], ["x.gif", "x.png", "x.txt"], ["x.txt"]),
        (["x-audio.mp4"], ["v/x.mp4"], ["x.mp4"]),  # another folder, so another video
        (["x.glb"], ["x.glb", "x.png", "x.mtl"], ["x.mtl", "x.png"]),  # a mesh needs its texture
        (["a/x.png"], ["a/x.png", "x.png"], ["x-2.png"]),
        (["./a/../x.png"], ["x.png"], []),
        ([], [".hidden", ".cache/x.bin", "x.bin"], ["x.bin"]),
    ],
)
def test_which_files_are_added(
    tmp_path: Path, named_paths: list[str], written: list[str], added: list[str]
) -> None:
    """Not what is named, not what belongs to a named video, and never over another result."""
    output = placed(tmp_path, *written)
    delivered = Delivered(files=tuple(named(path, tmp_path) for path in named_paths))

    result = add_unnamed(delivered, output=output, results=tmp_path / "results")

    assert [file.filename for file in result.files if is_unnamed(file)] == added
    assert bool(result.warnings) == bool(added)


def test_links_and_empty_files_are_left_out_and_odd_names_are_cleaned(tmp_path: Path) -> None:
    """A link could show a file that no job may read."""
    output = placed(tmp_path, "a\nb.bin")
    (output / "empty.png").touch()
    (output / "link.txt").symlink_to("/etc/hostname")
    (output / "folder").symlink_to("/etc")
    Path(os_name := str(output / "z\udcff.bin")).write_text(os_name[-3:])

    result = add_unnamed(Delivered(files=()), output=output, results=tmp_path / "results")

    assert [file.filename for file in result.files] == ["a_b.bin", "z_.bin"]


def test_thousands_of_files_are_bounded_and_counted(tmp_path: Path) -> None:
    """An answer with too many entries would be refused, and the paid job lost."""
    output = placed(tmp_path, *(f"{number:05}.txt" for number in range(MAX_FILES + 5)))

    result = add_unnamed(Delivered(files=()), output=output, results=tmp_path / "results")

    assert len(result.files) == MAX_FILES
    assert result.warnings[0].endswith("'00009.txt' and 990 more.")
    assert result.warnings[-1] == "5 more of these files were left out."
