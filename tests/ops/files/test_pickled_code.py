"""Pickled code in model files: what goes beyond weights is named, and refused on every way in."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import pickle
import posixpath
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import ComfyformError
from backend.flow.http_driver import Http
from ops.files.model_content import examine_bytes
from ops.files.pickle_globals import MOST_OPCODES
from ops.files.pickled_code import pickle_problem
from tests.support.emulation import Emulator
from tests.support.ops_places import folder, put, serve, sources_of
from tests.support.ops_shelf import Shelf

MAGIC = 0x1950A86A20F9469CFC6C


class Call:
    """An object whose pickle calls a function with arguments when it is loaded."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def problem(content: bytes, name: str = "x.pth", **options: bool) -> str:
    return examine_bytes(io.BytesIO(content), len(content), name, **options).problem or ""


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as created:
        for name, content in members:
            created.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return file.getvalue()


def legacy(state: bytes) -> bytes:
    """PyTorch's older form: five pickles, then the tensors."""
    pickles = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    return b"".join([*pickles, state, pickle.dumps(["0"], 2), struct.pack("<q", 4), bytes(16)])


def tensor(*, prefix: bytes = b"\x80\x02") -> bytes:
    """What torch.save writes for {"w": tensor}, in its opcodes."""
    return (
        prefix + b"ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wq\x02"
        b"ctorch._utils\n_rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04"
        b"ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x000q\x06X\x03\x00\x00\x00cpuq\x07K\x04tq\x08Q"
        b"K\x00K\x04\x85q\tK\x01\x85q\n\x89h\x00)Rq\x0btq\x0cRq\rs."
    )


WEIGHTS = {
    "PyTorch's ZIP": archive(("x/data.pkl", tensor()), ("x/data/0", bytes(16)), ("x/version", b"3")),
    "PyTorch's ZIP with a pickle as a tensor": archive(
        ("x/data.pkl", tensor()), ("x/data/0", b"cos\nsystem\n.")
    ),
    "PyTorch's older form": legacy(tensor()),
    "TorchScript": archive(
        ("x/data.pkl", b"\x80\x02c__torch__.net.Model\nModel\n)\x81."),
        ("x/constants.pkl", pickle.dumps((), 2)),
    ),
    **{f"plain values, protocol {n}": pickle.dumps({"a": [1, 2.5, None, "text"]}, n) for n in range(6)},
    **{f"ordered, protocol {n}": pickle.dumps(OrderedDict(a=1), n) for n in range(6)},
    "numpy": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
    "not a pickle": random.Random(5).randbytes(5000),
    "zeros after the first bytes": b"\x01" + bytes(5000),
}
"""Files that hold weights, or no pickle at all."""

CODE = {
    **{f"REDUCE, protocol {n}": pickle.dumps({"a": 1, "b": Call(os.system, "id")}, n) for n in range(6)},
    **{f"eval, protocol {n}": pickle.dumps([Call(builtins.eval, "1")], n) for n in range(6)},
    "INST": b"(S'id'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'id'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x85R.",
    "STACK_GLOBAL from the memo": (
        b"\x80\x04\x8c\x06system\x94\x8c\x02os\x940\x30h\x01h\x00\x93\x8c\x02id\x85R."
    ),
    "STACK_GLOBAL with strings between": (
        b"\x80\x04\x8c\x02os\x8c\x0bcollections0\x8c\x06system\x8c\x0bOrderedDict0\x93\x8c\x02id\x85R."
    ),
    "STACK_GLOBAL of DUP": b"\x80\x04\x8c\x02os2\x93.",
    "STACK_GLOBAL of a memo that was overwritten": (
        b"\x80\x04\x8c\x0bcollectionsq\x000\x8c\x02osq\x000h\x00\x8c\x06system\x93\x8c\x02id\x85R."
    ),
    "STACK_GLOBAL of a long string": (
        b"\x80\x04X" + struct.pack("<I", 70_000) + b"o" * 70_000 + b"\x8c\x01x\x93."
    ),
    "a dotted name": b"\x80\x04\x8c\x05torch\x8c\x13_utils.os.system.rm\x93.",
    "in an allowed call": b"\x80\x02ccollections\nOrderedDict\n(cos\nsystem\nlR.",
    "then damaged": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R\xff\xff",
    "without PROTO, then damaged": b"cos\nsystem\n(S'id'\ntR\xff",
    "a string that pickletools refuses": b"S'\xff\xfe'\n0I0x10\n0cos\nsystem\n(S'id'\ntR.",
    "behind a long line": b"V" + b"a" * 200_000 + b"\n0cos\nsystem\n.",
    "the older form's first pickle": pickle.dumps(Call(os.system, "id"), 2) + legacy(tensor()),
    "the older form's state": legacy(pickle.dumps(Call(os.system, "id"), 2)),
    "the older form, its magic written as text": (
        b"L%dL\n." % MAGIC + pickle.dumps(1001, 0) + pickle.dumps({}, 0) + b"cos\nsystem\n."
    ),
    "in a ZIP": archive(("x/data.pkl", pickle.dumps(Call(os.system, "id"), 2))),
    "in a packed ZIP": archive(
        ("x/data.pkl", pickle.dumps(Call(os.system, "id"), 2)), method=zipfile.ZIP_DEFLATED
    ),
    "a name in capitals": archive(("x/data.pkl", tensor()), ("x/DATA.PKL", b"cos\nsystem\n.")),
    "a ZIP in a ZIP": archive(
        ("x/data.pkl", tensor()), ("x/more.zip", archive(("y/data.pkl", b"cos\nsystem\n.")))
    ),
    "a pickle among other pickles": archive(("x/data.pkl", tensor()), ("x/extra.pkl", b"cos\nsystem\n.")),
}  # fmt: skip
"""Files that would run something, or might."""


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_pass(name: str):
    assert problem(WEIGHTS[name]) == ""


