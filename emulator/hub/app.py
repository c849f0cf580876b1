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

from emulator.files import ranges
from emulator.files.cdn import cdn_of
from emulator.hub import api
from emulator.hub.access import RateLimit, Reader, Refusal, check_gate, find
from emulator.hub.control import control_routes
from emulator.hub.plain import plain_file
from emulator.hub.store import File, Repo, hub_of
from emulator.state import State

__all__ = ["app", "control_routes"]

Handler = Callable[[Request], Awaitable[Response]]
REPO = "/{owner}/{name}"
AT_PATH = "/{revision}/{path:path}"
API: dict[str, api.Answer] = {
    REPO: api.info,
    REPO + "/revision/{revision:path}": api.info,
    REPO + "/tree" + AT_PATH: api.tree,
    REPO + "/tree/{revision}": api.tree,
    REPO + "/paths-info/{revision}": api.paths_info,
    REPO + "/refs": api.refs,
}
ALL_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def app(state: State) -> Starlette:
    """Make the hub. Its address is a path prefix of the emulator's, and relative redirects respect it."""
    plane = HubPlane(state)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with cdn_of(state).serving():
            yield

    def api(handler: Handler) -> Handler:
        return plane.guarded(handler, "api")

    def resolver(handler: Handler) -> Handler:
        return plane.guarded(handler, "resolvers")

    about_repos = [
        Route(f"/api/models{path}", api(plane.about_repo(answer)), methods=["GET", "POST"])
        for path, answer in API.items()
    ]
    routes = [
        Route("/files/{name:path}", plane.plain),
        Route("/api/whoami-v2", api(plane.whoami)),
        Route("/api/resolve-cache/models" + REPO + AT_PATH, resolver(plane.cached)),
        *about_repos,
        Route(REPO + "/resolve" + AT_PATH, resolver(plane.resolve)),
        Route(REPO + "/raw" + AT_PATH, resolver(plane.raw)),
        Route("/{rest:path}", api(plane.unknown), methods=ALL_METHODS),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class HubPlane:
    """The hub's handlers, and what they share."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._hub = hub_of(state)
        self._cdn = cdn_of(state)
        self._limit = RateLimit(state)
        state.on_reset.append(self._limit.clear)

    def guarded(self, handler: Handler, bucket: str) -> Handler:
        """Count a request against a quota, and turn refusals into answers."""

        async def answer(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                headers = self._limit.count(bucket, Reader.of(request, self._state))
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response()
            response.headers.update(headers)
            response.headers["X-Request-Id"] = f"Root=1-{uuid.uuid4().hex[:24]}"
            return response

        return answer

    def about_repo(self, answer: api.Answer) -> Handler:
        """Find the repository that a question is about; send on those who know its old name."""

        async def handler(request: Request) -> Response:
            name = "{owner}/{name}".format(**request.path_params)
            repo = find(self._hub.repos, name, Reader.of(request, self._state))
            if repo.moved_to:
                location = request.url.path.replace(name, repo.moved_to, 1)
                return Response(status_code=307, headers={"Location": location})
            return await answer(request, repo)

        return handler

    async def resolve(self, request: Request) -> Response:
        """Say what a file is, and where its bytes are: at the CDN, or at the hub itself."""
        repo, commit, file = self._file(request)
        path = request.path_params["path"]
        etag = await asyncio.to_thread(lambda: file.etag)
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(file.size),
            "Accept-Ranges": "bytes",
        }
        if file.lfs:
            location = self._cdn.link("hub", file.content, path.rpartition("/")[2])
            headers |= {"Location": location, "Cache-Control": "no-store"}
            return PlainTextResponse(f"Found. Redirecting to {location}", 302, headers)
        prefix = request.scope.get("root_path", "")
        query = urlencode({"etag": f'"{etag}"'})
        location = f"{prefix}/api/resolve-cache/models/{repo.name}/{commit}/{quote(path)}?{query}"
        headers["Location"] = location
        return PlainTextResponse(f"Temporary Redirect. Redirecting to {location}", 307, headers)

    async def cached(self, request: Request) -> Response:
        """Serve a small file."""
        _, commit, file = self._file(request)
        headers = {"X-Repo-Commit": commit, "Content-Type": "text/plain; charset=utf-8"}
        return ranges.serve(request, file.content, f'"{file.etag}"', headers)

    async def raw(self, request: Request) -> Response:
        """Serve what git itself keeps: of a file in LFS, the pointer."""
        _, commit, file = self._file(request)
        remaining = file.pointer if file.lfs else file.content.read(0, file.size)
        return PlainTextResponse(remaining, headers={"X-Repo-Commit": commit})

    def _file(self, request: Request) -> tuple[Repo, str, File]:
        """Return the file that a path means, with its repository and commit.

        Raises:
            Refusal: the reader may not have it, or it is not there.
        """
        parts = request.path_params
        reader = Reader.of(request, self._state)
        repo = find(self._hub.repos, f"{parts['owner']}/{parts['name']}", reader)
        check_gate(repo, reader)
        if repo.moved_to:
            repo = self._hub.repos[repo.moved_to]
        commit = repo.resolve(parts["revision"])
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {parts['revision']}", "RevisionNotFound", as_json=False)
        file = repo.commits[commit].get(parts["path"])
        if file is None:
            message = (("X-Repo-Commit", commit), ("Accept-Ranges", "bytes"))
            raise Refusal(404, "Entry not found", "EntryNotFound", as_json=False, headers=message)
        return repo, commit, file

    async def whoami(self, request: Request) -> Response:
        """Say whose token it is."""
        reader = Reader.of(request, self._state)
        if not reader.known:
            raise Refusal(401, "Invalid username or password.")
        user = hashlib.sha256(str(reader.token).encode()).hexdigest()[:8]
        token = {"displayName": "emulated", "role": "read"}
        message = {"type": "user", "name": f"user-{user}", "orgs": [], "auth": {"accessToken": token}}
        return JSONResponse(message)

    async def plain(self, request: Request) -> Response:
        """Serve a file of a web server that is no hub."""
        return plain_file(request, self._hub)

    async def unknown(self, request: Request) -> Response:
        """Name what is not emulated."""
        message = f"The emulated hub has no {request.method} {request.url.path}"
        return JSONResponse({"error": message}, 501)
