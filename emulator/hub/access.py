"""Who may read which repository, how often, and how Hugging Face says no.

Source: answers of huggingface.co recorded between 2025-12 and 2026-09.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from emulator.hub.store import Repo
from emulator.state import State

NO_ACCESS = "-without-access"
"""The hub's token with this behind it is a valid token of a user who may see nothing gated or private."""

WINDOW_S = 300
QUOTAS = {("resolvers", False): 3000, ("resolvers", True): 5000, ("api", False): 500, ("api", True): 1000}
"""(bucket, signed in) → requests in each window of five minutes."""


@dataclass(eq=False)
class Refusal(Exception):
    """An answer that is not what was asked for.

    Attributes:
        code: the X-Error-Code, if the case has one.
        as_json: the body is `{"error": message}` instead of the message.
        headers: what else to say.
    """

    status: int
    message: str
    code: str | None = None
    as_json: bool = True
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> Response:
        """Render it."""
        headers = {"X-Error-Message": self.message, **dict(self.headers)}
        if self.code:
            headers["X-Error-Code"] = self.code
        if self.as_json:
            return JSONResponse({"error": self.message}, self.status, headers)
        return PlainTextResponse(self.message, self.status, headers)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks. Without a token everything is None or False."""

    token: str | None
    known: bool
    trusted: bool

    @classmethod
    def of(cls, request: Request, state: State) -> Reader:
        """Read the Authorization header."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return cls(None, known=False, trusted=False)
        trusted = token == state.keys.hf_token
        return cls(token, known=trusted or token == state.keys.hf_token + NO_ACCESS, trusted=trusted)


def find(repos: dict[str, Repo], name: str, reader: Reader) -> Repo:
    """Return a repository that the reader may know of.

    Raises:
        Refusal: it is not there, or this reader must not know that it is.
    """
    if reader.token is not None and not reader.known and not _is_gated(repos.get(name)):
        raise Refusal(401, "Invalid credentials in Authorization header")
    repo = repos.get(name)
    if repo is None or (repo.private and not reader.trusted):
        if reader.known:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        realm = ("WWW-Authenticate", 'Bearer realm="Authentication required", charset="UTF-8"')
        raise Refusal(401, "Invalid username or password.", headers=(realm,))
    if repo.disabled:
        raise Refusal(403, "Access to this resource is disabled.")
    return repo


def _is_gated(repo: Repo | None) -> bool:
    return repo is not None and bool(repo.gated)


def check_gate(repo: Repo, reader: Reader) -> None:
    """Refuse the files of a gated repository to those who were not let in.

    Raises:
        Refusal: 401 without a good token, 403 with one that was not granted access.
    """
    if not repo.gated or reader.trusted:
        return
    if reader.known:
        message = (
            f"Access to model {repo.name} is restricted and you are not in the authorized list. "
            f"Visit https://huggingface.co/{repo.name} to ask for access."
        )
        raise Refusal(403, message, "GatedRepo", as_json=False)
    message = (
        f"Access to model {repo.name} is restricted. "
        "You must have access to it and be authenticated to access it. Please log in."
    )
    raise Refusal(401, message, "GatedRepo", as_json=False)


class RateLimit:
    """Counts requests in fixed windows and says in headers what is left."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._counts: dict[tuple[str, bool, int], int] = {}

    def clear(self) -> None:
        """Forget all counts."""
        self._counts.clear()

    def count(self, bucket: str, reader: Reader) -> dict[str, str]:
        """Count one request; return the headers that every answer carries.

        Raises:
            Refusal: 429, when the window's quota is used up.
        """
        now = self._state.clock.now()
        window = int(now // WINDOW_S)
        quota = QUOTAS[bucket, reader.known]
        key = (bucket, reader.known, window)
        used = self._counts[key] = self._counts.get(key, 0) + 1
        left = math.ceil((window + 1) * WINDOW_S - now)
        headers = {
            "RateLimit": f'"{bucket}";r={max(0, quota - used)};t={left}',
            "RateLimit-Policy": f'"fixed window";"{bucket}";q={quota};w={WINDOW_S}',
        }
        if used > quota:
            raise Refusal(429, "Too Many Requests", headers=tuple(headers.items()))
        return headers