@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt", ".bin", ".pkl"])
@pytest.mark.parametrize("name", CODE)
def test_code_is_named(name: str, ending: str):
    """The sentence has the import, and the registry can allow it."""
    sentence = problem(CODE[name], f"x{ending}")

    assert "it holds pickled code beyond what weights need: " in sentence
    assert any(word in sentence for word in ("system", "eval", "computed", "os.os")), sentence
    assert problem(CODE[name], f"x{ending}", allow_pickle=True) == ""


UNREADABLE = {
    "cut": (pickle.dumps({"a": "b" * 300}, 4)[:200], "its end is missing"),
    "an extension code": (b"\x80\x02\x82\x01.", "damaged"),
    "too many opcodes": (b"\x80\x02" + b"N0" * (MOST_OPCODES // 2 + 1) + b"N.", "too long"),
    "ZIPs in ZIPs": (
        archive(("data.pkl", archive(("b.pkl", archive(("c.pkl", archive(("d.pkl", b"N."))))))), ),
        "cannot be read",
    ),
    "a ZIP whose member is not what its sum says": (
        archive(("x/data.pkl", b"N" * 40 + b".")).replace(b"N" * 40, b"M" * 40),
        "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_looked_through_is_refused(name: str):
    content, says = UNREADABLE[name]

    assert says in problem(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_values_alone_pass(value: Any, protocol: int):
    """Any value, in any protocol: no import beyond weights is found in it."""
    content = pickle.dumps({"ordered": OrderedDict(a=value)}, protocol)

    assert "beyond" not in problem(content)
    assert problem(archive(("x/data.pkl", content))) == ""


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    value=VALUES,
    function=st.sampled_from([os.system, builtins.eval, builtins.getattr, posixpath.join]),
    protocol=st.integers(0, 5),
    first=st.booleans(),
)
def test_a_call_among_values_is_found(value: Any, function: Any, protocol: int, first: bool):
    """Wherever it stands, in any protocol, bare or in an archive."""
    call = Call(function, "x")
    content = pickle.dumps([call, value] if first else [value, {"k": call}], protocol)

    for form in (content, archive(("x/data.pkl", content)), legacy(content)):
        found = pickle_problem(io.BytesIO(form))
        assert found is not None
        assert f".{function.__name__}" in found.sentence


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"("]))
def test_any_bytes_give_an_answer(content: bytes, prefix: bytes):
    """No bytes raise anything."""
    problem(prefix + content)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data(), protocol=st.integers(0, 5))
def test_a_changed_byte_raises_nothing(data: st.DataObject, protocol: int):
    """A pickle or an archive with some bytes changed is judged without an exception."""
    content = bytearray(pickle.dumps(OrderedDict(a=[1, "x", b"y" * 20]), protocol))
    if data.draw(st.booleans()):
        content = bytearray(archive(("x/data.pkl", bytes(content))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    problem(bytes(content))


CODE_FILE = archive(("x/data.pkl", pickle.dumps(Call(os.system, "id"), 2)), ("x/data/0", bytes(3000)))


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("transport", ["job", "s3"])
def test_a_fetched_file_with_code_needs_the_registrys_word(
    emu: Emulator, tmp_path: Path, transport: str, pinned: bool
):
    """Refused before it has its name; once allowed, the pinned one is not fetched again."""
    served = serve(emu, name="evil.pth", content=CODE_FILE)
    path = "models/loras/evil.pth"
    required = served.wanted(path) if pinned else {"path": path, "source": served.source}
    with Http() as http:
        shelf = Shelf(emu, http, tmp_path / "machine")
        store = folder(tmp_path / "volume", sources_of(emu, http)) if transport == "job" else shelf.store()
        root = tmp_path / "volume" if transport == "job" else shelf.folder
        for _ in range(2):
            with pytest.raises(
                ComfyformError, match=r"beyond what weights need: (posix|nt)\.system"
            ) as caught:
                store.provision([required])
            assert "allow_pickle: true" in str(caught.value.hint)
            assert not (root / path).exists()
        requested = len(emu.requests("GET", "/hub/files/evil.pth"))

        (done,) = store.provision([{**required, "allow_pickle": True}])

        assert done["sha256"] == hashlib.sha256(CODE_FILE).hexdigest()
        assert (root / path).read_bytes() == CODE_FILE
        assert (len(emu.requests("GET", "/hub/files/evil.pth")) == requested) == pinned


@pytest.mark.slow
def test_a_sent_file_with_code_needs_the_registrys_word(emu: Emulator, tmp_path: Path):
    """The same for a file of this machine."""
    with Http() as http:
        shelf = Shelf(emu, http, tmp_path)
        put(tmp_path / "models/loras/evil.pth", CODE_FILE)
        required = shelf.wanted(path="models/loras/evil.pth", source="local:loras/evil.pth")
        with pytest.raises(ComfyformError, match=r"is not sent: .*\.system") as caught:
            shelf.store().provision([required])
        assert "allow_pickle: true" in str(caught.value.hint)
        assert shelf.files() == []

        (done,) = shelf.store().provision([{**required, "allow_pickle": True}])

        assert done["status"] == "fetched"
        assert (shelf.folder / "models/loras/evil.pth").read_bytes() == CODE_FILE
