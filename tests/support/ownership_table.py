"""Ways to a replacement or a move, kinds of resource, and a project with a program that declares both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.emulation import TESTS, Emulator
from tests.support.pulumi_project import Project, project

SAME, OTHER = "the same object", "another object"
SOURCE = "hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af:config.json"
COLLECTIONS = {
    "NetworkVolume": ("volumes", "network-volumes"),
    "Template": ("templates", "templates"),
    "Endpoint": ("endpoints", "serverless"),
    "RegistryCredential": ("registries", "registries"),
}
"""Class of resource → its key in the emulator's state, and its path at RunPod."""
FIELDS: dict[str, dict[str, Any]] = {
    "NetworkVolume": {"size_gb": 10, "data_center": "EU-RO-1"},
    "Template": {"image": "echo"},
    "Endpoint": {"image": "echo", "gpu_pools": ["AMPERE_48"], "workers_max": 1},
    "RegistryCredential": {"username": "u", "password": "p"},
    "Model": {"volume_id": {"of": "store"}, "endpoint_id": {"of": "keeper"}, "source": SOURCE},
}
REPLACING: dict[str, dict[str, Any]] = {
    "NetworkVolume": {"data_center": "EU-CZ-1"},
    "Endpoint": {"type": "LOAD_BALANCER"},
    "RegistryCredential": {"password": "q"},
}
REST = tuple(COLLECTIONS)
DELETED_FIRST = ("Template", "Endpoint", "RegistryCredential")
SHARED: list[list[Any]] = [
    ["NetworkVolume", "store", FIELDS["NetworkVolume"], {}],
    [
        "Endpoint",
        "keeper",
        {
            "image": "comfyform/ops",
            "env": "WORKER_ENV",
            "cpu": [{"id": "cpu3c", "vcpu_count": 2}],
            "workers_max": 1,
            "volume_ids": [{"of": "store"}],
        },
        {},
    ],
]


class Way(NamedTuple):
    """A way to a replacement or a move.

    Attributes:
        outcome: what the resource must point at afterwards, as far as RunPod's objects go. A model is its
            path, so another one of the same path is the same file.
        kinds: where it applies.
        fields, options: what becomes of the declaration; a field "ADOPT" is the id that the resource has.
        before: the declaration's fields and options at first, beside the usual ones.
        rename: whether the logical name changes.
        act: what is done by hand: `taint`, `replace`, `state delete`, or `gone` in the console.
    """

    outcome: str
    kinds: tuple[str, ...] = (*REST, "Model")
    fields: dict[str, Any] = {}  # noqa: RUF012  # never changed
    options: dict[str, Any] = {}  # noqa: RUF012
    before: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    rename: bool = False
    act: str = ""


FIXED: tuple[dict[str, Any], dict[str, Any]] = ({"name": "FIXED"}, {})
WAYS = {
    "nothing": Way(SAME),
    "taint": Way(OTHER, act="taint"),
    "taint-created-first": Way(OTHER, DELETED_FIRST, before=({}, {"deleted_first": False}), act="taint"),
    "replace": Way(OTHER, act="replace"),
    "replace-deleted-first": Way(OTHER, before=({}, {"deleted_first": True}), act="replace"),
    "moved": Way(OTHER, options={"parent": "group"}),
    "moved-alias": Way(SAME, options={"parent": "group", "was": "NAME"}),
    "renamed": Way(OTHER, REST, rename=True),
    "renamed-alias": Way(SAME, REST, options={"was": "NAME"}, rename=True),
    "fixed-nothing": Way(SAME, REST, before=FIXED),
    "fixed-taint": Way(OTHER, REST, before=FIXED, act="taint"),
    "fixed-moved": Way(OTHER, REST, options={"parent": "group"}, before=FIXED),
    "fixed-renamed": Way(OTHER, REST, before=FIXED, rename=True),
    "fixed-renamed-alias": Way(SAME, REST, options={"was": "NAME"}, before=FIXED, rename=True),
    "unfixed": Way(SAME, REST, before=FIXED, fields={"name": None}),
    "diff": Way(OTHER, tuple(REPLACING), fields={"REPLACING": True}),
    "diff-fixed": Way(OTHER, tuple(REPLACING), fields={"REPLACING": True}, before=FIXED),
    "state-delete": Way(SAME, ("NetworkVolume", "Template", "Endpoint", "Model"), act="state delete"),
    # RunPod never shows a login, so the one that is found again makes room for the wanted one.
    "state-delete-login": Way(OTHER, ("RegistryCredential",), act="state delete"),
    "adopted-elsewhere": Way(SAME, REST, fields={"adopt": "ADOPT", "keep_adopted": False}, rename=True),
    "process": Way(SAME, options={"provider": "another"}),
    "gone": Way(OTHER, act="gone"),
}


