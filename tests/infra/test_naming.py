"""Whose an object at RunPod is, by its whole name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.naming import EnvironmentNames, is_object, object_name, stack_of

NAMES = EnvironmentNames().all()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("p-a-comfy-worker", True),
        ("p-a-comfy-worker-0a1b2c", True),
        ("p-a-b-comfy-worker", False),
        ("p-a-comfy-worker-b", False),
        ("p-a-comfy-worker-0a1b2c-x", False),
        ("p-a-comfy-", False),
        ("p-a-lost", False),
        ("xp-a-comfy-worker", False),
    ],
)
def test_an_object_is_known_by_its_whole_name(name: str, ours: bool) -> None:
    """With or without the suffix of one creation; a name that only begins alike is somebody else's."""
    assert is_object(name, "p", "a", NAMES) is ours


word = st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,4}){0,2}", fullmatch=True)


@pytest.mark.slow
@given(project=word, stack=word, logical=st.sampled_from(NAMES), suffix=st.sampled_from(["", "-09afcd"]))
def test_every_name_that_a_stack_makes_is_its_own(
    project: str, stack: str, logical: str, suffix: str
) -> None:
    """Whatever dashes a project and a stack have in their names."""
    name = object_name(project, stack, logical) + suffix

    assert is_object(name, project, stack, NAMES)
    assert stack_of(name, [(project, stack)]) == (project, stack)


def test_the_longest_stack_that_fits_has_the_object() -> None:
    """`a` and `a-b`, `p` and `p-x`: each object is of one stack."""
    stacks = [("p", "a"), ("p", "a-b"), ("p-x", "a")]

    assert stack_of("p-a-comfy-volume", stacks) == ("p", "a")
    assert stack_of("p-a-b-comfy-volume", stacks) == ("p", "a-b")
    assert stack_of("p-x-a-comfy-volume", stacks) == ("p-x", "a")
    assert stack_of("p-ab-comfy-volume", stacks) is None
