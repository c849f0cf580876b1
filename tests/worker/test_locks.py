"""The images' locks install on the image's Python, judged from the facts that ``./inv lock`` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock_proof, upstream_requirements, worker_locks
from worker.sources import read, sources

ROOT = Path(__file__).resolve().parents[2]
FACTS: lock_proof.Facts = {
    "speech": {
        "version": "2.0",
        "file": "speech-2.0-py3-none-any.whl",
        "requires_python": ">=3.10",
        "requires": ["arrays<3"],
    },
    "arrays": {
        "version": "2.5",
        "file": "arrays-2.5-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "requires_python": ">=3.11,<3.15",
        "requires": [],
    },
}
PINS = {"speech": "2.0", "arrays": "2.5"}


def judged(changes: dict[str, dict[str, object]], pins: dict[str, str] = PINS) -> list[str]:
    """Judge the two sound packages with these facts changed."""
    facts = {name: fact | changes.get(name, {}) for name, fact in FACTS.items()}
    return lock_proof.problems(pins, facts, requirements=["speech[fast]>=1"], source_builds=["built"])


def test_the_locks_install_on_the_image():
    """Python's bounds, the packages' own bounds and the files' platforms hold for every pin."""
    assert worker_locks.check(json.loads(worker_locks.PROOF.read_text())) == []


def test_sound_facts_have_no_problems():
    assert judged({}) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arrays": {"requires_python": ">=3.6,<3.10"}}, "arrays 2.5 requires Python >=3.6,<3.10"),
        ({"speech": {"requires": ["arrays<2.5"]}}, "speech 2.0 requires arrays<2.5, the lock has 2.5"),
        ({"speech": {"requires": ["angle"]}}, "speech 2.0 requires angle, which the lock does not have"),
        ({"arrays": {"file": "arrays-2.5.tar.gz"}}, "arrays 2.5 has no wheel"),
        (
            {"arrays": {"file": "arrays-2.5-cp312-cp312-manylinux_2_39_x86_64.whl"}},
            "does not fit the image's platform",
        ),
        ({"arrays": {"file": "arrays-2.5-cp313-cp313-manylinux_2_28_x86_64.whl"}}, "does not fit"),
        ({"arrays": {"file": "arrays-2.5-cp312-cp312-manylinux_2_28_aarch64.whl"}}, "does not fit"),
        ({"arrays": {"version": "2.4"}}, "the lock has 2.5, the facts are about 2.4"),
    ],
)
def test_each_way_that_a_lock_fails_is_named(changes, problem):
    """One package changed at a time: exactly one problem, which says what is wrong with what."""
    (found,) = judged(changes)
    assert problem in found


def test_a_lock_without_facts_and_facts_without_a_pin_are_problems():
    assert "no facts about it" in judged({}, {**PINS, "new": "1"})[0]
    assert any("not in the lock" in line for line in judged({}, {"speech": "2.0"}))


def test_markers_and_extras_choose_what_must_hold():
    """Only what applies on the image: CPython 3.12 on Linux, with the extras that are asked for."""
    requires = {"speech": ['wave; extra == "fast"', 'old; python_version < "3"', "arrays[io]"]}

    extras = lock_proof.active_extras(["speech[fast]"], requires)

    assert extras["speech"] == {"fast"}
    assert extras["arrays"] == {"io"}
    assert lock_proof.applying(requires["speech"], extras["speech"]) == ["arrays[io]", "wave"]
    assert lock_proof.applying(requires["speech"]) == ["arrays[io]"]


def test_upstream_requirements_are_those_of_the_pinned_sources():
    """Each pinned source has its block, written exactly as ``./inv lock`` writes it."""
    pins = read()
    text = upstream_requirements.UPSTREAM.read_text()
    found = upstream_requirements.blocks(text)

    assert list(found) == [f"{source.name} {source.commit}" for source in sources(pins)]
    assert upstream_requirements.rendered(found, pins["packages"]["left_out"]) == text


def test_what_comfyui_and_its_packs_require_is_locked_or_left_out_with_a_reason():
    """A list copied by hand once missed a package, and a core module of ComfyUI did not import."""
    left_out = read()["packages"]["left_out"]
    locked = lock_proof.pins(worker_locks.environments()["comfyui"].text())
    blocks = upstream_requirements.blocks(upstream_requirements.UPSTREAM.read_text())
    required = {canonicalize_name(Requirement(line).name) for lines in blocks.values() for line in lines}

    assert required - set(locked) - set(left_out) == set()
    assert set(left_out) & set(locked) == set()
    assert all(re.fullmatch(r"[0-9a-f]{40}", source.commit) for source in sources(read()))


def test_a_checkout_of_another_version_is_refused(tmp_path):
    """The requirements of 0.29 must not be taken for those of the pinned version."""
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.29.0"\n')
    (tmp_path / "requirements.txt").write_text("torch\n")

    with pytest.raises(SystemExit, match=r"is not ComfyUI 0\.33\.0"):
        upstream_requirements.stated(sources(read())[0], "0.33.0", tmp_path)


def test_requirements_are_read_in_the_standard_spelling():
    text = "torch\n# none essential:\nnumpy >=1.25.0  # arrays\n\nPyOpenGL>=3.1.8\n"

    assert upstream_requirements.normalized(text) == ["numpy>=1.25.0", "PyOpenGL>=3.1.8", "torch"]