class Cell(NamedTuple):
    """A way and a kind, with a resource of its own."""

    way: str
    kind: str

    @property
    def name(self) -> str:
        """The logical name at first; a model's is its path."""
        own = f"{self.kind.lower()}-{self.way}"
        return f"models/{own}/config.json" if self.kind == "Model" else own

    @property
    def later(self) -> str:
        """The logical name afterwards."""
        return f"{self.name}-later" if WAYS[self.way].rename else self.name

    def entry(self, *, protect: bool, changed: bool = False, id_: str = "") -> list[Any]:
        """Return the entry of the program."""
        way = WAYS[self.way]
        fields = {**FIELDS[self.kind], **way.before[0]}
        options = {**way.before[1], "protect": protect}
        if changed:
            fields |= way.fields
            options |= way.options
        if fields.pop("REPLACING", False):
            fields |= REPLACING[self.kind]
        words = {"FIXED": f"fixed-{self.name}", "NAME": self.name, "ADOPT": id_}
        fields = {
            key: words.get(each, each) if isinstance(each, str) else each for key, each in fields.items()
        }
        options = {
            key: words.get(each, each) if isinstance(each, str) else each for key, each in options.items()
        }
        return [self.kind, self.later if changed else self.name, fields, options]


CELLS = [Cell(name, kind) for name, way in WAYS.items() for kind in way.kinds]


class Studio:
    """A project with the program that declares a list, and RunPod."""

    def __init__(self, infra: Project, emu: Emulator) -> None:
        self.infra, self.emu = infra, emu
        self.folder = infra.root / "infra"
        shutil.copyfile(TESTS / "ownership_program.py", self.folder / "__main__.py")

    def declare(self, entries: list[list[Any]]) -> None:
        """Write down the program."""
        (self.folder / "resources.json").write_text(json.dumps(entries))

    def state(self) -> dict[str, str]:
        """Return the ids in the state, by logical name."""
        return {name: each["id"] for name, each in self.infra.resources().items()}

    def urns(self, names: list[str]) -> list[str]:
        """Return the URNs of resources."""
        resources = self.infra.resources()
        return [resources[name]["urn"] for name in names]

    def live(self) -> dict[str, set[str]]:
        """Return the ids at RunPod, by kind; a model's is its path."""
        state = self.emu.state()
        found = {kind: {each["id"] for each in state[key]} for kind, (key, _) in COLLECTIONS.items()}
        folders = [(each["id"], self.emu.volume_dir(each["id"])) for each in state["volumes"]]
        found["Model"] = {
            f"{id_}/{path.relative_to(folder)}"
            for id_, folder in folders
            for path in folder.rglob("config.json")
        }
        return found

    def bodies(self) -> dict[str, Any]:
        """Return what RunPod shows of each object, by id."""
        state = self.emu.state()
        return {each["id"]: each for key, _ in COLLECTIONS.values() for each in state[key]}

    def owned(self) -> dict[str, set[str]]:
        """Return the ids in the state, by kind."""
        found: dict[str, set[str]] = {kind: set() for kind in (*COLLECTIONS, "Model")}
        for each in self.infra.resources().values():
            found[each["type"].rpartition(":")[2]].add(each["id"])
        return found


@contextmanager
def studio(root: Path, emu: Emulator) -> Iterator[Studio]:
    """Make a project on an account that has room."""
    emu.set(worker_quota=1000)
    with project(root, emu) as infra:
        yield Studio(infra, emu)
