"""The folders around ComfyUI: a scratch place for inputs and outputs, and links to the volume.

A link is made only where nothing is lost: a folder that holds files stays.
"""

import contextlib
import fcntl
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from backend.contract import SHARED_INPUTS
from ops.models.volume_layout import MODELS
from worker.comfyui import extra_model_paths

SCRATCH_PREFIX: Final = "comfyform-worker-"
CLAIM: Final = "claim"
ONLY_IN_MODELS_DIR: Final = ("sonic",)
"""Folders that a node pack reads only from ComfyUI's own models folder, whatever extra paths say.

Source: smthemex/ComfyUI_Sonic builds paths from ``folder_paths.models_dir`` (facts: comfyui-mcp.md 2.8).
"""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where ComfyUI reads and writes while this worker runs."""

    scratch: Path
    _claim: IO[bytes] = field(repr=False)
    """Open and locked for as long as this worker lives, however it ends."""

    @classmethod
    def make(cls, parent: Path | None = None) -> Self:
        """Make them, empty, in the container's own (fast, passing) file system.

        What workers that were killed left there is removed: a container that restarts would run full.
        """
        parent = parent or Path(tempfile.gettempdir())
        for abandoned in parent.glob(f"{SCRATCH_PREFIX}*"):
            with contextlib.suppress(OSError), (abandoned / CLAIM).open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(abandoned, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
        claim = (scratch / CLAIM).open("wb")
        fcntl.flock(claim, fcntl.LOCK_EX)
        folders = cls(scratch, claim)
        for folder in (folders.arriving, folders.input, folders.output, folders.temp, folders.user):
            folder.mkdir()
        return folders

    @property
    def input(self) -> Path:
        """What jobs bring along; also links to the volume's avatars and voices."""
        return self.scratch / "input"

    @property
    def arriving(self) -> Path:
        """What jobs bring along while it is being fetched."""
        return self.scratch / "arriving"

    @property
    def output(self) -> Path:
        """What ComfyUI saves."""
        return self.scratch / "output"

    @property
    def temp(self) -> Path:
        """Previews, in a folder ``temp`` that ComfyUI makes below and empties when it starts."""
        return self.scratch / "temp"

    @property
    def user(self) -> Path:
        """ComfyUI's settings and database."""
        return self.scratch / "user"

    @property
    def results(self) -> Path:
        """What the job at hand made, fetched from ComfyUI."""
        return self.scratch / "results"

    @property
    def model_paths(self) -> Path:
        """The generated ``extra_model_paths.yaml``."""
        return self.scratch / "extra_model_paths.yaml"

    @property
    def log(self) -> Path:
        """What ComfyUI prints."""
        return self.scratch / "comfyui.log"

    def arguments(self) -> list[str]:
        """Return ComfyUI's arguments for all this."""
        return [
            "--extra-model-paths-config",
            str(self.model_paths),
            "--input-directory",
            str(self.input),
            "--output-directory",
            str(self.output),
            "--temp-directory",
            str(self.temp),
            "--user-directory",
            str(self.user),
            # Its default lies in ComfyUI's own folder, which may lack the user folder or be read-only.
            "--database-url",
            f"sqlite:///{self.user / 'comfyui.db'}",
        ]

    def connect(self, volume: Path, comfyui_home: Path | None) -> list[str]:
        """Show the volume to ComfyUI, and return what could not be shown, one sentence each.

        Args:
            volume: the volume's root; where none is mounted nothing is linked.
            comfyui_home: ComfyUI's own folder, where it is known; else it is taken to be where it is run.
        """
        models = volume / MODELS
        names = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
        text, refused = extra_model_paths.render(str(volume), names)
        self.model_paths.write_text(text, encoding="utf-8")
        if not volume.is_dir():
            return [f"No network volume at {volume}: only models in the image are seen."]
        problems: list[str | None] = [*refused]
        problems += [link(self.input / name, volume / name) for name in SHARED_INPUTS]
        own_models = (comfyui_home or self.scratch) / "models"
        problems += [link(own_models / name, models / name) for name in ONLY_IN_MODELS_DIR]
        return [problem for problem in problems if problem]

    def sweep(self) -> None:
        """Delete what a job left: its results, ComfyUI's copies, and what node packs drop among the inputs.

        Source: SONIC writes ``input/audio_…_temp.wav`` in every run, and VHS a silent video beside the
            one with sound (facts: comfyui.md 5).
        """
        for folder in (self.results, self.output, self.input):
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif not (folder == self.input and path.name in SHARED_INPUTS):
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the scratch place; links are deleted, never what they lead to."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._claim.close()


def link(place: Path, target: Path) -> str | None:
    """Make a place lead to a folder of the volume, which is made if need be.

    Returns:
        None when it does, else the sentence that says why it was left alone.
    """
    try:
        # A link to nowhere would break a node pack's own "make the folder if it is missing".
        target.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            if place.exists() and place.resolve() != target.resolve():
                return (
                    f"{place} leads to {place.resolve()}, not to {target}: the volume's files are not used."
                )
            place.unlink()
        elif place.is_dir():
            if any(path.is_file() or path.is_symlink() for path in place.rglob("*")):
                return f"{place} holds files of its own: the volume's {target.name} is not used."
            _remove_empty(place)
        elif place.exists():
            return f"{place} is a file: the volume's {target.name} is not used."
        place.symlink_to(target, target_is_directory=True)
    except OSError as error:
        return f"{place} could not be linked to {target}: {error.strerror or error}."
    return None


def _remove_empty(folder: Path) -> None:
    """Remove a tree of empty folders; a file that appears meanwhile stops it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    folder.rmdir()
