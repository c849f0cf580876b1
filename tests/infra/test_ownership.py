"""Who owns an object: every way to a replacement or a move, times every kind of resource, on the real engine.

Afterwards state and RunPod agree, and nothing is gone that was not meant to go. Each cell of the table is
a resource of its own, so that all of them share the runs of the engine; the emulator is RunPod.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.engine import orphan_processes
from infra.engine.state_files import repair, state_folder, unlock
from tests.support.emulation import Emulator, until
from tests.support.ownership_table import (
    CELLS,
    COLLECTIONS,
    FIELDS,
    OTHER,
    REST,
    SAME,
    SHARED,
    WAYS,
    Cell,
    Studio,
    studio,
)
from tests.support.pulumi_project import STACK, kill, providers

pytestmark = pytest.mark.slow


def chosen(act: str) -> list[Cell]:
    return [cell for cell in CELLS if WAYS[cell.way].act == act]


def act_by_hand(made: Studio, ids: dict[str, str]) -> None:
    """Do what a person does to the state and in RunPod's console."""
    made.infra.pulumi("state", "taint", "--yes", *made.urns([cell.name for cell in chosen("taint")]))
    for urn in made.urns([cell.name for cell in chosen("state delete")]):
        made.infra.pulumi("state", "delete", "--yes", urn)
    gone = chosen("gone")
    for cell in gone:
        if cell.kind == "Model":
            (made.emu.volume_dir(ids["store"]) / cell.name).unlink()
        else:
            made.emu.rest("DELETE", f"/{COLLECTIONS[cell.kind][1]}/{ids[cell.name]}")
    targets = [part for urn in made.urns([cell.name for cell in gone]) for part in ("--target", urn)]
    made.infra.pulumi("refresh", "--yes", "--skip-preview", *targets)


def test_every_way_to_a_replacement_or_a_move(emu: Emulator, tmp_path: Path) -> None:
    """State and RunPod agree; what was to be replaced is another object, and all else is the same one."""
    with studio(tmp_path / "project", emu) as made:
        made.declare(SHARED + [cell.entry(protect=False) for cell in CELLS])
        made.infra.up()
        first, bodies = made.state(), made.bodies()
        assert made.owned() == made.live()

        act_by_hand(made, first)
        made.declare(
            SHARED + [cell.entry(protect=False, changed=True, id_=first[cell.name]) for cell in CELLS]
        )
        replaced = made.urns([cell.name for cell in chosen("replace")])
        made.infra.up(*(part for urn in replaced for part in ("--replace", urn)))

        after = made.state()
        assert made.owned() == made.live()
        outcomes = {cell: SAME if after[cell.later] == first[cell.name] else OTHER for cell in CELLS}
        expected = {cell: SAME if cell.kind == "Model" else WAYS[cell.way].outcome for cell in CELLS}
        assert outcomes == expected
        assert [after[name] for name in ("store", "keeper")] == [first[name] for name in ("store", "keeper")]
        same = {id_: body for id_, body in made.bodies().items() if id_ in bodies}
        assert same == {id_: bodies[id_] for id_ in same}
        made.infra.up("--expect-no-changes")

        made.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(made.live().values())


GUARDED = ("taint", "replace", "moved", "renamed")


@pytest.mark.parametrize("way", GUARDED)
def test_what_is_protected_is_refused_before_anything_is_touched(
    emu: Emulator, tmp_path: Path, way: str
) -> None:
    """With `protect`, no way to a replacement or a move changes RunPod or the state; each kind is named."""
    cells = [Cell(way, kind) for kind in WAYS[way].kinds]
    with studio(tmp_path / "project", emu) as made:
        made.declare(SHARED + [cell.entry(protect=True) for cell in cells])
        made.infra.up()
        first, live = made.state(), made.live()
        if way == "taint":
            made.infra.pulumi("state", "taint", "--yes", *made.urns([cell.name for cell in cells]))
        made.declare(SHARED + [cell.entry(protect=True, changed=True) for cell in cells])
        replaced = made.urns([cell.name for cell in cells]) if way == "replace" else []

        done = made.infra.pulumi(
            "up", "--yes", *(part for urn in replaced for part in ("--replace", urn)), ok=False
        )

        assert done.returncode == 1
        assert "`protect` flag" in done.stdout or "is protected" in done.stdout, done.stdout
        assert (made.state(), made.live()) == (first, live)


def one_of_each(**options: Any) -> list[list[Any]]:
    """Declare a resource of each kind."""
    names = {kind: "models/one/config.json" if kind == "Model" else f"one-{kind.lower()}" for kind in FIELDS}
    return SHARED + [[kind, names[kind], FIELDS[kind], options] for kind in FIELDS]


def killed(made: Studio, method: str, path: str, *, after: bool = False) -> None:
    """Start an up and kill it, as a crash would, before RunPod acts on a request, or before its answer."""
    fault = made.emu.fault(path, method=method, **({"stall": 0} if after else {"delay_s": 60}))["id"]
    run = made.infra.start("up", "--yes", "--skip-preview")

    def held() -> bool:
        if after:
            return any(each["fault"] == f"#{fault}" for each in made.emu.requests(method, path))
        return any(
            each["id"] == fault and each["hits"] for each in made.emu.control("GET", "/faults")["faults"]
        )

    until(lambda: held() or run.poll() is not None)
    assert run.poll() is None, run.communicate()[0]
    kill(run)
    made.emu.control("DELETE", f"/faults/{fault}")
    until(lambda: len(providers(made.infra.root)) <= 1)
    orphan_processes.end()
    until(lambda: not providers(made.infra.root))
    folder = state_folder(made.infra.env)
    repair(folder, "comfyform", STACK)
    unlock(folder, run.pid)


