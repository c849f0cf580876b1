"""What comes in: ids, addresses, texts and values are taken or named, whatever they are made of."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidArgument
from backend.validation.checks import (
    address_problem,
    check_id,
    data_address_bytes,
    file_address_path,
    is_id,
    json_problems,
    text_problem,
)
from backend.validation.printable import MAX_SHOWN, quoted, shortened, shown, visible, without_secrets

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ANY_TEXT,
    st.binary(),
    st.just(Path("x")),
    st.just({1}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(SCALARS.filter(lambda key: key != {1}), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("value", ["8f3c-u1", "20260101T000000000000-deadbeef", "a", "A_b-9", "x" * 128])
def test_an_id_is_a_plain_name(value):
    """RunPod's, ComfyUI's and the journal's own."""
    assert check_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "../health",
        "a/b",
        "a\\b",
        "..",
        "x?y=1",
        "x#y",
        "x\ny",
        "x\0",
        "é",
        "x" * 129,
        "%2e",
        None,
        5,
        "a b",
    ],
)
def test_what_could_be_a_path_or_an_address_is_not_an_id(value):
    """Refused with the value in the sentence, shortened and escaped."""
    with pytest.raises(InvalidArgument, match="is not a job id") as caught:
        check_id(value)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(ANY_TEXT)
def test_an_id_means_nothing_to_a_path_or_a_url(text):
    """Whatever passes is one component, and needs no quoting."""
    if is_id(text):
        assert Path("/root", text).parent == Path("/root")
        assert text.isascii()
        assert not set(text) & set("./\\?#%:&=")


@pytest.mark.slow
@given(VALUES)
def test_a_value_without_problems_can_be_sent(value):
    """And one with problems says where; nothing raises."""
    problems = list(json_problems(value))

    if not problems:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert all(str(problem).isprintable() or "\n" in str(problem) for problem in problems) or problems


def test_each_problem_names_its_place():
    """All at once, with keys and positions."""
    graph = {"3": {"inputs": {"seed": math.inf, "name": ["a", b"x"], "n": 10**400}}}

    assert sorted(map(str, json_problems(graph))) == [
        "3.inputs.n is an integer too large for JSON",
        "3.inputs.name[1] is a value of type bytes, which JSON does not have",
        "3.inputs.seed is inf, which JSON does not have",
    ]


def test_a_value_that_holds_itself_is_too_deep():
    """It ends, and says so."""
    value: list[object] = []
    value.append(value)

    assert ["nested more than" in problem.sentence for problem in json_problems(value)] == [True]


@pytest.mark.parametrize("url", ["https://x", "HTTP://X/a?b=c", "https://[::1]:8/x", "https://ä.example/ü"])
def test_an_address_is_http_or_https_in_any_case(url):
    assert address_problem(url) is None


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://x", "https://", "https://:80", "https://x:0/", "https://[x", "https://x:99999",
     "https://x/a b", "https://x/\ud83d", "https://x/\0", "https://" + "x" * 9000, "data:,x", "file:///x"],
)  # fmt: skip
def test_what_is_not_an_address_is_named(url):
    assert address_problem(url)


@given(ANY_TEXT)
def test_no_text_breaks_a_check(text):
    """Every check ends in a verdict, and what is shown can be printed and written."""
    for prefix in ("", "https://", "file://", "data:", "https://[", "file://["):
        address_problem(prefix + text)
        file_address_path(prefix + text)
        shown(prefix + text)
        without_secrets(prefix + text)
        with contextlib.suppress(ValueError):
            data_address_bytes(prefix + text)
    assert visible(text, lines=False).isprintable()
    assert quoted(text).isprintable()
    if text_problem(text) is None:
        text.encode()


@pytest.mark.slow
@given(VALUES)
def test_any_value_can_be_quoted(value):
    assert len(quoted(value)) < 1000


def test_a_file_address_is_the_path_it_names(tmp_path):
    """Of this machine only."""
    file = tmp_path / "a b ü.png"

    assert file_address_path(file.as_uri()) == file
    assert file_address_path(f"FILE://localhost{tmp_path}") == tmp_path
    assert file_address_path("file:///C:/Users/a.png") == Path("C:/Users/a.png")
    assert file_address_path("file://server/share/a.png") is None
    assert file_address_path("https://x/a.png") is None


def test_a_data_address_is_its_bytes():
    assert data_address_bytes("data:image/png;base64,aGk=") == ("image/png", b"hi")
    assert data_address_bytes("data:,a%20b") == ("", b"a b")
    with pytest.raises(ValueError, match="base64 is broken"):
        data_address_bytes("data:image/png;base64,a*")


def test_addresses_in_texts_lose_what_may_be_a_secret():
    """Signature, fragment, password; and bytes of a data: URI."""
    text = "get https://u:pw@h/a.png?sig=SECRET#x and data:image/png;base64," + "A" * 100

    assert without_secrets(text) == "get https://h/a.png and data:image/png;base64,…"


def test_a_long_text_keeps_its_start_and_its_end():
    text = "start" + "x" * 2_000_000 + "end"

    short = shortened(text)

    assert len(short) < MAX_SHOWN + 50
    assert (short[:5], short[-3:], "characters left out" in short) == ("start", "end", True)
