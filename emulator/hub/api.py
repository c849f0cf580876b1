"""Hugging Face's `/api/models/…`: what is known about a repository and its files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.hub.access import Refusal
from emulator.hub.store import File, Repo, Tree

PAGE = 1000
EXPANDED_PAGE = 50
Answer = Callable[[Request, Repo], Awaitable[Response]]
Entry = dict[str, Any]


def _tree(request: Request, repo: Repo) -> tuple[str, Tree]:
    revision = request.path_params.get("revision", "main")
    commit = repo.resolve(revision)
    if commit is None:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit, repo.commits[commit]


async def info(request: Request, repo: Repo) -> Response:
    """Describe a repository at a revision, with sizes and hashes when `blobs` are asked for."""
    commit, tree = _tree(request, repo)
    tags = [f"license:{repo.license}"] if repo.license else []
    card = {"license": repo.license} if repo.license else {}
    if request.query_params.get("blobs") in ("true", "True", "1"):
        siblings = await asyncio.to_thread(
            lambda: [_sibling(path, file) for path, file in sorted(tree.items())]
        )
    else:
        siblings = [{"rfilename": path} for path in sorted(tree)]
    body = {
        "_id": hashlib.sha256(repo.name.encode()).hexdigest()[:24],
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.partition("/")[0],
        "sha": commit,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2025-01-01T00:00:00.000Z",
        "private": repo.private,
        "gated": repo.gated,
        "disabled": repo.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": tags,
        "cardData": card,
        "siblings": siblings,
        "spaces": [],
        "usedStorage": sum(file.size for file in tree.values()),
    }
    return JSONResponse(body)


def _sibling(path: str, file: File) -> Entry:
    entry: Entry = {"rfilename": path, "blobId": file.git_id, "size": file.size}
    if file.lfs:
        entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    return entry


def _entry(path: str, file: File) -> Entry:
    entry: Entry = {"type": "file", "oid": file.git_id, "size": file.size, "path": path}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    return entry


def _folder(path: str) -> Entry:
    oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _listing(tree: Tree, folder: str, *, recursive: bool) -> list[tuple[str, File | None]]:
    """List what is in a folder, files with their `File`, folders with None, sorted by path."""
    found: dict[str, File | None] = {}
    prefix = f"{folder}/" if folder else ""
    for path, file in tree.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            found[prefix + "/".join(parts[:depth])] = None
        if recursive or len(parts) == 1:
            found[path] = file
    return sorted(found.items())


async def tree(request: Request, repo: Repo) -> Response:
    """List a folder, page by page."""
    _, files = _tree(request, repo)
    query = request.query_params
    folder = request.path_params.get("path", "").strip("/")
    listing = _listing(files, folder, recursive=query.get("recursive") in ("true", "True", "1"))
    if folder and not listing:
        revision = request.path_params["revision"]
        raise Refusal(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
    expand = query.get("expand") in ("true", "True", "1")
    limit = int(query.get("limit", EXPANDED_PAGE if expand else PAGE))
    start = int(query.get("cursor") or 0)
    page = listing[start : start + limit]
    entries = await asyncio.to_thread(_entries, page, repo, expand=expand)
    response = JSONResponse(entries)
    if start + limit < len(listing):
        following = urlencode(dict(query) | {"cursor": start + limit, "limit": limit})
        url = request.url.replace(query=following)
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


def _entries(page: list[tuple[str, File | None]], repo: Repo, *, expand: bool) -> list[Entry]:
    entries = [_folder(path) if file is None else _entry(path, file) for path, file in page]
    if expand:
        date = "2026-01-01T00:00:00.000Z"
        for entry in entries:
            entry["lastCommit"] = {"id": repo.main, "title": "Upload", "date": date}
            entry["securityFileStatus"] = {"status": "safe"}
    return entries


async def paths_info(request: Request, repo: Repo) -> Response:
    """Describe named paths; those that are not there are left out."""
    _, files = _tree(request, repo)
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await request.json()
        required, expand = body.get("paths", []), bool(body.get("expand"))
    else:
        form = await request.form()
        required = [str(path) for path in form.getlist("paths")]
        expand = str(form.get("expand")).lower() in ("true", "1")
    everything = dict(_listing(files, "", recursive=True))
    page = [(path, everything[path]) for path in required if path in everything]
    return JSONResponse(await asyncio.to_thread(_entries, page, repo, expand=expand))


async def refs(_: Request, repo: Repo) -> Response:
    """List branches and tags: there is only `main`."""
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.main}
    return JSONResponse({"branches": [branch], "tags": [], "converts": []})
