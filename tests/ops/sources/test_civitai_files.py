"""CivitAI versions with several files: the one that a source means is announced, fetched and written down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.contract import WantedFile
from backend.errors import SourceMissing
from backend.flow.http_driver import Http
from ops.commands import registry as commands_registry
from ops.models.source_addresses import read_source
from ops.registry.load import load
from ops.sources.origins import Sources
from tests.support.emulation import Emulator
from tests.support.ops_desk import Desk
from tests.support.ops_places import folder, sources_of

VERSION = 3155593


@pytest.fixture
def sources(emu: Emulator) -> Iterator[Sources]:
    """The emulated CivitAI, with a version of three files."""
    others: list[dict[str, Any]] = [
        {
            "id": 2,
            "name": "x_fp8.safetensors",
            "size_bytes": 3000,
            "metadata": {"format": "SafeTensor", "fp": "fp8"},
        },
        {
            "id": 3,
            "name": "x.ckpt",
            "size_bytes": 5000,
            "metadata": {"format": "PickleTensor", "size": "full"},
        },
    ]
    body = {"id": VERSION, "filename": "x.safetensors", "size_bytes": 9000, "words": ["ink", "wash"]}
    emu.control("POST", "/civitai/versions", body | {"others": others})
    with Http() as http:
        yield sources_of(emu, http)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (f"civitai:{VERSION}", 9000),
        (f"civitai:{VERSION}/2", 3000),
        (f"civitai:{VERSION}?fp=fp8", 3000),
        (f"civitai:{VERSION}?format=PickleTensor", 5000),
        (f"https://civitai.com/api/download/models/{VERSION}?fileId=2", 3000),
        (f"https://civitai.red/api/download/models/{VERSION}?type=Model&format=SafeTensor&fp=fp8", 3000),
    ],
)
def test_the_chosen_file_is_fetched(sources: Sources, tmp_path: Path, text: str, size: int):
    """By its id, its precision or its format; the announced hash is that file's."""
    source = str(read_source(text))
    required = WantedFile(path="models/loras/x.bin", source=source)

    (done,) = folder(tmp_path, sources).provision([required])

    content = (tmp_path / required["path"]).read_bytes()
    assert abs(len(content) - size) < 200
    assert hashlib.sha256(content).hexdigest() == done["sha256"] == sources.resolve(source).sha256


@pytest.mark.parametrize("text", [f"civitai:{VERSION}/99", f"civitai:{VERSION}?fp=nf4"])
def test_a_file_that_a_version_does_not_have(sources: Sources, text: str):
    """The answer lists the files that it has, in the form that names each."""
    with pytest.raises(SourceMissing) as refused:
        sources.resolve(text)

    assert f"civitai:{VERSION}/2 (x_fp8.safetensors, Model, SafeTensor, fp8)" in str(refused.value)


@pytest.mark.usefixtures("sources")
def test_add_writes_down_how_a_model_is_used(
    emu: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Trigger words and base model become the entry's note; the file stays the chosen one."""
    desk = Desk(emu, tmp_path, capsys)

    desk.run(
        commands_registry.add, f"civitai:{VERSION}/2", path="loras/x.safetensors", registry=str(desk.registry)
    )

    (model,) = load(desk.registry).optional
    assert (model.note, model.files[0].source) == (
        "Base model: SD 1.5. Trigger words: ink; wash.",
        f"civitai:{VERSION}/2",
    )
