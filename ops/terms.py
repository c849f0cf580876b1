"""What a source's page says of a model: its licence, whether it is gated, what kind of model it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from backend.errors import SourceMissing, Unavailable
from backend.flow import Send, ask
from ops.source_names import CivitaiSource, HfSource, Source
from ops.sources import Sources, primary_file

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
        gated: a licence must be accepted there first.
        folder: the category under the models root, where it follows from the page.
        filename: what the file is called there, where the source itself does not say.
    """

    license: str = "unknown"
    gated: bool = False
    folder: str | None = None
    filename: str | None = None


def read_terms(source: Source, sources: Sources) -> Terms:
    """Ask a source's service what its page says.

    Raises:
        SourceMissing: there is no such page, or it may not be read.
        ApiError: the service does not answer.
    """
    match source:
        case HfSource():
            return _hugging_face(source, sources)
        case CivitaiSource():
            url = f"{sources.civitai_url}/api/v1/model-versions/{source.version_id}"
            step = Send("GET", url, key=sources.civitai_token)
            return _civitai(sources.http.run(ask(step, f"Look for {source}")).object())
        case _:
            return Terms()


def _hugging_face(source: HfSource, sources: Sources) -> Terms:
    """Read a repository's card, which is public also where its files are not."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    token = sources.hf_token.reveal() if sources.hf_token else False
    try:
        info = HfApi(endpoint=sources.hf_endpoint, token=token).model_info(source.repo, timeout=30)
    except RepositoryNotFoundError:
        raise SourceMissing(
            f"There is no repository {source.repo} on Hugging Face that may be read.",
            hint="Check its name, or set HF_TOKEN if it is private.",
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"Hugging Face does not answer for {source.repo} ({type(error).__name__})."
        ) from None
    card = info.card_data
    name = card.get("license") if card else None
    if card and name == "other":
        name = card.get("license_name") or name
    if not name:
        name = next((tag[8:] for tag in info.tags or () if tag.startswith("license:")), None)
    return Terms(str(name or "unknown"), bool(info.gated))


def _civitai(version: Mapping[str, Any]) -> Terms:
    """Read a version's metadata."""
    model = version.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    name = primary_file(version).get("name")
    return Terms(folder=_CIVITAI_FOLDERS.get(str(kind)), filename=name if isinstance(name, str) else None)
