"""The stack's configuration: what is read, what is refused, and that Pulumi.yaml says the same."""

from __future__ import annotations

import json

import pytest
import yaml

from backend.errors import ConfigError, InvalidArgument, RegistryError
from backend.settings import Secret, Settings
from infra.cli.env_formats import render
from infra.engine.pulumi_project import CHECKOUT
from infra.forwarded_settings import worker_env
from infra.preflight import check_quota
from infra.stack_config import CLOSED, StackConfig, described


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
    ("key", "problem"),
    [
        ("comfyfrom:volume_gb", "unknown namespace 'comfyfrom'; did you mean comfyform:volume_gb?"),
        ("comfyform:volume_bg", "unknown key; did you mean comfyform:volume_gb?"),
        ("studio:volume_gb", "unknown namespace 'studio'; did you mean comfyform:volume_gb?"),
        ("worker:built", "unknown key; did you mean worker:build?"),
        ("verify:run", "unknown key; did you mean verify:command?"),
    ],
)
def test_a_key_that_nothing_reads_is_named_with_the_nearest(key: str, problem: str) -> None:
    """A mistyped namespace, a mistyped key, and a key without a namespace in a project of another name."""
    with pytest.raises(RegistryError) as caught:
        StackConfig.parse({key: "1", "comfyform:volume_gb": "5"}, "x", project="studio")

    found = [each for each in caught.value.problems if each.startswith(key)]
    assert found[0] == f"{key}: {problem}"
    assert len(caught.value.problems) == 2  # and the value that is too small, in the same answer


def test_other_programs_keys_are_left_alone() -> None:
    """Namespaces of other providers, and other keys of the project's own."""
    others = {"aws:region": "x", "studio:color": "red", "pulumi:tags": "{}"}

    assert StackConfig.parse(others, "x", project="studio") == StackConfig()


def test_a_value_that_is_refused_is_shown_unless_it_is_secret() -> None:
    """A version without quotes arrives as another number; the message has it, and how to write it."""
    with pytest.raises(RegistryError) as caught:
        StackConfig.parse({"comfyform:min_cuda_version": "13", "comfyform:volume_gb": "5"}, "x")

    version, size = sorted(caught.value.problems)
    assert "got '13'; write it in quotes, for example \"12.8\"" in version
    assert size.endswith("got '5'")


@pytest.mark.parametrize("form", ["plain", "secret", "absent"])
@pytest.mark.parametrize("other", ["plain", "secret", "absent"])
@pytest.mark.parametrize(
    ("one", "two", "together"),
    [("registry_username", "registry_password", True), ("hf_token", "hf_token_secret", False)],
)
def test_a_rule_over_two_keys_counts_a_secret_as_set(
    one: str, two: str, together: bool, form: str, other: str
) -> None:
    """Whether a value is plain, encrypted or absent, both readers come to the same verdict."""
    forms = {one: form, two: other}
    plain = {f"comfyform:{key}": "v" for key, how in forms.items() if how == "plain"}
    closed = {f"comfyform:{key}" for key, how in forms.items() if how == "secret"}
    if StackConfig.needs(f"comfyform:{two}") and other == "secret":  # decrypted by the reader
        plain[f"comfyform:{two}"] = "v"
        closed.discard(f"comfyform:{two}")
    both, neither = "absent" not in forms.values(), {*forms.values()} == {"absent"}
    right = both or neither if together else not both

    if right:
        StackConfig.parse(plain, "x", closed=closed)
    else:
        with pytest.raises(RegistryError):
            StackConfig.parse(plain, "x", closed=closed)


def test_rules_over_two_keys_are_told_with_mistakes_of_one() -> None:
    """Everything in one answer; a rule about a value that is wrong by itself waits for it."""
    with pytest.raises(RegistryError) as caught:
        StackConfig.parse(
            {
                "comfyform:volume_gb": "many",
                "comfyform:workers_min": "4",
                "comfyform:workers_max": "x",
                "comfyform:ops_vcpus": "3",
                "comfyform:registry_username": "u",
                "worker:build": "ghcr.io/me/worker:1",
                "ops:build": "ghcr.io/me/ops",
            },
            "x",
        )

    message = "\n".join(sorted(caught.value.problems))
    assert len(caught.value.problems) == 5
    for part in ("volume_gb: ", "workers_max: ", "ops_vcpus: 3 is not", "belong together", "worker:build: "):
        assert part in message


def test_closed_secrets_are_set_and_show_nothing() -> None:
    """A secret that was not decrypted is a value that stands for itself."""
    config = StackConfig.parse({}, "x", closed={"comfyform:hf_token", "verify:command"})

    assert config.hf_token == CLOSED


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
    assert yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"] == described()


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


@pytest.mark.parametrize(
    ("keys", "runtime", "vcpus"),
    [
        ({}, "image", 2),
        ({"comfyform:runtime": "volume"}, "volume", 4),
        ({"comfyform:worker_image": "w", "comfyform:ops_image": "o"}, "image", 2),
        ({"comfyform:worker_image": "w", "ops:build": "ghcr.io/me/ops"}, "image", 2),
        ({"worker:build": "ghcr.io/me/worker", "ops:build": "ghcr.io/me/ops"}, "image", 2),
        ({"comfyform:runtime": "volume", "comfyform:ops_vcpus": "8"}, "volume", 8),
    ],
)
def test_a_stack_that_names_or_builds_images_runs_them(
    keys: dict[str, str], runtime: str, vcpus: int
) -> None:
    """So an older stack stays on its images; defaults that depend on the runtime follow it."""
    config = StackConfig.parse(keys, "x")

    assert (config.runtime, config.ops_vcpus) == (runtime, vcpus)


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        (
            {"comfyform:runtime": "volume", "comfyform:ops_image": "o", "worker:build": "ghcr.io/me/worker"},
            ["does not go with comfyform:ops_image and worker:build: remove that, or set runtime to image"],
        ),
        (
            {
                "comfyform:worker_image": "w",
                "comfyform:ops_image": "o",
                "comfyform:generation_folder": "nodes",
            },
            ["generation_folder: only runtime volume uses it"],
        ),
        ({"comfyform:runtime": "docker"}, ["runtime: Input should be 'volume' or 'image', got 'docker'"]),
    ],
)
def test_a_runtime_and_what_contradicts_it_are_refused_together(
    keys: dict[str, str], problems: list[str]
) -> None:
    """Each problem names its key and what to do."""
    with pytest.raises(RegistryError) as caught:
        StackConfig.parse(keys, "x")

    assert len(caught.value.problems) == len(problems)
    for problem, sentence in zip(caught.value.problems, problems, strict=True):
        assert sentence in problem
