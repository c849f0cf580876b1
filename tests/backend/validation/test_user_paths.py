"""A path with `~` for a user that does not exist is an error with a sentence, wherever one is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import ConfigError, InvalidArgument
from backend.jobs.journal import state_folder
from backend.settings import Settings
from backend.validation.user_paths import user_path
from backend.verbs.api_graph import load_graph
from ops.files.user_folders import cache_folder
from ops.local.model_dirs import local_models
from ops.local.this_machine import Here

UNKNOWN = "~no-such-user-here/models"
STATE = Settings.from_env({"COMFYFORM_STATE_DIR": UNKNOWN})
MODELS = Settings.from_env({"COMFYUI_MODELS_DIR": UNKNOWN})
HERE = Settings.from_env({"COMFYUI_MODELS_DIR": "/"})

PLACES: dict[str, tuple[str, Callable[[], object]]] = {
    "state": ("COMFYFORM_STATE_DIR", lambda: state_folder(STATE)),
    "cache": ("COMFYFORM_STATE_DIR", lambda: cache_folder(STATE)),
    "models": ("COMFYUI_MODELS_DIR", lambda: local_models(MODELS)),
    "the option for models": ("--models-dir", lambda: Here(HERE, models_dir=UNKNOWN).locate()),
    "the option for more": ("--extra", lambda: Here(HERE, extra=UNKNOWN).locate()),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_user_is_named(place: str):
    name, ask = PLACES[place]

    with pytest.raises(ConfigError, match=f"{name} names a home folder .*no-such-user-here"):
        ask()


def test_a_workflow_of_an_unknown_user_is_a_wrong_argument():
    with pytest.raises(InvalidArgument, match=r"The workflow names a home folder .*no-such-user-here"):
        load_graph(UNKNOWN)


def test_ones_own_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    assert user_path("~/models", "X") == tmp_path / "models"
