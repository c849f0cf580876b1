"""`./inv` and Pulumi read one configuration alike: on the real CLI, with real stacks and secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ComfyformError, ConfigError, MissingSetting, RegistryError
from infra.cli import commands
from infra.engine.pulumi_project import Project as PulumiProject
from infra.engine.stacks import Stack
from infra.stack_config import CLOSED
from tests.support.emulation import Emulator
from tests.support.pulumi_project import STACK, Project, project

pytestmark = pytest.mark.slow


@pytest.fixture
def infra(emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with a small stack and no models, which the commands of this process see too."""
    with project(tmp_path / "project", emu, extra={"PULUMI_CONFIG_PASSPHRASE": "open"}) as created:
        (created.root / "models-registry.yaml").write_text("required: {}\n")
        for name, value in created.env.items():
            monkeypatch.setenv(name, value)
        yield created


def write(infra: Project, lines: str, stack: str = STACK) -> None:
    """Add lines to the configuration in a stack's file."""
    path = infra.root / f"Pulumi.{stack}.yaml"
    before = path.read_text() if path.exists() else "config:\n"
    path.write_text(before.replace("config:\n", f"config:\n{lines}"))


def cost(capsys: pytest.CaptureFixture[str], infra: Project) -> Any:
    """What `./inv stack.cost --json` says."""
    capsys.readouterr()
    assert commands.cost(json=True, project=infra.root) == 0
    return json.loads(capsys.readouterr().out)


def test_both_read_a_key_without_a_namespace(infra: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Pulumi adds the project's name, and so does `./inv`, which prices what will be made."""
    path = infra.root / f"Pulumi.{STACK}.yaml"
    path.write_text(path.read_text().replace("comfyform:volume_gb: ", "volume_gb: 5").replace('5"10"', "500"))
    assert "  volume_gb: 500\n" in path.read_text()

    assert cost(capsys, infra)["usd_per_month"] == pytest.approx(35)
    infra.pulumi("preview")
    infra.configure(budget_usd_per_month="34.99")
    assert "35.00 USD a month" in infra.pulumi("preview", ok=False).stdout


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("  comfyfrom:volume_gb: 500\n", "did you mean comfyform:volume_gb?"),
        ("  comfyform:volume_bg: 500\n", "did you mean comfyform:volume_gb?"),
        ("  comfyform:min_cuda_version: 13.0\n", "got '13'; write it in quotes"),
        ("  comfyform:registry_username: {{secure: {secret}}}\n", "belong together"),
    ],
    ids=["namespace", "key", "number", "secret"],
)
def test_both_refuse_with_the_same_words(infra: Project, line: str, problem: str) -> None:
    """What one does not take, the other does not take either."""
    infra.pulumi("config", "set", "--secret", "comfyform:hf_token", "x")
    path = infra.root / f"Pulumi.{STACK}.yaml"
    secret = path.read_text().partition("secure: ")[2].partition("\n")[0]
    write(infra, line.format(secret=secret) if "{secret}" in line else line)

    with pytest.raises(RegistryError) as caught:
        Stack.at(project=infra.root).config()
    done = infra.pulumi("preview", ok=False)

    (sentence,) = caught.value.problems
    assert problem in sentence
    assert sentence in done.stdout + done.stderr


def test_secrets_are_decrypted_only_where_they_are_needed(
    infra: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair of secrets is a pair; without the passphrase only what needs a secret's value fails."""
    for key in ("registry_username", "registry_password"):
        infra.pulumi("config", "set", "--secret", f"comfyform:{key}", "word")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")

    assert Stack.at(project=infra.root).config().registry_password == CLOSED
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "open")
    infra.pulumi("config", "set", "--secret", "comfyform:volume_gb", "30")
    assert Stack.at(project=infra.root).config().volume_gb == 30
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    with pytest.raises(ComfyformError, match="passphrase must be set with PULUMI_CONFIG_PASSPHRASE"):
        Stack.at(project=infra.root).config()


