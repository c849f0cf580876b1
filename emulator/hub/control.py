"""`/_emulator/hub/files`: add, change, rename and remove files of the hub while a test runs."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from emulator.files.content import Content, Plain, digest, model_file
from emulator.hub.store import Hub, PlainFile, hub_of
from emulator.state import State

REPO_FIELDS = {"gated", "private", "disabled", "license", "moved_to"}
PLAIN_FIELDS = {"ignores_range", "announced_bytes", "stalls_at", "etag"}
FILE_FIELDS = {"repo", "path", "name", "size_bytes", "content_b64", "seed", "lfs", "rename_to", "remove"}


def control_routes(state: State) -> list[BaseRoute]:
    """Make the routes, to be mounted under `/_emulator/hub`.

    `POST /files` takes `{"repo", "path", …}` for a file of a repository, and `{"name", …}` for a plain one.
    Its bytes are `content_b64`, or `size_bytes` of pseudo-random ones from `seed`; `rename_to` and `remove`
    act on what is there. Repositories take `gated`, `private`, `disabled`, `license` and `moved_to`,
    plain files `etag`, `ignores_range`, `announced_bytes` and `stalls_at`.
    It answers the file's size, true sha256 and path of its URL. `GET /files?repo=…` lists a repository.
    """
    hub = hub_of(state)

    async def change(request: Request) -> JSONResponse:
        body = await request.json()
        unknown = sorted(set(body) - REPO_FIELDS - PLAIN_FIELDS - FILE_FIELDS)
        if unknown:
            return JSONResponse({"error": f"a file has no {', '.join(unknown)}"}, 422)
        try:
            answer = await asyncio.to_thread(_plain if "name" in body else _in_repo, hub, body)
        except KeyError as missing:
            return JSONResponse({"error": f"not found: {missing}"}, 422)
        return JSONResponse(answer)

    async def listing(request: Request) -> JSONResponse:
        repo = hub.repos.get(request.query_params.get("repo", ""))
        if repo is None:
            return JSONResponse({"repos": sorted(hub.repos)})
        files = await asyncio.to_thread(
            lambda: [
                {"path": path, "size_bytes": file.size, "sha256": file.sha256, "lfs": file.lfs}
                for path, file in sorted(repo.head.items())
            ]
        )
        return JSONResponse({"repo": repo.name, "commit": repo.main, "files": files})

    return [
        Route("/files", change, methods=["POST"]),
        Route("/files", listing, methods=["GET"]),
    ]


def _content(body: dict[str, Any], key: str, name: str) -> Content:
    if "content_b64" in body:
        return Plain(base64.b64decode(body["content_b64"]))
    return model_file(str(body.get("seed", key)), name, int(body["size_bytes"]))


def _in_repo(hub: Hub, body: dict[str, Any]) -> dict[str, Any]:
    name, path = body["repo"], body.get("path")
    commit = hub.repos[name].main if name in hub.repos else ""
    if path is not None and body.get("remove"):
        commit, path = hub.take_away(name, path), None
    elif path is not None and "rename_to" in body:
        commit, path = hub.take_away(name, path, body["rename_to"]), body["rename_to"]
    elif path is not None and ("size_bytes" in body or "content_b64" in body):
        commit = hub.put(name, path, _content(body, f"{name}/{path}", path), lfs=body.get("lfs"))
    repo = hub.repos[name]
    for field in REPO_FIELDS & set(body):
        setattr(repo, field, body[field])
    answer: dict[str, Any] = {"repo": name, "commit": commit}
    if path is not None:
        file = repo.head[path]
        answer |= {"path": path, "size_bytes": file.size, "sha256": file.sha256, "lfs": file.lfs}
    return answer


def _plain(hub: Hub, body: dict[str, Any]) -> dict[str, Any]:
    name = body["name"]
    if body.get("remove"):
        del hub.plain[name]
        return {"name": name}
    old = hub.plain.get(name)
    if "size_bytes" in body or "content_b64" in body or old is None:
        content = _content(body, f"files/{name}", name)
    else:
        content = old.content
    sha256 = digest(content)
    etag = body.get("etag", f'"{sha256[:32]}"')
    odd = {field: body[field] for field in (PLAIN_FIELDS - {"etag"}) & set(body)}
    hub.plain[name] = PlainFile(content, etag, **odd)
    return {
        "name": name,
        "path": f"/files/{name}",
        "size_bytes": content.size,
        "sha256": sha256,
        "etag": etag,
    }
