"""The stack's configuration: what is read, what is refused, and that Pulumi.yaml says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from backend.errors import ConfigError, InvalidArgument, RegistryError
from backend.settings import Secret, Settings
from infra import stacks
from infra.export import render
from infra.preflight import check_quota
from infra.pulumi_cli import PROJECT
from infra.stack_config import StackConfig, described
from infra.worker_env import worker_env


def test_defaults_are_a_whole_stack() -> None:
    """An empty configuration is one that can be brought up."""
    assert StackConfig.parse({}, "Pulumi.dev.yaml") == StackConfig()


def test_text_becomes_typed_values() -> None:
    """Pulumi hands all values over as text, lists as JSON; empty means not set."""
    config = StackConfig.parse(
        {
            "comfyform:volume_gb": "20",
            "comfyform:protect_volume": "false",
            "comfyform:gpu_pools": '["ADA_24"]',
            "comfyform:hf_token": "hf_secret",
            "comfyform:adopt_volume": "",
            "aws:region": "x",
        },
        "Pulumi.dev.yaml",
    )

    assert (config.volume_gb, config.protect_volume, config.gpu_pools) == (20, False, ["ADA_24"])
    assert config.hf_token == Secret("hf_secret")
    assert config.adopt_volume is None
    assert "hf_secret" not in repr(config)


def test_all_mistakes_are_named_at_once() -> None:
    """Each with its key, and a misspelled one with the key that was meant."""
    with pytest.raises(RegistryError) as caught:
        StackConfig.parse(
            {
                "comfyform:volume_gb": "5",
                "comfyform:workers_mx": "1",
                "comfyform:transport": "ftp",
                "comfyform:gpu_pools": "[]",
            },
            "Pulumi.dev.yaml",
        )

    named = sorted(problem.split(":")[1] for problem in caught.value.problems)
    assert named == ["gpu_pools", "transport", "volume_gb", "workers_mx"]
    assert "did you mean comfyform:workers_max?" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"registry_username": "u"}, "belong together"),
        ({"hf_token": "t", "hf_token_secret": "s"}, "not both"),
        ({"workers_min": "4"}, "more than workers_max"),
        ({"ops_vcpus": "6"}, "not a power of two"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, str], problem: str) -> None:
    """Keys that are right alone and wrong together are found, too."""
    with pytest.raises(RegistryError, match=problem):
        StackConfig.parse({f"comfyform:{key}": value for key, value in values.items()}, "x")


def test_the_project_file_describes_the_same_keys() -> None:
    """`pulumi config` shows the types, defaults and sentences that the program has."""
    assert yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"] == described()


def test_a_stack_file_is_read_without_the_cli(tmp_path: Path) -> None:
    """Lists and numbers are as Pulumi writes them; secrets stay closed and are known to be there."""
    (tmp_path / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump(
            {
                "config": {
                    "comfyform:volume_gb": 30,
                    "comfyform:gpu_pools": ["ADA_24"],
                    "comfyform:runpod_api_key": {"secure": "v1:abc"},
                }
            }
        )
    )

    config = stacks.config("dev", tmp_path)

    assert (config.volume_gb, config.gpu_pools, config.runpod_api_key) == (30, ["ADA_24"], None)
    assert stacks.has_secret("dev", "runpod_api_key", tmp_path)
    assert not stacks.has_secret("other", "runpod_api_key", tmp_path)
    assert stacks.config("other", tmp_path) == StackConfig()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("config: [", "cannot be read"),
        ("- comfyform:volume_gb: 10", "not a stack's configuration"),
        ("config: [comfyform:volume_gb]", "not a stack's configuration"),
        ("volume", "not a stack's configuration"),
    ],
)
def test_a_broken_stack_file_is_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    """Neither YAML nor a mapping: an error that names the file and says what it should be."""
    (tmp_path / "Pulumi.dev.yaml").write_text(text)

    with pytest.raises(ConfigError, match=rf"Pulumi\.dev\.yaml .*{problem}"):
        stacks.config("dev", tmp_path)


def test_the_project_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMFYFORM_PROJECT, which a kept demo prints, is where stacks are looked for; what is asked for wins."""
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {comfyform:volume_gb: 30}")
    monkeypatch.setenv("COMFYFORM_PROJECT", str(tmp_path))

    assert stacks.config("dev").volume_gb == 30
    assert stacks.config("dev", tmp_path / "other") == StackConfig()


def test_the_worker_quota_is_checked_where_it_is_known_and_guessed_where_not() -> None:
    """With a number, too many are refused; without one, more than RunPod first allows is a warning."""
    assert check_quota(StackConfig(), 1) == ()
    (warning,) = check_quota(StackConfig(), 2)
    assert "may run 4 workers and the account's other endpoints 2." in warning
    assert check_quota(StackConfig(worker_quota=6), 2) == ()
    with pytest.raises(ConfigError, match="together 6: the quota is 5"):
        check_quota(StackConfig(worker_quota=5), 2)


def test_variables_in_three_formats() -> None:
    """What is printed is read back by a shell, a dotenv reader and a JSON parser."""
    variables = {"A": "it's", "B": "1"}

    assert render(variables, "shell") == "export A='it'\"'\"'s'\nexport B=1\n"
    assert render(variables, "dotenv") == "A=it's\nB=1\n"
    assert json.loads(render(variables, "json")) == variables
    with pytest.raises(InvalidArgument):
        render(variables, "xml")  # type: ignore[arg-type]  # what a user might type


def test_only_unusual_addresses_reach_the_workers() -> None:
    """A mirror is passed on; usual addresses and keys are not."""
    settings = Settings(
        hf_endpoint="http://mirror", comfyform_allow_hosts=("a", "b"), hf_token=Secret("hf_secret")
    )

    assert worker_env(Settings()) == {}
    assert worker_env(settings) == {"HF_ENDPOINT": "http://mirror", "COMFYFORM_ALLOW_HOSTS": "a,b"}
