"""What a server says when it refuses: its words, and how long to wait.

Pure reading of headers and bodies; which error that makes is decided in
``backend.flow.check``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backend.errors import InvalidJson
from backend.validation.json_reader import as_number, read_json
from backend.validation.printable import shortened

BODY_SHOWN: Final = 500
"""Characters of a failing answer that an error keeps."""


def said(content: bytes, headers: Mapping[str, str]) -> str:
    """Return the server's own words, to end a sentence with: ``": no room left."`` or ``"."``.

    Source: RunPod's REST v2 answers ``{title, detail, errors}``, its job plane ``{title, detail, code}``,
        its load balancer ``{error}``; ComfyUI answers ``{error: {message, details}}`` or plain text.
    """
    try:
        body = read_json(content)
    except InvalidJson:
        body = None
    if isinstance(body, dict):
        words = list(_words(body))
    elif body is None and "html" not in headers.get("content-type", ""):
        words = [" ".join(content[:BODY_SHOWN].decode("utf-8", "replace").split())]
    else:
        words = []
    sentence = shortened("; ".join(word.rstrip(". ") for word in words if word), BODY_SHOWN)
    return f": {sentence}." if sentence else "."


def _words(body: Mapping[str, Any]) -> Iterator[str]:
    error = body.get("error")
    candidates = [body.get("detail"), error, body.get("message")]
    if isinstance(error, dict):
        candidates += [error.get("message"), error.get("details")]
    problems = body.get("errors")
    if isinstance(problems, list):
        candidates += [_problem(problem) for problem in problems]
    words = [word for word in candidates if isinstance(word, str) and word]
    yield from words or [str(body.get("title") or "")]


def _problem(problem: Any) -> str:
    """One entry of a problem document's ``errors``."""
    if not isinstance(problem, dict):
        return str(problem)
    where = problem.get("location") or problem.get("field") or problem.get("path") or ""
    words = problem.get("message") or problem.get("detail") or ""
    return f"{where}: {words}" if where else str(words)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds, or a date. None without one."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if (seconds := as_number(text)) is not None:
        return max(0.0, seconds)
    from datetime import UTC, datetime  # rare, and slow to load
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
