"""Repositories, commits and files of the emulated Hugging Face. No HTTP here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

from emulator.files.content import Content, Plain, digest, model_file
from emulator.hub.repos import REPOSITORIES, Listed
from emulator.state import State

LFS_FROM_BYTES = 10 << 20
LFS_SUFFIXES = {".safetensors", ".bin", ".pth", ".pt", ".pkl", ".ckpt", ".onnx", ".msgpack", ".gguf", ".h5"}

_hubs: WeakKeyDictionary[State, Hub] = WeakKeyDictionary()


class File:
    """One file of one commit. Its hashes are true, computed when first asked for."""

    def __init__(self, content: Content, *, lfs: bool) -> None:
        self.content = content
        self.lfs = lfs

    @property
    def size(self) -> int:
        """The real size, also of a file kept in LFS."""
        return self.content.size

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the bytes: what LFS calls its oid."""
        return digest(self.content)

    @property
    def pointer(self) -> bytes:
        """What git itself keeps of a file in LFS."""
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.sha256}",
            f"size {self.size}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    @cached_property
    def git_id(self) -> str:
        """The git blob id: of the file, or of its LFS pointer."""
        remaining = Plain(self.pointer) if self.lfs else self.content
        return digest(remaining, "sha1", f"blob {remaining.size}\0".encode())

    @property
    def etag(self) -> str:
        """What resolve calls the file's etag, without quotes."""
        return self.sha256 if self.lfs else self.git_id


Tree = dict[str, File]


@dataclass(slots=True)
class Repo:
    """One model repository: commits by hash, oldest first, and the branch `main`."""

    name: str
    license: str | None = None
    gated: bool | str = False
    private: bool = False
    disabled: bool = False
    moved_to: str | None = None
    commits: dict[str, Tree] = field(default_factory=dict)
    main: str = ""

    def commit(self, tree: Tree, revision: str | None = None) -> str:
        """Make a tree the head of `main`; return the commit's hash, of our own making unless given."""
        events = [self.main, *(f"{path}={file.content.key}" for path, file in sorted(tree.items()))]
        revision = revision or hashlib.sha1("\n".join([self.name, *events]).encode()).hexdigest()  # noqa: S324
        self.commits[revision] = tree
        self.main = revision
        return revision

    def resolve(self, revision: str) -> str | None:
        """Turn a branch or a commit hash into a commit hash; None when there is no such revision."""
        if revision in ("main", "refs/heads/main"):
            return self.main
        return revision if revision in self.commits else None

    @property
    def head(self) -> Tree:
        """The files of `main`."""
        return self.commits[self.main]


@dataclass(slots=True)
class PlainFile:
    """A file under `/hub/files/`, as any web server might have it, well or badly run."""

    content: Content
    etag: str
    ignores_range: bool = False
    announced_bytes: int | None = None
    stalls_at: int | None = None


class Hub:
    """All repositories, and the plain files beside them."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.plain: dict[str, PlainFile] = {}
        self.reset()

    def reset(self) -> None:
        """Go back to the repositories of the table."""
        self.plain.clear()
        self.repos = {listed.name: _made(listed) for listed in REPOSITORIES}

    def put(self, name: str, path: str, content: Content, *, lfs: bool | None = None) -> str:
        """Add or change one file in a new commit, making the repository if need be; return the commit."""
        repo = self.repos.setdefault(name, Repo(name))
        tree = dict(repo.head) if repo.commits else {}
        tree[path] = File(content, lfs=_goes_to_lfs(path, content.size) if lfs is None else lfs)
        return repo.commit(tree)

    def take_away(self, name: str, path: str, renamed_to: str | None = None) -> str:
        """Remove or rename one file in a new commit; return the commit.

        Raises:
            KeyError: there is no such repository or file.
        """
        repo = self.repos[name]
        tree = dict(repo.head)
        file = tree.pop(path)
        if renamed_to is not None:
            tree[renamed_to] = file
        return repo.commit(tree)


def hub_of(state: State) -> Hub:
    """Return the one hub of an emulator."""
    if state not in _hubs:
        _hubs[state] = hub = Hub()
        state.on_reset.append(hub.reset)
    return _hubs[state]


def _goes_to_lfs(path: str, size: int) -> bool:
    return size >= LFS_FROM_BYTES or PurePosixPath(path).suffix in LFS_SUFFIXES


def _made(listed: Listed) -> Repo:
    repo = Repo(
        listed.name,
        license=listed.license,
        gated=listed.gated,
        private=listed.private,
        moved_to=listed.moved_to,
    )
    tree: Tree = {}
    for path, size in {".gitattributes": 1, "README.md": 1, **listed.files}.items():
        content = model_file(f"{listed.name}/{path}", path, size, listed.architecture)
        tree[path] = File(content, lfs=_goes_to_lfs(path, content.size))
    repo.commit(tree, listed.revision)
    return repo
