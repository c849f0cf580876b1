"""Compare: one action a file with its reason, whatever is wanted, here and there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.contract import FileRecord
from backend.errors import InvalidArgument
from ops.console.console import Console
from ops.console.model_tables import show_plan, sums
from ops.models.inventory import Inventory
from ops.registry.load import Model, ModelFile, Registry
from ops.sync.plan import Plan, compare

A, B = "aa" * 32, "bb" * 32


def file(path: str, *, size: int | None = 10, sha256: str | None = A, source: str = "hf:o/n:f") -> ModelFile:
    return ModelFile(path=path, volume_path=f"models/{path}", source=source, size_bytes=size, sha256=sha256)


def registry(*required: ModelFile, optional: tuple[ModelFile, ...] = ()) -> Registry:
    return Registry(
        path=Path("r.yaml"),
        required=(Model(name="req", files=required),) if required else (),
        optional=(Model(name="opt", files=optional, required=False),) if optional else (),
    )


def held(path: str, size: int = 10, sha256: str | None = A, how: Any = "recorded") -> FileRecord:
    return FileRecord(path=path, size_bytes=size, sha256=sha256, how=how if sha256 else "unknown")


CASES: dict[str, tuple[ModelFile, FileRecord | None, str, str]] = {
    "missing": (file("vae/x"), None, "fetch", "file not found"),
    "only here": (file("vae/x", source="local:vae/x"), None, "upload", "file not found"),
    "recorded": (file("vae/x"), held("models/vae/x"), "keep", "size and recorded sha256 match"),
    "hashed": (file("vae/x"), held("models/vae/x", how="hashed"), "keep", "size and sha256 match"),
    "too short": (file("vae/x"), held("models/vae/x", 9), "replace", "size is 9 bytes, expected 10"),
    "other bytes": (
        file("vae/x"),
        held("models/vae/x", sha256=B),
        "replace",
        "sha256 is bbbbbbbbbbbb…, expected aaaaaaaaaaaa…",
    ),
    "other bytes, only here": (
        file("vae/x", source="local:vae/x"),
        held("models/vae/x", sha256=B),
        "upload",
        "sha256 is bbbbbbbbbbbb…, expected aaaaaaaaaaaa…",
    ),
    "nobody recorded it": (
        file("vae/x"),
        held("models/vae/x", sha256=None),
        "unknown",
        "size matches; checksum unknown",
    ),
    "no hash is wanted": (
        file("vae/x", sha256=None),
        held("models/vae/x", sha256=None),
        "keep",
        "present; no checksum to verify against",
    ),
    "nothing is known": (
        file("vae/x", size=None, sha256=None),
        held("models/vae/x", sha256=None),
        "unknown",
        "expected size and checksum unknown, and no checksum recorded",
    ),
    "under an alias": (
        file("text_encoders/x"),
        held("models/clip/x"),
        "keep",
        "size and recorded sha256 match, as models/clip/x",
    ),
}


@pytest.mark.parametrize(("required", "there", "kind", "reason"), CASES.values(), ids=CASES.keys())
def test_each_case_has_its_action_and_reason(
    required: ModelFile, there: FileRecord | None, kind: str, reason: str
):
    """The table of what can be, and what is done about it."""
    plan = compare(registry(required), Inventory.of([there] if there else []))

    (action,) = plan.actions
    assert (action.kind, action.reason) == (kind, reason)


def test_the_summary_counts_by_what_is_wrong():
    """Its keys are the ones that scripts read; bytes, seconds and dollars come from the sizes."""
    required = registry(
        file("vae/missing", size=4_000_000_000),
        file("vae/short"),
        file("vae/wrong"),
        file("vae/unverified"),
        optional=(file("loras/optional"),),
    )
    there = Inventory.of(
        [
            held("models/vae/short", 9),
            held("models/vae/wrong", sha256=B),
            held("models/vae/unverified", sha256=None),
            held("models/loras/extra", 1_000_000_000),
        ]
    )
    here = Inventory.of([held("models/vae/wrong")])

    summary = compare(required, there, here).to_json()["summary"]

    assert summary == {
        "missing_on_remote": ["models/vae/missing"],
        "missing_locally": ["models/vae/missing", "models/vae/short", "models/vae/unverified"],
        "wrong_size": ["models/vae/short"],
        "wrong_hash": ["models/vae/wrong"],
        "unverified": ["models/vae/unverified"],
        "extra_on_remote": ["models/loras/extra"],
        "unknown_size": [],
        "pickled": [],
        "elsewhere": [],
        "bytes": 4_000_000_020,
        "freed_bytes": 0,
        "lacking_bytes": 0,
        "seconds": 20.0,
        "dollars_per_month": 0.35,
    }


@pytest.mark.parametrize(
    ("free", "lacking"),
    [(None, 0), (60, 0), (59, 1), (0, 60)],
    ids=["unknown", "fits", "a byte short", "full"],
)
def test_a_plan_that_does_not_fit_says_so(free: int | None, lacking: int, capsys: pytest.CaptureFixture[str]):
    """Files that are replaced need the room of one of them; what is removed gives its own."""
    required = registry(
        file("vae/new", size=50), file("vae/a", size=20), file("vae/b", size=30), file("vae/c", size=10)
    )
    there = Inventory.of(
        [
            held("models/vae/a", 1),
            held("models/vae/b", 1),
            held("models/vae/c", 10),
            held("models/loras/extra", 20),
        ],
        free_bytes=free,
    )

    plan = compare(required, there, prune=True)
    show_plan(Console(), plan)

    assert plan.summary.lacking_bytes == lacking
    assert Plan.from_json(plan.to_json()) == plan
    assert ("too little for this plan" in capsys.readouterr().err) == bool(lacking)


def test_optional_models_are_asked_for():
    """They are fetched only when asked for, looked after when they are there, and never extra."""
    required = registry(optional=(file("loras/x"), file("loras/y")))
    there = Inventory.of([held("models/loras/y", sha256=B)])

    quiet = compare(required, there)
    requested = compare(required, there, optional=True)

    assert [(action.path, action.kind) for action in quiet.actions] == [("models/loras/y", "replace")]
    assert [(action.path, action.kind) for action in requested.actions] == [
        ("models/loras/x", "fetch"),
        ("models/loras/y", "replace"),
    ]


def test_extra_files_stay_unless_they_are_pruned():
    """What nothing refers to is named, and goes only when that is asked for."""
    there = Inventory.of([held("models/loras/extra")])

    (remaining,) = compare(registry(), there).actions
    (pruned,) = compare(registry(), there, prune=True).actions

    assert remaining.kind == "keep"
    assert remaining.reason == "nothing in the registry refers to it, and it was not asked to be removed"
    assert (pruned.kind, pruned.reason) == ("remove", "nothing in the registry refers to it")


def test_a_plan_can_be_narrowed():
    """To models and to paths; a name that is neither is an error that says what there is."""
    plan = compare(registry(file("vae/x"), file("vae/y")), Inventory())

    assert [action.path for action in plan.only({"models/vae/y"}).actions] == ["models/vae/y"]
    assert [action.path for action in plan.only({"vae/y"}).actions] == ["models/vae/y"]
    assert plan.only({"req"}) == plan
    with pytest.raises(InvalidArgument, match="Not in this plan: nothing"):
        plan.only({"nothing"})


PATHS = st.sampled_from(["vae/x", "clip/x", "text_encoders/x", "unet/y", "diffusion_models/y", "sonic/z"])
FILES = st.builds(
    file,
    PATHS,
    size=st.sampled_from([None, 9, 10]),
    sha256=st.sampled_from([None, A, B]),
    source=st.sampled_from(["hf:o/n:f", "local:vae/x"]),
)
HELD = st.builds(held, PATHS.map("models/{}".format), st.sampled_from([9, 10]), st.sampled_from([None, A, B]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(FILES, max_size=5), st.lists(FILES, max_size=3), st.lists(HELD, max_size=6), st.booleans())
def test_every_plan_holds_its_laws(
    required: list[ModelFile], optional: list[ModelFile], there: list[FileRecord], prune: bool
):
    """One action a path, sorted, with a reason; JSON brings it back; nothing wanted is ever removed."""
    expected = registry(*required, optional=tuple(optional))
    plan = compare(expected, Inventory.of(there), Inventory.of(there), optional=True, prune=prune)
    named = [action.path for action in plan.actions]

    assert named == sorted(set(named))
    assert all(action.reason for action in plan.actions)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert {file.volume_path for file in expected.files(required_only=False)} <= set(named)
    assert all(not action.model for action in plan.actions if action.kind == "remove")


@pytest.mark.parametrize(
    "value", [{}, {"actions": [{}]}, {"actions": [{"path": "a", "kind": "b", "reason": ""}]}]
)
def test_other_json_is_no_plan(value: dict[str, Any]):
    """A file that is something else is refused."""
    with pytest.raises(InvalidArgument, match="This is not a plan"):
        Plan.from_json(value)


def test_a_sum_says_what_it_does_not_know():
    """A file of unknown size is no file of 0 B, and an empty registry wants nothing."""
    unsized = compare(registry(file("vae/a", size=None)), Inventory())
    both = compare(
        registry(file("vae/a", size=None), file("vae/b", size=2_000_000_000)),
        Inventory(),
    )
    nothing = compare(registry(), Inventory.of([held("models/loras/extra")]))

    assert unsized.summary.unknown_size == ("models/vae/a",)
    assert sums(unsized) == "1 to fetch: 1 of unknown size; storage $0.00 a month or more."
    assert sums(both) == (
        "2 to fetch: 2.00 GB and 1 of unknown size, about 10 s or more; storage $0.14 a month or more."
    )
    assert sums(nothing).startswith(
        "Nothing to do: the registry names no missing file, 1 on the volume are not in the registry"
    )


def test_a_file_without_a_hash_is_told_before_it_is_fetched(capsys: pytest.CaptureFixture[str]):
    """Any bytes would do for it; a lock may know better."""
    show_plan(Console(), compare(registry(file("vae/a", sha256=None), file("vae/b")), Inventory()))

    assert capsys.readouterr().err.splitlines()[-1] == (
        "1 file has no sha256 to verify against. To get it from the sources: inv models.lock"
    )


def test_a_comparison_shows_all_three_ways(capsys: pytest.CaptureFixture[str]):
    """What is wanted, how it stands here, and what is to be done there, in one row a file."""
    required = registry(file("vae/a"), file("vae/b"))
    plan = compare(required, Inventory(), Inventory.of([held("models/vae/a")]))

    show_plan(Console(), plan, here=True)

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["action", "model", "file", "here", "size", "reason"]
    assert [row[2:4] for row in rows[1:]] == [["models/vae/a", "right"], ["models/vae/b", "no"]]


def test_a_file_under_two_aliases_is_fetched_once():
    """Two models may want the same file, each by its own name of the folder; one copy serves both."""
    required = registry(file("clip/a"), file("text_encoders/a"))

    assert [action.path for action in compare(required, Inventory()).actions] == ["models/clip/a"]
    there = compare(required, Inventory.of([held("models/text_encoders/a")]))
    assert [(action.kind, action.there) for action in there.actions] == [("keep", "right")]


def test_files_that_may_hold_code_are_named(capsys: pytest.CaptureFixture[str]):
    """A plan names the pickles that it brings, not those that lie there already."""
    required = registry(file("vae/a.pth"), file("vae/b.safetensors"), file("vae/c.pt"))

    plan = compare(required, Inventory.of([held("models/vae/c.pt")]))
    show_plan(Console(), plan)

    assert plan.summary.pickled == ("models/vae/a.pth",)
    assert "1 of these files may hold pickled code" in " ".join(capsys.readouterr().err.split())


def test_composed_and_decomposed_letters_are_one_name():
    """A registry with `é` as one letter and a disk with it as two: the file is there, and is not pruned."""
    required = ModelFile(
        path="loras/caf\u00e9.safetensors",
        volume_path="models/loras/caf\u00e9.safetensors",
        source="hf:o/n:f",
        size_bytes=5,
    )
    there = {"path": "models/loras/cafe\u0301.safetensors", "size_bytes": 5, "sha256": None, "how": "unknown"}

    plan = compare(registry(required), Inventory.of([there]), prune=True)  # type: ignore[list-item]

    assert [action.kind for action in plan.actions] == ["keep"]


def test_storage_above_a_terabyte_costs_less():
    """RunPod's two steps hold in a plan as in an estimate."""
    big = ModelFile(
        path="loras/x.pt", volume_path="models/loras/x.pt", source="hf:o/n:f", size_bytes=2 * 10**12
    )

    assert compare(registry(big), Inventory()).summary.dollars_per_month == 120.0


def test_what_the_registry_allows_reaches_the_store():
    """`allow_pickle` is in a plan's job, also after the plan was saved; otherwise the key is absent."""
    allowed = replace(file("vae/a.pt"), allow_pickle=True)
    plan = compare(registry(allowed, file("vae/b.pt")), Inventory())

    for actions in (plan.actions, Plan.from_json(json.loads(json.dumps(plan.to_json()))).actions):
        assert [action.wanted().get("allow_pickle") for action in actions] == [True, None]
    assert [one.wanted().get("allow_pickle") for one in (allowed, file("vae/b.pt"))] == [True, None]
