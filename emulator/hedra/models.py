"""Hedra's models: what each takes, in JSON Schema as `GET /models/{id}` shows it, and what it costs.

Source: Hedra API v3 documentation and schemas, read 2026-10 (input schemas of spec 3.9.0 to 3.17.8);
prices are inferred from public price lists.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emulator.document import Document

RETIRED = {"hedra-character-2": "hedra-avatar"}
AVATAR_RATIOS = ["1:1", "4:3", "3:4", "16:9", "9:16", "9:21", "21:9"]
IMAGE_SIZES = ["540p", "720p", "1080p", "1440p (2K QHD)", "2160p (4K UHD)"]
MB = 1024 * 1024

KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
TEXT = {"type": "string", "pattern": r"\S"}


def media(kind: str, max_bytes: int, **more: Any) -> Document:
    """Describe a reference to a file or to an earlier output; `x-media` is what its bytes must be."""
    file = {"source": {"const": "url"}, "url": {"type": "string"}}
    asset = {"source": {"const": "asset"}, "asset_id": {"type": "string", "pattern": "^asset_"}}
    variants = [
        {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        for properties in (file, asset)
    ]
    return {"oneOf": variants, "x-media": kind, "x-max-bytes": max_bytes, **more}


def body(required: dict[str, Document], optional: dict[str, Document]) -> Document:
    """Describe an input: an object with these properties and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": [*required],
        "additionalProperties": False,
    }


def choice(*values: str) -> Document:
    """Describe a string out of a list."""
    return {"type": "string", "enum": list(values)}


def number(low: float, high: float, kind: str = "number") -> Document:
    """Describe a number in a range."""
    return {"type": kind, "minimum": low, "maximum": high}


_AVATAR = body(
    {
        "prompt": TEXT,
        "aspect_ratio": choice(*AVATAR_RATIOS),
        "resolution": choice("540p", "720p", "1080p"),
        "start_image": media("image", 10 * MB),
        "audio": media("audio", 100 * MB),
    },
    {
        "duration_ms": number(1, 600_000, "integer"),
        "bounding_box_target": {"type": "array", "items": number(0, 1), "minItems": 2, "maxItems": 2},
        "num_outputs": number(1, 1, "integer"),
    },
)


def _speech(max_letters: int) -> Document:
    return body(
        {"text": {**TEXT, "maxLength": max_letters}, "voice_id": {"type": "string", "pattern": "^voice_"}},
        {"speed": number(0.7, 1.2), "stability": number(0, 1), "language": {"type": "string"}},
    )


