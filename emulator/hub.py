"""Hugging Face on loopback: the routes that `huggingface_hub` calls, and plain files for `url:` sources.

Large files are redirected to the CDN on another port; small ones are served by the hub itself.
There is no Xet here: answers carry no Xet headers, so clients read over plain HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from emulator import hub_api, ranges
from emulator.cdn import cdn_of
from emulator.hub_access import RateLimit, Reader, Refusal, check_gate, find
from emulator.hub_control import control_routes
from emulator.hub_plain import plain_file
from emulator.hub_store import File, Repo, hub_of
from emulator.state import State

__all__ = ["app", "control_routes"]

Handler = Callable[[Request], Awaitable[Response]]


def app(state: State) -> Starlette:
    """Make the hub. Its address is a path prefix of the emulator's, and relative redirects respect it."""
    hub, cdn = hub_of(state), cdn_of(state)
    limit = RateLimit(state)
    state.on_reset.append(limit.clear)

    def guarded(handler: Handler, bucket: str) -> Handler:
        async def answer(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                headers = limit.count(bucket, Reader.of(request, state))
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response()
            response.headers.update(headers)
            response.headers["X-Request-Id"] = f"Root=1-{uuid.uuid4().hex[:24]}"
            return response

        return answer

    def file_of(request: Request) -> tuple[Repo, str, File]:
        parts = request.path_params
        reader = Reader.of(request, state)
        repo = find(hub.repos, f"{parts['owner']}/{parts['name']}", reader)
        check_gate(repo, reader)
        if repo.moved_to:
            repo = hub.repos[repo.moved_to]
        commit = repo.resolve(parts["revision"])
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {parts['revision']}", "RevisionNotFound", as_json=False)
        file = repo.commits[commit].get(parts["path"])
        if file is None:
            told = (("X-Repo-Commit", commit), ("Accept-Ranges", "bytes"))
            raise Refusal(404, "Entry not found", "EntryNotFound", as_json=False, headers=told)
        return repo, commit, file

    async def resolve(request: Request) -> Response:
        repo, commit, file = file_of(request)
        path = request.path_params["path"]
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{await asyncio.to_thread(lambda: file.etag)}"',
            "X-Linked-Size": str(file.size),
            "Accept-Ranges": "bytes",
        }
        if file.lfs:
            location = cdn.link("hub", file.content, path.rpartition("/")[2])
            headers |= {"Location": location, "Cache-Control": "no-store"}
            return PlainTextResponse(f"Found. Redirecting to {location}", 302, headers)
        prefix = request.scope.get("root_path", "")
        query = urlencode({"etag": headers["X-Linked-Etag"]})
        headers["Location"] = f"{prefix}/api/resolve-cache/models/{repo.name}/{commit}/{quote(path)}?{query}"
        return PlainTextResponse(f"Temporary Redirect. Redirecting to {headers['Location']}", 307, headers)

    async def cached(request: Request) -> Response:
        _, commit, file = file_of(request)
        headers = {"X-Repo-Commit": commit, "Content-Type": "text/plain; charset=utf-8"}
        return ranges.serve(request, file.content, f'"{file.etag}"', headers)

    async def raw(request: Request) -> Response:
        _, commit, file = file_of(request)
        kept = file.pointer if file.lfs else file.content.read(0, file.size)
        return PlainTextResponse(kept, headers={"X-Repo-Commit": commit})

    async def whoami(request: Request) -> Response:
        reader = Reader.of(request, state)
        if not reader.known:
            raise Refusal(401, "Invalid username or password.")
        user = hashlib.sha256(str(reader.token).encode()).hexdigest()[:8]
        token = {"displayName": "emulated", "role": "read"}
        told = {"type": "user", "name": f"user-{user}", "orgs": [], "auth": {"accessToken": token}}
        return JSONResponse(told)

    async def unknown(request: Request) -> Response:
        message = f"The emulated hub has no {request.method} {request.url.path}"
        return JSONResponse({"error": message}, 501)

    async def plain(request: Request) -> Response:
        return plain_file(request, hub)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with cdn.serving():
            yield

    in_repo = "/{owner}/{name}"
    at_path = "/{revision}/{path:path}"
    api = {
        in_repo: hub_api.info,
        in_repo + "/revision/{revision:path}": hub_api.info,
        in_repo + "/tree" + at_path: hub_api.tree,
        in_repo + "/tree/{revision}": hub_api.tree,
        in_repo + "/paths-info/{revision}": hub_api.paths_info,
        in_repo + "/refs": hub_api.refs,
    }

    def bound(answer: hub_api.Answer) -> Handler:
        async def handler(request: Request) -> Response:
            name = "{owner}/{name}".format(**request.path_params)
            repo = find(hub.repos, name, Reader.of(request, state))
            if repo.moved_to:
                location = request.url.path.replace(name, repo.moved_to, 1)
                return Response(status_code=307, headers={"Location": location})
            return await answer(request, repo)

        return handler

    routes = [Route("/files/{name:path}", plain, methods=["GET"])]
    routes.append(Route("/api/whoami-v2", guarded(whoami, "api")))
    cache = "/api/resolve-cache/models" + in_repo + at_path
    routes.append(Route(cache, guarded(cached, "resolvers")))
    routes += [
        Route(f"/api/models{path}", guarded(bound(answer), "api"), methods=["GET", "POST"])
        for path, answer in api.items()
    ]
    routes.append(Route(in_repo + "/resolve" + at_path, guarded(resolve, "resolvers")))
    routes.append(Route(in_repo + "/raw" + at_path, guarded(raw, "resolvers")))
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    routes.append(Route("/{rest:path}", guarded(unknown, "api"), methods=methods))
    return Starlette(routes=routes, lifespan=lifespan)
