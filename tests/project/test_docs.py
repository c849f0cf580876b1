"""The pages are true: what they name is there, and no block of theirs is run by nobody."""

import re
import shlex

import pytest
import yaml

import tasks
from tests.project import test_demo, test_docs_run, test_docs_walk
from tests.support.pages import PAGES, ROOT, blocks, languages

RUN_BY = {
    "README": test_docs_walk.test_a_newcomer_can_follow_the_pages,
    "CONTRIBUTING": test_docs_run.test_the_commands_of_contributors_run,
    "add-a-backend": test_docs_run.test_the_backend_of_the_page_is_one,
    "emulator": test_docs_run.test_the_emulator_page_works_from_top_to_bottom,
    "first-deployment": test_docs_walk.test_a_newcomer_can_follow_the_pages,
    "mcp": test_docs_walk.test_a_newcomer_can_follow_the_pages,
    "models": test_docs_walk.test_a_newcomer_can_follow_the_pages,
    "runtime": test_docs_walk.test_a_newcomer_can_follow_the_pages,
    "worker": test_docs_walk.test_a_newcomer_can_follow_the_pages,
}
"""Page with code → the test that runs its blocks in `sh`, Python, JSON, YAML and TOML."""
NOT_RUN = {
    "./inv images.build": "it needs a registry of yours: its options are checked below",
    "./inv conform": "it needs a ComfyUI of yours: tests/project/test_conformance.py runs it on the stand-in",
    "export RUNPOD_API_KEY=…": "the key is yours",
}
"""How each command begins that no test runs, and why; on the pages they stand in `console` blocks."""


def console_commands(page: str) -> list[str]:
    """Return the commands of a page that cannot be run here, a line each."""
    return [line for block in blocks(page, "console") for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_code_is_run_by_a_test(page):
    """Whoever adds a block to a page that no test reads is told so."""
    assert languages(page) <= {"sh", "console", "python", "json", "yaml", "toml"}
    assert bool(languages(page) - {"console"}) == (page in RUN_BY)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_is_known(page):
    """A command in a `console` block is one of those that cannot be run here, and parses."""
    for line in console_commands(page):
        assert any(line.startswith(start) for start in NOT_RUN), line
        assert shlex.split(line, comments=True)


@pytest.mark.parametrize(
    "line", sorted({line for page in PAGES for line in console_commands(page) if line.startswith("./inv ")})
)
def test_a_command_that_is_not_run_has_options_that_exist(line):
    """What a page tells readers to type is a task with these options."""
    _, name, *words = shlex.split(line, comments=True)
    options = {f"--{argument.name}".replace("_", "-") for argument in tasks.namespace[name].get_arguments()}

    assert {word for word in words if word.startswith("-")} <= options


def test_the_two_commands_of_the_first_page_are_those_that_are_tested():
    """The demo's test runs the very command of the README; the other one is what CI runs."""
    demo, whole = [line.split("#")[0].split() for line in blocks("README", "sh")[0].splitlines()]

    assert demo == ["./inv", test_demo.TASK]
    assert whole == ["./inv", "test"]
    assert "exec ./inv test\n" in (ROOT / ".ci" / "run").read_text()


def test_the_registry_entry_of_the_page_is_one(tmp_path):
    """The example of an entry loads; a registry with a hash of its own needs no lock."""
    from ops.registry.load import load

    (entry,) = blocks("models", "yaml")
    path = tmp_path / "models-registry.yaml"
    path.write_text(re.sub("…[^…]*…", "0" * 64, entry), encoding="utf-8")

    (model,) = load(path).required

    assert [file.path for file in model.files] == [
        yaml.safe_load(entry)["required"]["my-checkpoint"]["files"][0]["path"]
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_task_that_a_page_names_is_there(page):
    """A page names no task and no option that does not exist."""
    text = PAGES[page].read_text(encoding="utf-8")
    found = re.findall(r"(?:\./inv|`inv) ([a-z][\w.-]*)((?: --[a-z][\w-]*)*)", text)
    known = {
        name: {flag.replace("_", "-") for a in tasks.namespace[name].get_arguments() for flag in a.names}
        for name in tasks.namespace.task_names
    }

    assert [name for name, _ in found if name not in known and not name.endswith(".")] == []
    wrong = [
        f"{name} {option}"
        for name, options in found
        for option in re.findall(r"--([a-z][\w-]*)", options)
        if option not in known.get(name, ())
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_leads_somewhere(page):
    """A relative link names a file that is there, and a heading that is there where it names one."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page].read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        place = PAGES[page].parent / name if name else PAGES[page]
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, target
