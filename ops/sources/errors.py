"""What a model source's refusal means, and what to do about it. Pure.

The status alone does not say it: Hugging Face answers 401 for a gated
repository without a token, for a missing one, and for a token that is wrong.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from backend.flow import Reply
from ops.models.source_url import CivitaiSource, HfSource, Source

_LOGIN: Final = "requires you to be logged in"


def explain(source: Source, reply: Reply, *, has_key: bool) -> tuple[str, str]:
    """Say what happened and what to do.

    Args:
        source: what was asked for.
        reply: the answer, with a status that is neither good nor worth a retry.
        has_key: whether a token was sent.

    Returns:
        A sentence that names the source, and a hint.
    """
    match source:
        case HfSource():
            return _hugging_face(source, reply, has_key)
        case CivitaiSource():
            return _civitai(source, reply, has_key)
        case _:
            return f"{source} cannot be downloaded: the server answered {reply.status}.", _address_hint(
                reply.status
            )


def _address_hint(status: int) -> str:
    """What to do about an address that is refused."""
    if status in (401, 403):
        return (
            "It requires a login or blocks programs. If a browser can download the file, do that and "
            "name it as local:CATEGORY/NAME."
        )
    return "Check the address, for example in a browser."


def _hugging_face(source: HfSource, reply: Reply, has_key: bool) -> tuple[str, str]:
    """Tell Hugging Face's refusals apart by ``X-Error-Code``, in the order in which it means them."""
    code = reply.headers.get("x-error-code", "")
    revision = source.revision or "main"
    said = _said(reply)
    page = f"https://huggingface.co/{source.repo}"
    if code == "RevisionNotFound":
        return (
            f"{source.repo} on Hugging Face has no revision {revision!r}.",
            "Correct the revision in the registry, or leave it out and run inv models.lock.",
        )
    if code == "EntryNotFound":
        return (
            f"{source.repo} on Hugging Face has no file {source.file!r} at {revision}.",
            f"It may have been renamed; see {page}/tree/{revision} and correct the registry.",
        )
    if code == "GatedRepo" and not has_key:
        return (
            f"{source.repo} on Hugging Face is gated and HF_TOKEN is not set.",
            f"Accept its license at {page}, then set HF_TOKEN to a token of that account.",
        )
    if code == "GatedRepo" and reply.status == 401:
        return (
            f"{source.repo} on Hugging Face is gated and does not accept the token in HF_TOKEN.",
            "The token is mistyped or revoked: make a new one at https://huggingface.co/settings/tokens.",
        )
    if code == "GatedRepo":
        return (
            f"{source.repo} on Hugging Face is gated and the account of HF_TOKEN has no access yet.",
            (
                f"Accept its license at {page}; some authors approve by hand. "
                "A fine-grained token also needs the right to read gated repositories."
            ),
        )
    if "disabled" in said:
        return (f"{source.repo} is disabled on Hugging Face.", "Name another source for this file.")
    if "Invalid credentials" in said:
        return (
            "Hugging Face does not accept the token in HF_TOKEN.",
            "It is mistyped or revoked: make a new one at https://huggingface.co/settings/tokens.",
        )
    if code == "RepoNotFound" or reply.status in {401, 404}:
        key = "" if has_key else ", or set HF_TOKEN if it is private"
        return (
            f"Repository {source.repo} not found on Hugging Face, or it is not readable.",
            f"Check its name in the registry{key}.",
        )
    host = urlsplit(reply.url).netloc
    return (
        f"{host} refuses {source}: {reply.status} {said}".rstrip() + ".",
        f"See {page}." if host == "huggingface.co" else f"It is what HF_ENDPOINT names; {page} may have it.",
    )


def _civitai(source: CivitaiSource, reply: Reply, has_key: bool) -> tuple[str, str]:
    """Tell CivitAI's refusals apart."""
    said = _said(reply)
    if reply.status == 401 and (_LOGIN in said or not has_key):
        if has_key:
            return (
                f"{source} needs a login and CivitAI does not accept the key in CIVITAI_TOKEN.",
                "Make a new key in the account settings of civitai.com.",
            )
        return (
            f"The creator of {source} gives it to logged-in users only and CIVITAI_TOKEN is not set.",
            "Make an API key in the account settings of civitai.com and set CIVITAI_TOKEN.",
        )
    if reply.status == 401:
        return (
            "CivitAI does not accept the key in CIVITAI_TOKEN.",
            "Make a new key in the account settings of civitai.com.",
        )
    if reply.status == 403 and "Early Access" in said:
        return (f"{source} is in early access on CivitAI.", "Buy access there, or wait until it ends.")
    if reply.status == 404:
        return (
            f"CivitAI has no model version {source.version_id}.",
            (
                "Take the number after modelVersionId= in the address of the model's page; "
                "an unpublished version is gone. One that only civitai.red shows: set CIVITAI_URL=https://civitai.red"
            ),
        )
    return (f"CivitAI refuses {source}: {reply.status} {said}".rstrip() + ".", "See civitai.com.")


def _said(reply: Reply) -> str:
    """The server's own words: a header, or the JSON of either service."""
    header = reply.headers.get("x-error-message")
    if header:
        return header
    try:
        body: Any = json.loads(reply.content)
    except ValueError:
        return ""
    if not isinstance(body, Mapping):
        return ""
    words = [body.get(key) for key in ("error", "message")]
    return ": ".join(word for word in words if isinstance(word, str))
