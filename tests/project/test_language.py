"""Plain English in messages, help texts, docstrings and names of values, and in the documentation."""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("backend", "ops", "infra", "worker", "mcp_server", "tasks.py")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs")
WORDS = {
    "nobody, somebody, anybody": r"\b(no|some|any)body\b",
    "anew": r"\banew\b",
    "kin": r"\bkin\b",
    "heed": r"\bheed",
    "thrice": r"\bthrice\b",
    "beforehand": r"\bbeforehand\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "film": r"\bfilm(s|ed|ing)?\b",
    "for ever": r"\bfor ever\b",
    "is none": r"\b(is|are|there) (?-i:none)\b",
    "is no X": r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b|faster\b)\w+",
    "archaic": r"\b(aught|whosoever|hitherto|thereof|hence)\b",
    "British spelling": r"\b(licen[c]e\w*|behaviour\w*|colour\w*|favour\w*|catalogue\w*|centre\w*"
    r"|(?:recogn|normal|initial|serial|optim|organ)is(?:e|ed|es|ing|ation))\b",
}
"""Name of a rule → what breaks it, upper or lower case. CONTRIBUTING.md says what to write instead."""
IN_MESSAGES = {"there is no X": r"\bthere (is|are|was|were) no\b"}
"""Plain in a page; a message says *not found* or *unknown*, which readers search for."""
PAGES_OF_OTHERS = {"emulator-coverage.md"}
"""Made from the docstrings of the emulator, which repeats what RunPod says."""


def literals(text: str) -> Iterator[tuple[int, str, bool]]:
    """Line and value of each string, and whether it is a docstring or documents an attribute."""
    tree = ast.parse(text)
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) in docs


def offenses(line: str, rules: Mapping[str, str] = WORDS) -> list[str]:
    """The rules that a line breaks."""
    return [rule for rule, pattern in rules.items() if re.search(pattern, line, re.IGNORECASE)]


PARTICIPLES = frozenset(
    ("said", "told", "made", "held", "kept", "came", "asked", "given", "taken", "brought", "wanted")
)
"""Not names of values: a noun says what the value is."""
REMAINING_DOCSTRINGS = {"emulator": 44, "tests": 143}
"""Folder → offenses left in its docstrings. The numbers only go down; add a folder with its number."""
REMAINING_NAMES = {"emulator": 8, "tests": 27}
"""Folder → variables and parameters that are left with such a name. The numbers only go down."""


def bound_names(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each variable and parameter that a module binds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def files(names: tuple[str, ...], suffix: str) -> list[Path]:
    """Files below these names, relative to the repository."""
    places = [ROOT / name for name in names]
    return sorted(
        path for place in places for path in ([place] if place.is_file() else place.rglob(f"*{suffix}"))
    )


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("Nobody is there to answer.", "nobody, somebody, anybody"),
        ("This is no ComfyUI workflow.", "is no X"),
        ("There is none.", "is none"),
        ("To mend them: inv models.sync", "mend"),
        ("Accept its licence", "British spelling"),
        ("filming", "film"),
    ],
)
def test_the_rules_find_what_they_are_for(line: str, rule: str) -> None:
    """A rule that matches nothing would hold for every text."""
    assert offenses(line) == [rule]


@pytest.mark.parametrize("line", ["It is no longer on the volume.", "The license was recognized.", "A kind"])
def test_the_rules_leave_plain_english_alone(line: str) -> None:
    """The words that look like the banned ones are allowed."""
    assert offenses(line) == []


@pytest.mark.slow
def test_messages_help_texts_and_docstrings_are_plain() -> None:
    """Each string literal and each docstring of the product keeps the rules."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {rule}: {value!r}"
        for path in files(PRODUCT, ".py")
        for line, value, is_doc in literals(path.read_text(encoding="utf-8"))
        for rule in offenses(value, WORDS if is_doc else {**WORDS, **IN_MESSAGES})
    ]

    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", REMAINING_DOCSTRINGS)
def test_docstrings_outside_the_product_get_plainer(folder: str) -> None:
    """No docstring is added that breaks a rule; where one is repaired, the number that is left goes down."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {rule}: {value!r}"
        for path in files((folder,), ".py")
        for line, value, is_doc in literals(path.read_text(encoding="utf-8"))
        if is_doc
        for rule in offenses(value)
    ]

    assert len(found) <= REMAINING_DOCSTRINGS[folder], "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("folder", REMAINING_NAMES)
def test_values_have_nouns_for_names(folder: str) -> None:
    """No variable and no parameter is added whose name is a participle."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files((folder,), ".py")
        for line, name in bound_names(path.read_text(encoding="utf-8"))
        if name in PARTICIPLES
    ]

    assert len(found) <= REMAINING_NAMES[folder], "\n".join(found)


def test_pages_are_plain() -> None:
    """Each line of the documentation keeps the rules."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {rule}: {line}"
        for path in files(PAGES, ".md")
        if path.name not in PAGES_OF_OTHERS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for rule in offenses(line)
    ]

    assert found == []


def test_the_glossary_names_code_that_exists() -> None:
    """Each dotted name in the glossary's last column is a module, or a name in one."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    names = [
        name
        for row in text.splitlines()
        if row.startswith("| ")
        for name in re.findall(r"`([\w.]+)`", row.rpartition(" | ")[2])
    ]

    assert len(names) > 20
    assert [name for name in names if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name can be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True
