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
    with studio(tmp_path / "project", emu) as created:
        created.declare(SHARED + [cell.entry(protect=False) for cell in CELLS])
        created.infra.up()
        first, bodies = created.state(), created.bodies()
        assert created.owned() == created.live()

        act_by_hand(created, first)
        created.declare(
            SHARED + [cell.entry(protect=False, changed=True, id_=first[cell.name]) for cell in CELLS]
        )
        replaced = created.urns([cell.name for cell in chosen("replace")])
        created.infra.up(*(part for urn in replaced for part in ("--replace", urn)))

        after = created.state()
        assert created.owned() == created.live()
        outcomes = {cell: SAME if after[cell.later] == first[cell.name] else OTHER for cell in CELLS}
        expected = {cell: SAME if cell.kind == "Model" else WAYS[cell.way].outcome for cell in CELLS}
        assert outcomes == expected
        assert [after[name] for name in ("store", "keeper")] == [first[name] for name in ("store", "keeper")]
        same = {id_: body for id_, body in created.bodies().items() if id_ in bodies}
        assert same == {id_: bodies[id_] for id_ in same}
        created.infra.up("--expect-no-changes")

        created.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(created.live().values())


GUARDED = ("taint", "replace", "moved", "renamed")


@pytest.mark.parametrize("way", GUARDED)
def test_what_is_protected_is_refused_before_anything_is_touched(
    emu: Emulator, tmp_path: Path, way: str
) -> None:
    """With `protect`, no way to a replacement or a move changes RunPod or the state; each kind is named."""
    cells = [Cell(way, kind) for kind in WAYS[way].kinds]
    with studio(tmp_path / "project", emu) as created:
        created.declare(SHARED + [cell.entry(protect=True) for cell in cells])
        created.infra.up()
        first, live = created.state(), created.live()
        if way == "taint":
            created.infra.pulumi("state", "taint", "--yes", *created.urns([cell.name for cell in cells]))
        created.declare(SHARED + [cell.entry(protect=True, changed=True) for cell in cells])
        replaced = created.urns([cell.name for cell in cells]) if way == "replace" else []

        done = created.infra.pulumi(
            "up", "--yes", *(part for urn in replaced for part in ("--replace", urn)), ok=False
        )

        assert done.returncode == 1
        assert "`protect` flag" in done.stdout or "is protected" in done.stdout, done.stdout
        assert (created.state(), created.live()) == (first, live)


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
    with studio(tmp_path / "project", emu) as created:
        created.declare(one_of_each())
        created.infra.up()
        for kind in REST:
            before = created.state()
            (urn,) = created.urns([f"one-{kind.lower()}"])
            created.infra.pulumi("state", "taint", "--yes", urn)
            path = COLLECTIONS[kind][1]
            killed(
                created, method, f"/rest/v2/{path}" if method == "POST" else f"/rest/v2/{path}/*", after=after
            )
            created.infra.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
            created.infra.up()
            later = created.state()
            assert created.owned() == created.live()
            assert [name for name in later if later[name] != before[name]] == [f"one-{kind.lower()}"]
        created.infra.up("--expect-no-changes")

        created.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(created.live().values())


def test_an_id_that_two_resources_have_is_deleted_once_and_last(emu: Emulator, tmp_path: Path) -> None:
    """A state that was damaged before, with two entries of one object: removing one leaves the object."""
    with studio(tmp_path / "project", emu) as created:
        created.declare(one_of_each())
        created.infra.up()
        exported = json.loads(created.infra.pulumi("stack", "export").stdout)
        resources = exported["deployment"]["resources"]
        doubled = [
            {**each, "urn": f"{each['urn']}-twin"}
            for each in resources
            if "::one-" in each["urn"] or "::models/" in each["urn"]
        ]
        resources += doubled
        (tmp_path / "state.json").write_text(json.dumps(exported))
        created.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        live = created.live()

        created.infra.up()
        assert (created.live(), created.owned()) == (live, live)

        created.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        created.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert not any(created.live().values())


def test_a_stack_with_names_of_old_keeps_objects_and_names(emu: Emulator, tmp_path: Path) -> None:
    """Names without a suffix stay, nothing is replaced; a replacement gets a name of its own."""
    with studio(tmp_path / "project", emu) as created:
        created.declare(one_of_each())
        created.infra.up()
        text = created.infra.pulumi("stack", "export").stdout
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
        created.infra.pulumi("stack", "import", "--file", str(tmp_path / "state.json"))
        first, bodies = created.state(), created.bodies()

        created.infra.up("--expect-no-changes")
        assert (created.state(), created.bodies()) == (first, bodies)

        (urn,) = created.urns(["one-template"])
        created.infra.up("--replace", urn)
        assert created.owned() == created.live()
        assert created.state()["one-template"] != first["one-template"]


def test_a_cut_off_create_of_a_chosen_name_is_refused_until_it_is_adopted(
    emu: Emulator, tmp_path: Path
) -> None:
    """A name that anybody may choose proves nothing, so the object's owner says whose it is."""
    with studio(tmp_path / "project", emu) as created:
        template = {**FIELDS["Template"], "name": "chosen"}
        created.declare([["Template", "one", template, {}]])
        killed(created, "POST", "/rest/v2/templates", after=True)
        (left,) = created.live()["Template"]

        refused = created.infra.up(ok=False)

        assert refused.returncode == 1
        assert f"A template called 'chosen' exists already and is not this stack's: {left}." in refused.stdout
        created.declare([["Template", "one", {**template, "adopt": left}, {}]])
        created.infra.up()
        assert created.state() == {"one": left}


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
    with studio(tmp_path / "project", emu) as created:
        theirs = {
            kind: emu.rest("POST", f"/{COLLECTIONS[kind][1]}", body).json()["id"]
            for kind, body in bodies.items()
        }
        live = created.live()
        for kind, id_ in theirs.items():
            created.declare([[kind, kind, {**FIELDS[kind], "name": "mine"}, {}]])
            output = created.infra.pulumi("preview", ok=False).stdout
            assert (
                f"called 'mine' exists already and is not this stack's: {id_}. Declare adopt=<its id>"
                in output
            )
        assert created.infra.up(ok=False).returncode == 1
        assert (created.live(), created.state()) == (live, {})

        created.declare(
            [[kind, kind, {**FIELDS[kind], "name": "mine", "adopt": theirs[kind]}, {}] for kind in REST]
        )
        created.infra.up()
        assert (created.live(), created.state()) == (live, theirs)
        created.infra.pulumi("destroy", "--yes", "--skip-preview")
        assert created.live() == live
