"""What a source's page says of a model: its license, whether it is gated, what kind of model it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import ApiError
from backend.flow import Retry, Send, ask
from backend.validation.json_reader import as_object, as_texts
from backend.validation.printable import visible
from ops.models.source_url import CivitaiSource, HfSource, Source
from ops.sources.civitai import chosen_file
from ops.sources.origins import Sources

_RETRY: Final = Retry(attempts=3)
# CivitAI's types of models, where ComfyUI has a folder for them.
# Source: developer.civitai.com, enums, read 2026-11.
_CIVITAI_FOLDERS: Final = {
    "Checkpoint": "checkpoints",
    "LORA": "loras",
    "LoCon": "loras",
    "DoRA": "loras",
    "TextualInversion": "embeddings",
    "VAE": "vae",
    "Controlnet": "controlnet",
    "Upscaler": "upscale_models",
    "Hypernetwork": "hypernetworks",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a page says.

    Attributes:
        license: as the page names it, or ``unknown``.
        gated: a license must be accepted there first.
        folder: the category under the models root, where it follows from the page.
        filename: what the file is called there, where the source itself does not say.
        warning: why the page could not be read, where it could not; None otherwise.
        note: what its author says about using it, for people.
        early_access: until when only those who paid may have it.
    """

    license: str = "unknown"
    gated: bool = False
    folder: str | None = None
    filename: str | None = None
    warning: str | None = None
    note: str = ""
    early_access: str = ""


def read_terms(source: Source, sources: Sources) -> Terms:
    """Ask a source's service what its page says. A model card that cannot be read is only a warning.

    Raises:
        ApiError: CivitAI does not answer.
    """
    match source:
        case HfSource():
            return _hugging_face(source, sources)
        case CivitaiSource():
            url = f"{sources.civitai_url}/api/v1/model-versions/{source.version_id}"
            step = Send("GET", url, key=sources.civitai_token)
            return version_terms(source, sources.http.run(ask(step, f"Look for {source}")).object())
        case _:
            return Terms()


def _hugging_face(source: HfSource, sources: Sources) -> Terms:
    """Read a repository's card, which is public also where its files are not.

    Source: Hugging Face's Hub API, ``GET /api/models/{repo}``, read 2026-11.
    """
    url = f"{sources.hf_endpoint}/api/models/{source.repo}"
    step = Send("GET", url, key=sources.hf_token)
    try:
        info = as_object(sources.http.run(ask(step, "Read the model card", retry=_RETRY)).json())
    except ApiError as error:
        return Terms(warning=f"The license of {source.repo} is unknown: {error.message}")
    return repository_terms(info)


def repository_terms(info: Mapping[str, Any]) -> Terms:
    """Read what Hugging Face's API answers about a repository."""
    card = as_object(info.get("cardData"))
    name = card.get("license")
    if name == "other":
        name = card.get("license_name") or name
    if not name:
        tags = as_texts(info.get("tags") or [])
        name = next((tag[8:] for tag in tags if tag.startswith("license:")), None)
    return Terms(", ".join(as_texts(name)) or "unknown", info.get("gated") not in (None, False, "", "false"))


def version_terms(source: CivitaiSource, version: Mapping[str, Any]) -> Terms:
    """Read what CivitAI's API answers about a version."""
    kind = as_object(version.get("model")).get("type")
    file = chosen_file(version, source)
    name, words, base = file.get("name"), version.get("trainedWords"), version.get("baseModel")
    spoken = [word.strip() for word in words if isinstance(word, str)] if isinstance(words, list) else []
    parts = [
        f"Base model: {base}." if isinstance(base, str) and base else "",
        f"Trigger words: {'; '.join(spoken)}." if spoken else "",
    ]
    early = version.get("availability") == "EarlyAccess"
    return Terms(
        folder="vae" if file.get("type") == "VAE" else _CIVITAI_FOLDERS.get(str(kind)),
        filename=name if isinstance(name, str) else None,
        note=visible(" ".join(filter(None, parts)), lines=False)[:500],
        early_access=str(version.get("earlyAccessEndsAt") or "a date that CivitAI does not say")
        if early
        else "",
    )
