"""docs/emulator-coverage.md says what the emulator covers, and no published operation is unknown to it."""

from __future__ import annotations

from pathlib import Path

from emulator import coverage
from emulator.control.limits import Limits
from emulator.rest.app import OPERATIONS
from tests.support import openapi

PAGE = Path(__file__).parents[2] / "docs/emulator-coverage.md"


def test_the_page_lists_every_operation_as_it_is() -> None:
    """Each operation of the table has its row, with yes or 501."""
    text = PAGE.read_text()
    missing = [
        operation.id
        for operation in OPERATIONS
        if f"| {operation.id} | {operation.method} | `/v2{operation.path}` | "
        f"{'yes' if operation.handler else '501'} |" not in text
    ]

    assert missing == []


def test_the_page_and_the_table_follow_the_published_document() -> None:
    """Where the document is at hand: no operation is unknown, none is invented, and the page is current."""
    document = openapi.document()
    if document is not None:
        known = sorted((operation.id, operation.method, operation.path) for operation in OPERATIONS)

        assert known == sorted(coverage.operations(document))
        assert coverage.main([str(openapi.PATH), "--check", str(PAGE)]) == 0


def test_every_knob_is_explained() -> None:
    """A knob without a sentence would be missing on the page."""
    assert list(coverage.attribute_docs(Limits)) == list(Limits.__dataclass_fields__)


def test_a_stale_page_is_told(tmp_path: Path) -> None:
    """--check exits 1 for a page that differs."""
    spec = tmp_path / "spec.json"
    spec.write_text('{"info": {"version": "0"}, "paths": {}}')

    assert coverage.main([str(spec), "--check", str(tmp_path / "none.md")]) == 1
