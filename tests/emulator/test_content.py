"""Contents made as they are read: the same bytes from any offset, and files that are what they seem."""

import hashlib
import json
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.files.content import BLOCK_BYTES, Seeded, digest, model_file

SIZE = 2 * BLOCK_BYTES + 12_345
WHOLE = Seeded("key", SIZE, b"a prefix").read(0, SIZE)


@settings(max_examples=200)
@given(start=st.integers(0, SIZE), length=st.integers(0, SIZE))
def test_a_part_is_what_the_whole_has_there(start, length):
    """Any part reads the same as from the beginning, across blocks, prefix and end."""
    content = Seeded("key", SIZE, b"a prefix")

    assert content.read(start, length) == WHOLE[start : start + length]


def test_blocks_differ_and_keys_differ():
    """A part that lands at another block's place is noticed, and so is another file."""
    blocks = {WHOLE[start : start + BLOCK_BYTES] for start in (0, BLOCK_BYTES)}

    assert len(blocks) == 2
    assert Seeded("other", SIZE).read(100, 50) != WHOLE[100:150]


def test_the_digest_is_that_of_the_bytes():
    """Hashing in pieces gives the hash of the whole."""
    assert digest(Seeded("key", SIZE, b"a prefix")) == hashlib.sha256(WHOLE).hexdigest()


@given(size=st.integers(1, 3_000_000))
def test_a_safetensors_file_is_a_valid_one(size):
    """The header is JSON of the length that it says, and its tensors cover the rest exactly."""
    content = model_file("repo/x.safetensors", "x.safetensors", size, "stable-diffusion-v1")
    (length,) = struct.unpack("<Q", content.read(0, 8))
    header = json.loads(content.read(8, length))
    spans = sorted(one["data_offsets"] for name, one in header.items() if name != "__metadata__")

    assert header["__metadata__"]["modelspec.architecture"] == "stable-diffusion-v1"
    assert spans[0][0] == 0
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert 8 + length + spans[-1][1] == content.size
    assert content.size == max(size, 8 + length + 8)