def _image(**more: Document) -> Document:
    return body(
        {"prompt": TEXT, "aspect_ratio": choice(*AVATAR_RATIOS), "resolution": choice(*IMAGE_SIZES)},
        {
            "seed": number(0, 2**32 - 1, "integer"),
            "guidance_scale": number(1, 20),
            "num_inference_steps": number(1, 50, "integer"),
            "output_format": choice("jpeg", "png"),
            "enhance_prompt": {"type": "boolean"},
            **more,
        },
    )


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `usd` is the price of a second of video, of 1000 letters, or of a picture."""

    id: str
    modality: str
    name: str
    input_schema: Document
    usd: float

    def shown(self, *, whole: bool) -> Document:
        """Return the model as the API shows it, with its schemas when `whole`."""
        unit = {"video": "second", "audio": "1000 characters", "image": "image"}[self.modality]
        document: Document = {
            "id": self.id,
            "modality": self.modality,
            "name": self.name,
            "description": f"{self.name}, emulated",
            "price_description": f"${self.usd} per {unit}",
            "logo_url": None,
        }
        if whole:
            document |= {"input_schema": self.input_schema, "output_schema": {"type": "object"}}
        return document

    def cost_usd(self, settings: Document, seconds: float) -> float:
        """Return the price of one job; `seconds` is the length of its audio."""
        if self.modality == "audio":
            return round(self.usd * len(settings["text"]) / 1000, 4)
        if self.modality == "video":
            wanted_s: float = settings.get("duration_ms", seconds * 1000) / 1000
            return round(self.usd * wanted_s, 4)
        return self.usd


MODELS = {
    model.id: model
    for model in (
        Model("hedra-avatar", "video", "Hedra Avatar", _AVATAR, 0.05),
        Model("hedra-character-3", "video", "Hedra Character 3", _AVATAR, 0.05),
        Model("elevenlabs-v3", "audio", "ElevenLabs v3", _speech(5000), 0.11),
        Model("elevenlabs-multilingual-v2", "audio", "ElevenLabs Multilingual v2", _speech(5000), 0.11),
        Model("minimax-speech-25-hd-preview", "audio", "MiniMax Speech 2.5 HD", _speech(9999), 0.11),
        Model("flux-dev", "image", "FLUX.1 dev", _image(), 0.03),
        Model("sana", "image", "Sana", _image(negative_prompt={"type": "string"}), 0.01),
        Model(
            "gpt-image-2",
            "image",
            "GPT Image 2",
            body(
                {"prompt": TEXT, "aspect_ratio": choice("16:9", "9:16", "4:3", "3:4", "1:1")},
                {"resolution": choice("1K", "2K", "4K"), "quality": choice("low", "medium", "high")},
            ),
            0.06,
        ),
    )
}

VOICES = [
    {
        "id": f"voice_{uuid.uuid5(uuid.NAMESPACE_DNS, name)}",
        "name": name,
        "preview_url": None,
        "labels": {"gender": gender, "language": "en"},
    }
    for name, gender in (("Aria", "female"), ("Brian", "male"), ("Charlotte", "female"))
]


def problems(schema: Document, value: Any, field: str = "input") -> Iterator[Document]:
    """Yield every way in which a value breaks a schema, as `details` of an error."""
    required = schema.get("type")
    if "oneOf" in schema:
        yield from _reference(schema, value, field)
    elif required and (
        not isinstance(value, KINDS[required]) or (isinstance(value, bool) and required != "boolean")
    ):
        yield _detail(field, "type", f"must be of type {required}")
    elif required == "object":
        yield from _object(schema, value, field)
    elif required == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield _detail(field, "minItems", f"must have {schema['minItems']} items")
        for index, item in enumerate(value):
            yield from problems(schema["items"], item, f"{field}.{index}")
    elif "enum" in schema and value not in schema["enum"]:
        yield _detail(field, "enum", "must be one of the allowed values", allowed=schema["enum"])
    elif "const" in schema and value != schema["const"]:
        yield _detail(field, "enum", "must be one of the allowed values", allowed=[schema["const"]])
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield _detail(
            field, "pattern", "must not be blank" if schema["pattern"] == r"\S" else "has a wrong form"
        )
    elif "maxLength" in schema and len(value) > schema["maxLength"]:
        yield _detail(field, "maxLength", f"must have at most {schema['maxLength']} characters")
    elif "minimum" in schema and value < schema["minimum"]:
        yield _detail(field, "minimum", f"must be at least {schema['minimum']}")
    elif "maximum" in schema and value > schema["maximum"]:
        yield _detail(field, "maximum", f"must be at most {schema['maximum']}")


def _object(schema: Document, value: Document, field: str) -> Iterator[Document]:
    for name in schema["required"]:
        if name not in value:
            yield _detail(f"{field}.{name}", "required", "is required")
    for name, item in value.items():
        if name in schema["properties"]:
            yield from problems(schema["properties"][name], item, f"{field}.{name}")
        else:
            yield _detail(f"{field}.{name}", "additionalProperties", "is not allowed")


def _reference(schema: Document, value: Any, field: str) -> Iterator[Document]:
    if not isinstance(value, dict) or value.get("source") not in ("url", "asset"):
        yield _detail(
            f"{field}.source", "enum", "must be one of the allowed values", allowed=["url", "asset"]
        )
        return
    yield from problems(schema["oneOf"][value["source"] == "asset"], value, field)


def _detail(field: str, reason: str, message: str, **more: Any) -> Document:
    return {"field": field, "message": f"{field} {message}", "reason": reason, **more}
