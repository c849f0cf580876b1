"""Foreign JSON: read or refused by one error, and taken apart without one."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidJson
from backend.validation.json_reader import (
    as_count,
    as_list,
    as_number,
    as_object,
    as_sha256,
    as_text,
    as_texts,
    error_in,
    read_json,
    read_json_file,
    shape_of,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ANY_TEXT, inner, max_size=5),
    max_leaves=25,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    """By a value or by InvalidJson; what is read can be written."""
    try:
        value = read_json(content)
    except InvalidJson:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.slow
@given(JSON)
def test_any_value_that_python_writes_can_be_written_again(value):
    """Without NaN, infinity and half characters."""
    read = read_json(json.dumps(value))

    json.dumps(read, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.slow
@given(JSON)
def test_no_value_breaks_a_helper(value):
    """Each gives its type."""
    as_object(value), as_list(value), as_text(value), as_number(value), as_count(value), as_sha256(value)
    error_in(value)
    assert all(isinstance(text, str) for text in as_texts(value))
    assert len(shape_of(value)) < 1500


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 300_000,
        b'{"a":' * 300_000,
        b"[" * 150 + b"]" * 150,
        b"1" * 5000 + b"x",
        b"",
        b"\xff\xfe",
        b"{",
        b"nul",
    ],
    ids=["brackets", "braces", "closed", "digits", "nothing", "a mark alone", "half", "a word"],
)
def test_what_cannot_be_read_is_one_error(content):
    with pytest.raises(InvalidJson):
        read_json(content)


def test_a_document_above_its_bound_is_not_parsed(tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(b"[" + b"1," * 100 + b"1]")

    with pytest.raises(InvalidJson, match="at most 100 are read"):
        read_json_file(file, max_bytes=100)


def test_numbers_that_nothing_can_hold_are_unknown():
    assert read_json(b'{"a": NaN, "b": 1e400, "c": -Infinity, "d": 1.5, "e": %s}' % (b"1" * 400)) == {
        "a": None, "b": None, "c": None, "d": 1.5, "e": None,
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_document_may_have_a_byte_order_mark(encoding):
    """PowerShell writes UTF-8 with one, or UTF-16."""
    assert read_json('{"ü": 1}'.encode(encoding)) == {"ü": 1}
    assert read_json(codecs.BOM_UTF16_LE + '{"ü": 1}'.encode("utf-16-le")) == {"ü": 1}


@pytest.mark.parametrize("content", [b'["a\\ud83d"]', b'["a\xed\xa0\xbd"]', b'{"\\ud83d": 1}'])
def test_half_a_character_is_replaced(content):
    """It could be written nowhere: no file name, no request, no log."""
    json.dumps(read_json(content), ensure_ascii=False).encode()
    assert "\ufffd" in str(read_json(content))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"error": "boom"}, "boom"),
        ({"output": {"error": "boom"}}, "boom"),
        ({"errors": ["boom"]}, ["boom"]),
        ({"error_message": "boom"}, "boom"),
        ({"result": {"error_message": "boom"}}, "boom"),
        ({"status": "error", "message": "boom"}, "boom"),
        ({"status": "failed"}, "no reason given"),
        ({"error": None, "status": "success"}, None),
        ({"error": "", "files": []}, None),
        (["error"], None),
        ("error", None),
    ],
)
def test_an_error_is_found_wherever_it_stands(value, error):
    assert error_in(value) == error


def test_a_shape_names_keys_and_types_and_no_content():
    value = {"files": [1, 2], "token": "SECRET", "n": None}

    assert shape_of(value) == "an object with files (list of 2), token (text of 6 characters), n (null)"
