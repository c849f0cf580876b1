"""What clients are shown of each tool, and what happens to arguments that do not fit."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backend.errors import InvalidArgument
from backend.verbs.catalog import find
from mcp_server import arguments, schemas

VERBS = ("portrait", "tts", "lipsync", "imagine", "talk")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_schema_is_json_schema_and_complete(verb: str) -> None:
    """Each parameter is there with a type and a sentence, and unknown ones are refused."""
    schema = schemas.for_verb(verb)
    Draft202012Validator.check_schema(schema)

    properties = schema["properties"]
    assert schema["additionalProperties"] is False
    assert [name for name, each in properties.items() if not each["description"] or not each["type"]] == []
    assert {"output_path", "backend", "timeout_s", "confirm"} < set(properties)
    assert set(find(verb).params) < set(properties)


def test_the_backends_own_table_decides_what_is_required() -> None:
    """What the backend insists on, the schema insists on."""
    assert schemas.for_verb("talk")["required"] == ["text", "voice_reference", "portrait_image"]
    assert schemas.for_verb("portrait")["required"] == ["prompt"]


def test_a_seed_survives_every_json() -> None:
    """No larger integer is offered than a client's JavaScript can hold."""
    assert schemas.for_verb("portrait")["properties"]["seed"]["maximum"] == 2**53 - 1


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "portrait: prompt must be given."),
        ({"prompt": 3}, "portrait: prompt must be of type string, not 3."),
        ({"prompt": "x", "seed": "7"}, "portrait: seed must be of type integer, not '7'."),
        ({"prompt": "x", "steps": 0}, "portrait: steps must be at least 1, not 0."),
        ({"prompt": "x", "width": 100}, "portrait: width must be a multiple of 8, not 100."),
        ({"prompt": ""}, "portrait: prompt must not be empty."),
    ],
)
def test_a_wrong_argument_is_named(inputs: dict[str, Any], sentence: str) -> None:
    """The sentence says which argument, what it should be, and what it was."""
    with pytest.raises(InvalidArgument) as caught:
        arguments.check("portrait", schemas.for_verb("portrait"), inputs)

    assert str(caught.value) == sentence


def test_all_wrong_arguments_are_named_at_once() -> None:
    """A model mends everything in one go."""
    with pytest.raises(InvalidArgument) as caught:
        arguments.check("tts", schemas.for_verb("tts"), {"speed": 9, "vocoder": "x", "colour": "red"})

    assert str(caught.value).startswith(
        "tts: text and voice_reference must be given; unknown argument 'colour'; available: text, "
    )
    assert "speed must be at most 4, not 9" in str(caught.value)
    assert "vocoder must be one of auto, vocos, bigvgan, not 'x'" in str(caught.value)


def test_a_long_wrong_value_is_not_repeated_whole() -> None:
    """An answer stays readable whatever was sent: a model that pastes a file as a width, or as a name."""
    for inputs in ({"width": "x" * 100_000}, {"x" * 100_000: 1}, {"sampler": ["x" * 100_000]}):
        with pytest.raises(InvalidArgument) as raised:
            arguments.check("portrait", schemas.for_verb("portrait"), {"prompt": "Odin", **inputs})
        assert len(str(raised.value)) < 1000
