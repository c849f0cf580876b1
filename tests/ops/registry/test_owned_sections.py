"""The tool's sections at the end of the registry: written without touching a byte above them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import RegistryError
from ops.registry.load import load
from ops.registry.owned_sections import splice, split, write_sections

ROOT = Path(__file__).parents[3]
PIECES = [
    "# a comment: with a colon, 'quotes' and \"more\"",
    "#local_scan: not one",
    "required:",
    "  sonic: &anchor",
    "    license: 'CC-BY'  # why",
    '    note: "local_scan: quoted"',
    "    files: [{path: 图.bin, source: \"url:https://x/Ünïcode\"}]",
    "  text: |",
    "    local_scan:",
    "      in a block",
    "",
    "optional:",
    "  other: *anchor",
    "   ",
    "%not a directive",
    "\tlocal_scan: after a tab",
    "x-local_scan: 1",
    "local_scanner: 1",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(PIECES), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.dictionaries(st.text(max_size=8), VALUES, max_size=2),
    st.dictionaries(st.text(max_size=8), VALUES, max_size=2),
)
@pytest.mark.slow
def test_what_people_wrote_stays_the_same_bytes(
    lines: list[str], newline: str, ended: bool, scan: dict[str, Any], status: dict[str, Any]
):
    """Whatever the upper part is, it is the same bytes after each write, or nothing is written."""
    head = (newline.join(lines) + (newline if ended and lines else "")).encode()
    if not _is_mapping(head):
        with pytest.raises(RegistryError, match="nothing was written"):
            splice(head, {"local_scan": scan})
        return

    once = splice(head, {"local_scan": scan})
    twice = splice(once, {"runpod_status": status})
    thrice = splice(twice, {"local_scan": scan, "runpod_status": status})

    assert once.startswith(head)
    assert twice.startswith(head)
    assert thrice == twice
    assert yaml.safe_load(twice[len(head) :].decode()) == {"local_scan": scan, "runpod_status": status}
    assert split(twice)[0].rstrip(b"\r\n") == head.rstrip(b"\r\n")


def _is_mapping(head: bytes) -> bool:
    """Tell whether a document is one below which keys can be put, and whose values stay the same."""
    try:
        before = yaml.safe_load(head)
        after = yaml.safe_load(head + b"\nlocal_scan: 1\n")
    except yaml.YAMLError:
        return False
    return isinstance(before or {}, dict) and after == {**(before or {}), "local_scan": 1}


def test_the_shipped_registry_survives(tmp_path: Path):
    """After a write the real registry loads as before."""
    path = tmp_path / "models-registry.yaml"
    before = (ROOT / "models-registry.yaml").read_bytes()
    path.write_bytes(before)

    write_sections(path, {"local_scan": {"files": [{"path": "a", "sha256": "1e5"}], "total_bytes": 1}})

    assert path.read_bytes().startswith(before)
    assert load(path).files() == load(ROOT / "models-registry.yaml").files() or load(path).required
    assert yaml.safe_load(path.read_text())["local_scan"]["files"][0]["sha256"] == "1e5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"    local_scan:", "its sections do not begin at the left edge"),
        (b"  required: {}\n", "its sections do not begin at the left edge"),
        (b"{required: {}}", "it is not a mapping of sections on lines of their own"),
        (b"- a\n", "it is not a mapping of sections on lines of their own"),
        (b"a: 1\nb: [\n", "it is not YAML: line 3"),
        (b"a: 1\nb: \xe9\n", "line 2 is not text in UTF-8"),
        (b"required: {}\n...\n", "its upper part does not end where sections can begin"),
        (
            b"runpod_status: {when: 2026-11-24}\n",
            "local_scan or runpod_status holds what the tool never writes",
        ),
        (b"runpod_status: &a {b: *a}\n", "local_scan or runpod_status holds what the tool never writes"),
        (b"runpod_status: .nan\n", "local_scan or runpod_status holds what the tool never writes"),
    ],
)
def test_a_file_of_another_form_is_refused(text: bytes, message: str):
    """What nothing can be written to is refused in one error, without a traceback."""
    with pytest.raises(RegistryError, match="nothing was written") as refused:
        splice(text, {"local_scan": {}}, "mine.yaml")

    assert str(refused.value).startswith(f"mine.yaml has 1 problem:\n  {message}")


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (b"\xef\xbb\xbflocal_scan: {}\n", b"\xef\xbb\xbf"),
        (b"required: &none {}\nlocal_scan: *none\nrunpod_status: *none\n", b"required: &none {}\n"),
        (b"a: 1\nlocal_scan: &x {b: 1}\nrunpod_status:\n  <<: *x\n", b"a: 1\n"),
        (b"a: 1\nlocal_scan: {1: 2}\nlocal_scan: {1: 3}", b"a: 1\n"),
    ],
)
def test_the_tools_sections_may_have_been_edited(text: bytes, head: bytes):
    """Anchors, merge keys, keys that are no text or twice there, a mark of the byte order: all is read."""
    written = splice(text, {"runpod_status": {"c": 2}})

    assert split(written)[0] == head
    assert yaml.safe_load(written)["runpod_status"] == {"c": 2}


def test_a_file_stays_what_it_is(tmp_path: Path):
    """A registry that is a link stays one, its rights stay, and one that may not be written is left alone."""
    real, link = tmp_path / "real.yaml", tmp_path / "models-registry.yaml"
    real.write_text("required: {}\n")
    real.chmod(0o640)
    link.symlink_to(real)

    write_sections(link, {"local_scan": {}})

    assert (link.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o640)
    assert real.read_text().endswith("local_scan: {}\n")


def test_something_below_is_not_overwritten():
    """A section of somebody else's after the tool's is an error that says where, not a loss."""
    with pytest.raises(RegistryError, match="Move it above local_scan and runpod_status"):
        splice(b"required: {}\nlocal_scan: {}\noptional: {}\n", {"local_scan": {}})
