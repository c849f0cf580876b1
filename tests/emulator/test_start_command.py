"""What a container runs: the image's command and the endpoint's `args`, as JSON or as words of a shell."""

from __future__ import annotations

import pytest

from emulator.workers.start_command import BadCommand, container_command, is_base_image
from tests.support.emulation import Emulator
from tests.support.worker_endpoint import Studio, until

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "args", "command"),
    [
        (None, '{"cmd": ["python3", "-c", "print(1)"]}', ["python3", "-c", "print(1)"]),
        (None, "python3 -c 'print(1)'", ["python3", "-c", "print(1)"]),
        ("serve --fast", "", ["serve", "--fast"]),
        ("serve --fast", "more", ["serve", "--fast", "more"]),
        ("serve", '{"entrypoint": ["sh"], "cmd": ["-c", "true"]}', ["sh", "-c", "true"]),
        ("serve", '{"cmd": []}', ["serve"]),
    ],
)
def test_args_are_decoded(image: str | None, args: str, command: list[str]) -> None:
    """`cmd` follows the entrypoint; `entrypoint` replaces the image's."""
    assert container_command(image, args) == command


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ("", "the endpoint has no args"),
        ("{", "begins like JSON"),
        ('{"cmd": "x"}', "lists of texts, not cmd"),
        ('{"command": ["x"]}', "lists of texts, not command"),
        ("'x", "cannot be split"),
    ],
)
def test_args_that_nothing_can_run_are_refused(args: str, problem: str) -> None:
    """The reason names what is wrong."""
    with pytest.raises(BadCommand, match=problem):
        container_command(None, args)


@pytest.mark.parametrize(
    ("image", "is_base"),
    [
        ("python", True),
        ("python:3.12.12-slim-bookworm" + DIGEST, True),
        ("docker.io/library/python:3.12", True),
        ("runpod/pytorch:1.0.2-cu1281" + DIGEST, True),
        ("you/python:3.12", False),
        ("pythonic", False),
    ],
)
def test_base_images_are_known_by_their_repository(image: str, is_base: bool) -> None:
    """Tag and digest don't matter."""
    assert is_base_image(image) == is_base


@pytest.mark.slow
def test_a_base_image_without_args_says_why_it_has_no_worker(emu: Emulator) -> None:
    """The worker's log names the reason, as the platform's log does."""
    studio = Studio(emu, "python:3.12")
    studio.submit(action="health")

    events = until(lambda: [e for w in emu.state()["workers"] for e in w["events"] if "error" in e])
    assert "the endpoint has no args" in events[0]
