"""A model is added to a registry as text: in its place, and nothing that people wrote is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import RegistryError
from ops.registry.add_model import Entry, add
from ops.registry.load import load, parse_registry

A = "{files: [{path: vae/a.pt, source: 'url:https://x/a'}]}"
ENTRY = Entry(
    name="x",
    path="vae/x.pt",
    source="url:https://example.org/x.pt",
    size_bytes=1,
    sha256="a" * 64,
    license="mit",
    gated=False,
    used_by=[],
    allow_pickle=True,
)


@pytest.mark.parametrize(
    ("text", "remaining"),
    [
        ("", ""),
        (f"required:\n  a: {A}", f"required:\n  a: {A}\n"),
        (f"required:\n    a:\n        {A}\n# of the file", f"required:\n    a:\n        {A}\n"),
        (f"required:\r\n  a: {A}\r\noptional: {{}}\r\n", f"required:\r\n  a: {A}\r\n\r\n"),
        ("required:  # none yet\noptional:\n", "required:  # none yet\n"),
        ("\ufeffrequired: {}  # none yet", "\ufeffrequired:   # none yet\n"),
        (f"required: {{a: {A}}}\n", None),
        (f"optional: &all\n  a: {A}\nrequired: *all\n", None),
        ("required: [\n", None),
    ],
)
def test_a_model_is_added_and_nothing_is_lost(text: str, remaining: str | None):
    """However a section is written, all that was there is there afterwards, or nothing is written."""
    if remaining is None:
        with pytest.raises(RegistryError, match="nothing was written to it"):
            add(text.encode(), "required", ENTRY)
        return
    before, _ = parse_registry(text, Path("r.yaml"), {})

    written = add(text.encode(), "required", ENTRY).decode()

    after, found = parse_registry(written, Path("r.yaml"), {})
    assert written.startswith(remaining)
    assert [model.name for model in after.required] == [*(model.name for model in before.required), "x"]
    assert after.required[-1].files[0].allow_pickle
    assert found == []


def test_an_empty_section_is_an_empty_section(tmp_path: Path):
    """A section whose last entry was deleted is no mistake, and a model can be added to it again."""
    file = tmp_path / "models-registry.yaml"
    file.write_text("required:\noptional:\n")

    found = load(file)

    assert (found.required, found.optional) == ((), ())
    file.write_bytes(add(file.read_bytes(), "required", ENTRY))
    assert [model.name for model in load(file).required] == ["x"]
