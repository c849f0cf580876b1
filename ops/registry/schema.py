"""The form of a registry file: its keys, what each may hold, and the JSON Schema for editors. Pure."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from backend.errors import InvalidArgument
from backend.validation.checks import path_problem
from backend.verbs.catalog import verbs
from ops.files.yaml_positions import KeyPath, Lines
from ops.models.record import SHA256
from ops.models.source_addresses import meant_by
from ops.models.source_url import parse

SECTIONS: Final = ("required", "optional")
"""What people write; the other two sections belong to the tool."""

MOST_BYTES: Final = 4 * 10**12
"""What a file on a volume may have. Source: docs.runpod.io, serverless/storage/s3-api, read 2026-08-20."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


def _sha256(text: str) -> str:
    # CivitAI shows them in upper case.
    if not SHA256.match(text.lower()):
        raise ValueError(f"invalid sha256 {text[:70]!r}: expected 64 hex digits")
    return text.lower()


def _usable_path(text: str) -> str:
    problem = path_problem(text)
    if problem is not None:
        raise ValueError(f"{text[:100]!r} is not a usable path: {problem}")
    return text


def _known_source(text: str) -> str:
    try:
        parse(text)
    except InvalidArgument as error:
        raise ValueError(f"{error} {meant_by(text)}".rstrip(" .")) from None
    return text


def check_name(text: str) -> str:
    """Return a model's name back when it is one.

    Raises:
        ValueError: it is something else.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"invalid model name {text!r}: expected lowercase letters, digits, dots, underscores and hyphens"
        )
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Hash = Annotated[
    str, AfterValidator(_sha256), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
]


class FileShape(_Strict):
    """A file of a model."""

    path: Annotated[str, AfterValidator(_usable_path)] = Field(
        description="Where it goes under the models root, with forward slashes; "
        "for place hf_cache ORG/NAME/FILE, its place in that repository."
    )
    source: Annotated[str, AfterValidator(_known_source)] = Field(
        description="hf:ORG/NAME@REVISION:FILE, url:https://…, civitai:VERSION_ID or local:PATH.",
        json_schema_extra={"pattern": "^(hf|url|civitai|local):.+"},
    )
    size_bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)] | None = Field(None, description="Its exact size.")
    sha256: _Hash | None = Field(None, description="The hash of its bytes: 64 hex digits, in quotes.")
    place: Literal["models", "hf_cache"] = Field(
        "models", description="hf_cache: for what a node pack reads only from a Hugging Face cache."
    )
    allow_pickle: bool = Field(
        False, description="Use it although its pickled code goes beyond what weights need."
    )


MODEL_USERS: Final = tuple(name for name, verb in verbs().items() if not verb.parts)
"""Verbs that need models. One that is made of others needs what they need."""
if TYPE_CHECKING:
    ModelUser = str
else:
    ModelUser = Literal[MODEL_USERS]


class ModelShape(_Strict):
    """Files that are used together."""

    used_by: list[ModelUser] = Field([], description="Verbs that need it.")
    license: str = Field("unknown", description="SPDX id where there is one.")
    gated: bool = Field(False, description="The source requires an accepted license and a token.")
    note: str = Field("", description="A sentence for people.")
    files: list[FileShape] = Field(min_length=1)


_Name = Annotated[str, AfterValidator(check_name)]
# A section whose last entry was deleted is written as its name alone, which YAML reads as null.
_Models = Annotated[dict[_Name, ModelShape], BeforeValidator(lambda value: {} if value is None else value)]


_NAMED: Final[dict[str, Any]] = {"propertyNames": {"pattern": f"^{_NAME.pattern}$"}}


class RegistryShape(_Strict):
    """The models that a ComfyUI on RunPod needs, and where each file comes from."""

    required: _Models = Field({}, description="What pulumi up provisions.", json_schema_extra=_NAMED)
    optional: _Models = Field(
        {}, description="What inv models.sync --optional adds.", json_schema_extra=_NAMED
    )
    local_scan: Any = Field(None, description="Written by inv models.scan --write.")
    runpod_status: Any = Field(None, description="Written by inv models.compare --write.")


def json_schema() -> dict[str, Any]:
    """Return the registry's JSON Schema, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RegistryShape.model_json_schema(),
        "title": "models-registry",
    }


def valid_models(section: Any) -> dict[str, ModelShape]:
    """Return the models of a section that are in order, so that the others do not hide their problems."""
    models: dict[str, ModelShape] = {}
    for name, value in section.items() if isinstance(section, dict) else ():
        try:
            models[str(name)] = ModelShape.model_validate(value)
        except ValidationError:
            continue
    return models


def shape_problems(document: Lines) -> Iterator[tuple[int, str]]:
    """Find what is not in form: its line, and a sentence without its full stop."""
    yield from document.problems
    for location, text in document.unquoted.items():
        if _is_hash(location):
            missing = "is empty: give 64 hex digits, or leave it out"
            yield document.line(location), f"{dotted(location)} {'must be in quotes' if text else missing}"
    try:
        RegistryShape.model_validate({} if document.value is None else document.value)
    except ValidationError as error:
        for item in error.errors():
            location = tuple(part for part in item["loc"] if part != "[key]")
            if item["type"] == "string_type" and item["loc"][-1] == "[key]":
                continue  # a key that is no text: the document's own problems name it
            if not (_is_hash(location) and item["type"] == "string_type" and location in document.unquoted):
                # What is missing has no line; what lacks it does.
                where = location[:-1] if item["type"] == "missing" else location
                yield document.line(where), _sentence(location, item)


def _is_hash(location: KeyPath) -> bool:
    return location[-1:] == ("sha256",) and location[0] in SECTIONS


def _sentence(location: KeyPath, item: Any) -> str:
    """Put one of pydantic's findings into words."""
    match item["type"]:
        case "missing":
            return f"{dotted(location[:-1])} is missing {location[-1]!r}"
        case "extra_forbidden":
            return f"{dotted(location)} is an unknown key"
        case "value_error":
            return f"{dotted(location)}: {item['ctx']['error']}"
        case "dict_type" | "model_type":
            return f"{dotted(location)} must be a mapping"
        case "too_short":
            return f"{dotted(location)} is empty"
        case _:
            return f"{dotted(location)}: {item['msg'][0].lower()}{item['msg'][1:]}"


def dotted(location: KeyPath) -> str:
    """Write a key path as people do: ``required.sonic.files[0].sha256``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the registry"