@pytest.mark.parametrize(
    ("method", "after"),
    [("POST", False), ("POST", True), ("DELETE", False)],
    ids=["before", "answer", "delete"],
)
def test_killed_in_the_middle_of_a_replacement(
    emu: Emulator, tmp_path: Path, method: str, after: bool
) -> None:
    """Before the new object is made, before its answer, and before the delete: up ends with one of each."""
    with studio(tmp_path / "project", emu) as made:
        made.declare(one_of_each())
        made.infra.up()
        for kind in REST:
            before = made.state()
            (urn,) = made.urns([f"one-{kind.lower()}"])
            made.infra.pulumi("state", "taint", "--yes", urn)
            path = COLLECTIONS[kind][1]
            killed(
                made, method, f"/rest/v2/{path}" if method == "POST" else f"/rest/v2/{path}/*", after=after
            )
            made.infra.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
            made.infra.up()
            later = made.state()
            assert made.owned() == made.live()
            assert [name for name in later if later[name] != before[name]] == [f"one-{kind.lower()}"]
        made.infra.up("--expect-no-changes")

        made.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(made.live().values())


def test_an_id_that_two_resources_have_is_deleted_once_and_last(emu: Emulator, tmp_path: Path) -> None:
    """A state that was damaged before, with two entries of one object: removing one leaves the object."""
    with studio(tmp_path / "project", emu) as made:
        made.declare(one_of_each())
        made.infra.up()
        exported = json.loads(made.infra.pulumi("stack", "export").stdout)
        resources = exported["deployment"]["resources"]
        doubled = [
            {**each, "urn": f"{each['urn']}-twin"}
            for each in resources
            if "::one-" in each["urn"] or "::models/" in each["urn"]
        ]
        resources += doubled
        (tmp_path / "state.json").write_text(json.dumps(exported))
        made.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        live = made.live()

        made.infra.up()
        assert (made.live(), made.owned()) == (live, live)

        made.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        made.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(made.live().values())


def test_a_stack_with_names_of_old_keeps_objects_and_names(emu: Emulator, tmp_path: Path) -> None:
    """Names without a suffix stay, nothing is replaced; a replacement gets a name of its own."""
    with studio(tmp_path / "project", emu) as made:
        made.declare(one_of_each())
        made.infra.up()
        text = made.infra.pulumi("stack", "export").stdout
        for kind, (key, path) in COLLECTIONS.items():
            for each in emu.state()[key]:
                plain = re.sub("-[0-9a-f]{6}$", "", each["name"])
                text = text.replace(each["name"], plain)
                if kind != "RegistryCredential":
                    emu.rest("PATCH", f"/{path}/{each['id']}", {"name": plain})
        exported = json.loads(text)
        for each in exported["deployment"]["resources"]:
            for part in ("inputs", "outputs"):
                each.get(part, {}).pop("auto_name", None)
        (tmp_path / "state.json").write_text(json.dumps(exported))
        made.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        first, bodies = made.state(), made.bodies()

        made.infra.up("--expect-no-changes")
        assert (made.state(), made.bodies()) == (first, bodies)

        (urn,) = made.urns(["one-template"])
        made.infra.up("--replace", urn)
        assert made.owned() == made.live()
        assert made.state()["one-template"] != first["one-template"]


def test_a_cut_off_create_of_a_chosen_name_is_refused_until_it_is_adopted(
    emu: Emulator, tmp_path: Path
) -> None:
    """A name that anybody may choose proves nothing, so the object's owner says whose it is."""
    with studio(tmp_path / "project", emu) as made:
        template = {**FIELDS["Template"], "name": "chosen"}
        made.declare([["Template", "one", template, {}]])
        killed(made, "POST", "/rest/v2/templates", after=True)
        (left,) = made.live()["Template"]

        refused = made.infra.up(ok=False)

        assert refused.returncode == 1
        assert f"A template called 'chosen' exists already and is not this stack's: {left}." in refused.stdout
        made.declare([["Template", "one", {**template, "adopt": left}, {}]])
        made.infra.up()
        assert made.state() == {"one": left}


def test_a_chosen_name_that_is_taken_is_refused_at_preview(emu: Emulator, tmp_path: Path) -> None:
    """The refusal names each object and the way out; with `adopt` it is taken over, and kept by destroy."""
    bodies = {
        "NetworkVolume": {"name": "mine", "size": 10, "dataCenter": "EU-RO-1"},
        "Template": {"name": "mine", "image": "other", "serverless": True},
        "Endpoint": {
            "name": "mine",
            "image": "other",
            "type": "QUEUE",
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "gpu": {"pools": ["AMPERE_48"]},
            "workers": {"max": 1},
        },
        "RegistryCredential": {"name": "mine", "username": "u", "password": "p"},
    }
    with studio(tmp_path / "project", emu) as made:
        theirs = {
            kind: emu.rest("POST", f"/{COLLECTIONS[kind][1]}", body).json()["id"]
            for kind, body in bodies.items()
        }
        live = made.live()
        for kind, id_ in theirs.items():
            made.declare([[kind, kind, {**FIELDS[kind], "name": "mine"}, {}]])
            said = made.infra.pulumi("preview", ok=False).stdout
            assert (
                f"called 'mine' exists already and is not this stack's: {id_}. Declare adopt=<its id>" in said
            )
        assert made.infra.up(ok=False).returncode == 1
        assert (made.live(), made.state()) == (live, {})

        made.declare(
            [[kind, kind, {**FIELDS[kind], "name": "mine", "adopt": theirs[kind]}, {}] for kind in REST]
        )
        made.infra.up()
        assert (made.live(), made.state()) == (live, theirs)
        made.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert made.live() == live
