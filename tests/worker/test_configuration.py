"""What the container tells the worker, and what the worker passes on to ComfyUI."""

import sys

import pytest

from backend.errors import ConfigError
from worker import configuration


def test_a_container_without_comfyui_takes_several_jobs():
    """The ops image only moves bytes: several models at once."""
    config = configuration.read({})

    assert (config.comfyui_command, config.has_comfyui, config.jobs_at_once) == ((), False, 4)


def test_the_size_of_the_volume_is_told():
    """In RunPod's GB; without a word nothing is assumed."""
    message, silent = configuration.read({"COMFYFORM_VOLUME_GB": "100"}), configuration.read({})

    assert (message.volume_bytes, silent.volume_bytes) == (100 * 10**9, None)


def test_a_container_with_comfyui_takes_one_job():
    """A GPU does one thing at a time."""
    config = configuration.read({"COMFYUI_COMMAND": f"'{sys.executable}' '/opt/my comfy/main.py' --lowvram"})

    assert config.comfyui_command == (sys.executable, "/opt/my comfy/main.py", "--lowvram")
    assert (config.has_comfyui, config.jobs_at_once) == (True, 1)


def test_a_program_that_the_image_lacks_is_no_comfyui():
    """The same code serves both images; a command that is a mistake is told, not guessed around."""
    config = configuration.read({"COMFYUI_COMMAND": "/nowhere/python main.py"})

    assert config.has_comfyui is False
    assert config.doubts() == ["COMFYUI_COMMAND starts /nowhere/python, which this image does not have."]


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"COMFYUI_COMMAND": "python 'main.py"}, "COMFYUI_COMMAND: No closing quotation"),
        (
            {"COMFYFORM_JOBS_AT_ONCE": "many"},
            "COMFYFORM_JOBS_AT_ONCE must be a number from 1 to 32, got 'many'",
        ),
        ({"COMFYFORM_JOBS_AT_ONCE": "0"}, "must be a number from 1 to 32"),
        ({"COMFYFORM_VOLUME_GB": "0"}, "COMFYFORM_VOLUME_GB must be a whole number of GB, got '0'"),
        ({"BUCKET_ENDPOINT_URL": "https://s3"}, "not BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY"),
        ({"HF_ENDPOINT": "huggingface.co"}, "HF_ENDPOINT"),
    ],
)
def test_a_mistake_is_named_with_its_variable(environ, says):
    """Whoever set the template's environment must be able to mend it from the sentence."""
    with pytest.raises(ConfigError, match=says):
        configuration.read(environ)


def test_comfyui_sees_no_secret_of_the_worker():
    """Node packs are other people's code."""
    config = configuration.read(
        {
            "PATH": "/bin",
            "RUNPOD_AI_API_KEY": "k1",
            "RUNPOD_VOLUME_PATH": "/volume",
            "HF_TOKEN": "k2",
            "CIVITAI_TOKEN": "k3",
            "BUCKET_ENDPOINT_URL": "https://s3",
            "BUCKET_ACCESS_KEY_ID": "k4",
            "BUCKET_SECRET_ACCESS_KEY": "k5",
        }
    )

    assert config.comfyui_environment() == {
        "PATH": "/bin",
        "HF_HOME": "/volume/huggingface-cache",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert "k5" not in repr(config)


def test_an_operator_can_let_node_packs_download():
    """Then they need the token too."""
    config = configuration.read({"HF_HUB_OFFLINE": "0", "HF_TOKEN": "k2", "HF_HOME": "/cache"})

    assert config.comfyui_environment() == {
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "k2",
        "HF_HOME": "/cache",
        "PYTHONUNBUFFERED": "1",
    }