def test_a_stack_that_does_not_exist_is_read_and_not_made(
    infra: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file is read as Pulumi would, and left as it is; a name without a file is said to have none."""
    write(infra, "  volume_gb: 0x1F4\n  comfyform:hf_token: {secure: 'v1:abc:def'}\n", "new")
    before = (infra.root / "Pulumi.new.yaml").read_text()

    config = Stack.at("new", project=infra.root).config()

    assert (config.volume_gb, config.hf_token) == (500, CLOSED)
    assert before == (infra.root / "Pulumi.new.yaml").read_text()
    lines: list[str] = []
    Stack.at("nwe", project=infra.root, say=lines.append).config(warn_of_defaults=True)
    assert lines == [
        "Stack 'nwe' does not exist and Pulumi.nwe.yaml was not found: its configuration is the defaults."
    ]
    assert Stack.at(project=infra.root).names() == [STACK]


def test_a_stack_may_be_named_in_full(infra: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """`organization/comfyform/test` is the stack `test`, in the file, in locks and in names at RunPod."""
    full = Stack.at(f"organization/comfyform/{STACK}", project=infra.root)

    assert full.opened().name == STACK
    assert full.config().volume_gb == 10
    with pytest.raises(ConfigError, match=r"is of project 'other'; the project in .* is 'comfyform'"):
        Stack.at(f"organization/other/{STACK}", project=infra.root)


def test_a_key_that_only_the_configuration_has_works_for_every_command(
    infra: Project, emu: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it was set since the last `up`: `down` destroys with it, and checks with it what is left."""
    assert commands.up(yes=True, project=infra.root) == 0
    infra.pulumi("config", "set", "--secret", "comfyform:runpod_api_key", infra.env["RUNPOD_API_KEY"])
    monkeypatch.delenv("RUNPOD_API_KEY")

    assert cost(capsys, infra)["unpriced"] == []
    assert commands.orphans(json=True, project=infra.root) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert commands.refresh(yes=True, project=infra.root) == 0
    assert commands.down(yes=True, project=infra.root) == 0
    state = emu.state()
    assert (state["volumes"], state["endpoints"], state["templates"]) == ([], [], [])


def test_without_a_key_nothing_is_touched(
    infra: Project, emu: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is missed before anything is destroyed, and both places for it are named."""
    assert commands.up(yes=True, project=infra.root) == 0
    monkeypatch.delenv("RUNPOD_API_KEY")
    before = emu.state()["endpoints"]

    for act in (commands.down, commands.refresh, commands.up):
        with pytest.raises(MissingSetting) as caught:
            act(yes=True, project=infra.root)
        assert "pulumi config set --secret comfyform:runpod_api_key" in str(caught.value.hint)
    for look in (commands.cost, commands.orphans):
        with pytest.raises(MissingSetting):
            look(project=infra.root)
    assert emu.state()["endpoints"] == before


OTHER = """
from infra.resources import Template
Template("speech", image="echo")
"""


def test_orphans_are_of_the_project_that_is_asked_for(
    infra: Project, emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither another project's living objects, nor those of one whose name goes on after ours."""
    infra.up()
    for name in ("other", "comfyform-test"):
        folder = infra.root / name
        folder.mkdir()
        (folder / "Pulumi.yaml").write_text(
            f"name: {name}\nruntime: {{name: python, options: {{toolchain: pip}}}}\n"
        )
        (folder / "__main__.py").write_text(OTHER)
        (folder / "infra").symlink_to(infra.root / "infra")
        infra.pulumi("-C", str(folder), "stack", "init", "dev")
        infra.pulumi("-C", str(folder), "up", "--yes", "--skip-preview", "--stack", "dev")
    lost = {
        name: emu.rest("POST", "/templates", {"name": name, "image": "echo"}).json()["id"]
        for name in (
            "comfyform-test-comfy-ops",
            "comfyform-test-dev-lost",
            "other-dev-lost",
            "others-dev-lost",
        )
    }

    def orphans(folder: Path, stack: str) -> list[str]:
        capsys.readouterr()
        assert commands.orphans(json=True, project=folder, stack=stack) == 0
        return [each["name"] for each in json.loads(capsys.readouterr().out)]

    assert orphans(infra.root, STACK) == ["comfyform-test-comfy-ops"]
    assert orphans(infra.root / "comfyform-test", "dev") == ["comfyform-test-dev-lost"]
    assert orphans(infra.root / "other", "dev") == ["other-dev-lost"]
    emu.rest("DELETE", f"/templates/{lost['comfyform-test-comfy-ops']}")
    assert commands.down(yes=True, project=infra.root) == 0
    assert "still at RunPod" not in capsys.readouterr().err


def test_a_folder_without_a_project_is_said(tmp_path: Path) -> None:
    """Before Pulumi is asked: what was looked for, where, and which option names it."""
    with pytest.raises(ConfigError, match=r"No Pulumi project in .*: expected a file Pulumi.yaml") as caught:
        PulumiProject.at(tmp_path)
    assert "--project" in str(caught.value.hint)
    (tmp_path / "Pulumi.yaml").write_text("runtime: python\n")
    with pytest.raises(ConfigError, match="has no `name`"):
        PulumiProject.at(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: [\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        PulumiProject.at(tmp_path)
    doubled = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    (tmp_path / "Pulumi.yaml").write_text(f"name: x\na0: &a0 [1]\n{doubled}")
    with pytest.raises(ConfigError, match="aliases expand to too many values"):
        PulumiProject.at(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: x\nstarted: 2026-13-45\n")
    with pytest.raises(ConfigError, match="cannot be read: line 2"):
        PulumiProject.at(tmp_path)
