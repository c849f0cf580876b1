"""The volume as ComfyUI sees it: extra paths for every category, links where a pack ignores them."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.comfyui import extra_model_paths
from worker.comfyui.directories import Folders, link


@pytest.fixture
def make(tmp_path):
    """Make a worker's folders, and remove them afterwards."""
    made = []

    def make():
        made.append(Folders.make(tmp_path))
        return made[-1]

    yield make
    for folders in made:
        folders.remove()


def test_every_category_and_its_older_name_is_shown():
    """A model under clip/ is a text encoder, one under unet/ a diffusion model."""
    text, refused = extra_model_paths.render("/runpod-volume", ["checkpoints", "ultralytics"])
    section = yaml.safe_load(text)["comfyform"]

    assert refused == []
    assert section["base_path"] == "/runpod-volume"
    assert section["checkpoints"] == "models/checkpoints"
    assert section["text_encoders"].split("\n") == ["models/text_encoders", "models/clip"]
    assert section["diffusion_models"].split("\n") == ["models/diffusion_models", "models/unet"]
    assert section["ultralytics"] == "models/ultralytics"


@pytest.mark.slow
@given(
    st.text()
    | st.sampled_from(["custom_nodes", "base_path", "is_default", "on", "~", "a\n/etc", "\udc80", "x😀"])
)
def test_no_name_on_the_volume_changes_the_file(name: str):
    """Names come from outside: each adds one category of its own name, or nothing and a note."""
    text, refused = extra_model_paths.render("/v: 'x'", [name])
    section = yaml.safe_load(text)["comfyform"]
    plain = yaml.safe_load(extra_model_paths.render("/v: 'x'")[0])["comfyform"]

    text.encode()
    if refused or name in plain:
        assert section == plain
    else:
        assert section == plain | {name: f"models/{name}"}
    assert not {"custom_nodes", "is_default"} & set(section)


def test_a_folder_that_comfyui_would_run_is_hidden_and_named(tmp_path, make):
    """Whoever can write the volume could otherwise have code imported at ComfyUI's next start."""
    volume = tmp_path / "volume"
    (volume / "models" / "custom_nodes" / "evil").mkdir(parents=True)
    folders = make()

    problems = folders.connect(volume, None)

    assert [problem for problem in problems if "models/custom_nodes is hidden from ComfyUI" in problem]
    assert "custom_nodes" not in yaml.safe_load(folders.model_paths.read_text())["comfyform"]


def test_the_volume_is_connected(tmp_path, make):
    """Avatars and voices appear among the inputs, Sonic's files where its nodes look for them."""
    volume, home = tmp_path / "volume", tmp_path / "ComfyUI"
    (volume / "models" / "sonic").mkdir(parents=True)
    (volume / "models" / "sonic" / "unet.pth").write_text("weights")
    (home / "models").mkdir(parents=True)
    folders = make()

    notes = folders.connect(volume, home)
    (folders.input / "avatars" / "odin.png").write_text("a face")

    assert notes == []
    assert (home / "models" / "sonic" / "unet.pth").read_text() == "weights"
    assert (volume / "avatars" / "odin.png").read_text() == "a face"
    assert "models/sonic" in folders.model_paths.read_text()


def test_connecting_again_changes_nothing(tmp_path):
    """A worker that starts twice on the same image finds its links and keeps them."""
    target = tmp_path / "volume" / "sonic"

    assert [link(tmp_path / "models" / "sonic", target) for _ in range(2)] == [None, None]
    assert (tmp_path / "models" / "sonic").resolve() == target.resolve()


def test_a_folder_that_holds_files_is_never_replaced(tmp_path):
    """The origin deleted the image's folder with everything in it."""
    (tmp_path / "sonic" / "RIFE").mkdir(parents=True)
    (tmp_path / "sonic" / "RIFE" / "flownet.pkl").write_text("weights")

    note = link(tmp_path / "sonic", tmp_path / "volume" / "sonic")

    assert note is not None
    assert "holds files of its own" in note
    assert (tmp_path / "sonic" / "RIFE" / "flownet.pkl").read_text() == "weights"


def test_empty_folders_give_way(tmp_path):
    """A fresh node pack makes its folders empty; those hold nothing to lose."""
    (tmp_path / "sonic" / "RIFE").mkdir(parents=True)

    assert link(tmp_path / "sonic", tmp_path / "volume" / "sonic") is None
    assert (tmp_path / "sonic").is_symlink()


def test_a_link_that_somebody_made_stays(tmp_path):
    """Only a link to nowhere is replaced."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "sonic").symlink_to(tmp_path / "theirs")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    note = link(tmp_path / "sonic", tmp_path / "volume" / "sonic")

    assert note is not None
    assert (tmp_path / "sonic").resolve() == tmp_path / "theirs"
    assert link(tmp_path / "dangling", tmp_path / "volume" / "sonic") is None


def test_without_a_volume_nothing_is_made_in_its_place(tmp_path, make):
    """A folder made where the volume should be mounted would hide that it is missing."""
    folders = make()

    notes = folders.connect(tmp_path / "volume", None)

    assert notes == [f"No network volume at {tmp_path / 'volume'}: only models in the image are seen."]
    assert not (tmp_path / "volume").exists()


def test_removing_the_scratch_place_leaves_the_volume(tmp_path, make):
    """Links are deleted, not what they lead to."""
    (tmp_path / "volume").mkdir()
    folders = make()
    folders.connect(tmp_path / "volume", None)
    (folders.input / "voices" / "odin.wav").write_text("a voice")

    folders.remove()

    assert not folders.scratch.exists()
    assert (tmp_path / "volume" / "voices" / "odin.wav").read_text() == "a voice"


def test_what_a_killed_worker_left_is_removed(tmp_path, make):
    """And nothing of one that lives: its claim is locked for as long as its process runs."""
    living = make()
    killed = make()
    (killed.output / "film.mp4").write_text("large")
    killed._claim.close()  # as the kernel does when a process ends

    make()

    assert living.scratch.exists()
    assert not killed.scratch.exists()
