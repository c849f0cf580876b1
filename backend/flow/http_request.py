"""A step as one HTTP request: its headers, its body, and the files that it streams."""

import contextlib
import os
from pathlib import Path
from typing import Any, BinaryIO, Final

from backend.errors import TransferError
from backend.flow.steps import Download, Send, Upload

CONNECT_TIMEOUT_S: Final = 10.0


def request(step: Send | Upload, opened: contextlib.ExitStack) -> dict[str, Any]:
    """Return the keywords of httpx's ``build_request``.

    Args:
        step: what to send.
        opened: closes the files that this opens, once the request is through.
    """
    headers = dict(step.headers)
    if step.key:
        headers["Authorization"] = f"Bearer {step.key.reveal()}"
    keywords: dict[str, Any] = {
        "headers": headers,
        "timeout": (min(step.timeout_s, CONNECT_TIMEOUT_S), step.timeout_s, step.timeout_s, step.timeout_s),
    }
    if isinstance(step, Upload):
        file = opened.enter_context(_open(step.source))
        headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        return {**keywords, "method": step.method, "url": step.url, "content": file}
    keywords |= {"method": step.method, "url": step.full_url}
    if step.json is not None:
        keywords["json"] = step.json
    elif step.content is not None:
        keywords["content"] = step.content
    elif step.form is not None:
        keywords["data"] = dict(step.form.fields)
        if (part := step.form.file) is not None:
            source = part.source
            body = source if isinstance(source, bytes) else opened.enter_context(_open(source))
            keywords["files"] = {part.name: (part.filename, body, part.content_type)}
    return keywords


def fetch(step: Download) -> Send:
    """Return the request of a download."""
    return Send(
        "GET",
        step.url,
        query=step.query,
        headers=step.headers,
        key=step.key,
        timeout_s=step.timeout_s,
        follow_redirects=True,
    )


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
