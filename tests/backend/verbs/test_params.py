"""Arguments: what is refused before anything is sent, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict, get_type_hints

import pytest

from backend import GeneratedFile, InvalidArgument, contract
from backend.settings import listed
from backend.verbs import lipsync, tts
from backend.verbs.catalog import find, verbs
from backend.verbs.params import Param, table_of
from backend.verbs.request import read
from backend.verbs.talk import VERB as TALK
from backend.verbs.talk import parts


@pytest.mark.parametrize("name", verbs())
def test_a_verb_is_the_module_of_its_name(name):
    """It is found by its file's name, and has every word that the surfaces show."""
    verb = find(name)

    assert verb.name == name
    assert verb.summary.endswith(".")
    assert all(param.sentence.endswith(".") for param in verb.params.values())
    assert "output_path" in verb.params


def test_the_types_are_the_table():
    """A type checker and the table of checks read the same declaration: type, bounds, choices, required."""
    table = find("lipsync").params

    assert list(table) == list(get_type_hints(lipsync.LipSyncParams))
    assert {name for name, spec in table.items() if spec.required} == {"portrait_image", "audio"}
    assert table["dtype"].choices == ("fp16", "fp32", "bf16")
    assert (table["fps"].what, table["fps"].default, table["fps"].high) == ("number", 25.0, 120)
    assert (table["audio"].what, table["use_interframe"].what) == ("input", "boolean")


class Untyped(TypedDict):
    size: tuple[int, int]


class Unreadable(TypedDict):
    size: Annotated[tuple[int, int], Param("Width and height.")]


@pytest.mark.parametrize(
    ("declared", "message"),
    [(Untyped, r"size must be Annotated\[type, Param"), (Unreadable, "size must have one of the types")],
)
def test_a_declaration_that_cannot_be_checked_is_refused(declared, message):
    """Every argument needs a description, and a type that can be checked."""
    with pytest.raises(TypeError, match=message):
        table_of(declared)


def test_an_unknown_verb_is_refused():
    """A module that defines no verb is refused too, and so is a value that is not a text."""
    names: list[Any] = ["portrat", "params", "", None, ["portrait"]]
    for name in names:
        with pytest.raises(InvalidArgument, match="Unknown verb") as caught:
            find(name)
        assert caught.value.hint == "Choose one of imagine, lipsync, portrait, talk, tts, workflow."


def test_the_contract_names_the_verbs():
    """`backend.contract` lists them without a list of its own, and what a worker does besides."""
    assert tuple(verbs()) == contract.VERBS
    others = {"health", "debug", *contract.MODEL_ACTIONS, *contract.RUNTIME_ACTIONS}
    assert set(contract.ACTIONS) == {*verbs(), *others}


def test_talk_hands_every_argument_to_a_verb_that_takes_it():
    """Each argument of ``talk`` is an argument of one of its parts."""
    assert [name for name in TALK.params if name not in {*tts.VERB.params, *lipsync.VERB.params}] == []
    assert TALK.parts == ("tts", "lipsync")


@pytest.mark.parametrize(
    ("verb", "inputs", "message"),
    [
        ("portrait", {}, "prompt is missing"),
        ("portrait", {"prompt": "  "}, "prompt must not be empty"),
        (
            "portrait",
            {"prompt": "x", "wdth": 64},
            "'wdth' is not an argument of portrait (did you mean 'width'?)",
        ),
        ("portrait", {"prompt": "x", "width": 65}, "width must be a multiple of 8, got 65"),
        ("portrait", {"prompt": "x", "steps": 0}, "steps must be from 1 to 200, got 0"),
        ("portrait", {"prompt": "x", "steps": True}, "steps must be a number, not True"),
        ("portrait", {"prompt": "x", "steps": 1.5}, "steps must be a whole number, not 1.5"),
        ("portrait", {"prompt": "x", "cfg_scale": float("nan")}, "cfg_scale must be a number, not nan"),
        (
            "portrait",
            {"prompt": "x", "loras": ["a", {"b": 1}]},
            "loras has an entry without a name: {'b': 1}",
        ),
        ("portrait", {"prompt": "x", "loras": [{"name": "a", "strength": 1}]}, "unknown keys: strength"),
        ("imagine", {"description": "x", "quality": "best"}, "must be one of draft, standard, high, ultra"),
        (
            "lipsync",
            {"portrait_image": "a.png", "audio": "b", "seed": 2**31},
            "must be from -1 to 2147483647",
        ),
        # F5-TTS takes seeds of 31 bits.
        ("tts", {"text": "x", "voice_reference": "v.wav", "seed": 2**31}, "must be from -1 to 2147483647"),
        ("lipsync", {"portrait_image": "/no/such.png", "audio": "b"}, "not found on this machine"),
        ("lipsync", {"portrait_image": Path("no.png"), "audio": "b"}, "not found on this machine"),
        ("lipsync", {"portrait_image": "../no/such.png", "audio": "b"}, "not found on this machine"),
        ("lipsync", {"portrait_image": "a/../../b", "audio": "b"}, "must stay inside ComfyUI's input folder"),
        ("lipsync", {"portrait_image": 5, "audio": "b"}, "must be a path, a name"),
        ("workflow", {"graph": []}, "graph must be a workflow in API format"),
        ("workflow", {"graph": "workflow.json"}, "graph must be a workflow in API format"),
        ("tts", {"text": "x", "voice_reference": "v.wav", "vocoder": "best"}, "one of auto, vocos, bigvgan"),
    ],
)
def test_a_wrong_argument_is_named(verb, inputs, message):
    """One sentence: which argument, what it is, what it must be."""
    with pytest.raises(InvalidArgument) as caught:
        read(verb, inputs)

    assert message in str(caught.value)


def test_all_problems_are_said_at_once():
    """Nobody has to try five times."""
    with pytest.raises(InvalidArgument) as caught:
        read("portrait", {"width": 7, "steps": "many", "colour": "red"})

    message = str(caught.value)
    assert [
        word in message for word in ("colour", "prompt is missing", "width must be", "steps must be")
    ] == [True] * 4


def test_none_means_not_given():
    """A program may pass on what it does not have; the default holds."""
    request = read("portrait", {"prompt": "x", "seed": None, "negative_prompt": None})

    assert dict(request.given) == {"prompt": "x"}
    assert (request["seed"], request["negative_prompt"]) == (None, "low quality, blurry")


def test_inputs_are_paths_names_addresses_or_results(tmp_path):
    """A path that exists is a file here; any other relative name is ComfyUI's own."""
    here = tmp_path / "face.png"
    here.write_bytes(b"x")
    created = GeneratedFile(type="audio", filename="s.flac")

    assert read("lipsync", {"portrait_image": str(here), "audio": created}).given == {
        "portrait_image": here,
        "audio": created,
    }
    assert read("lipsync", {"portrait_image": "avatars/odin.png", "audio": "https://h/a.wav"}).given == {
        "portrait_image": "avatars/odin.png",
        "audio": "https://h/a.wav",
    }


def test_talk_is_split_between_its_verbs(tmp_path):
    """Both halves are checked before either runs, and the speech is kept where it is made."""
    inputs = {"text": "x", "voice_reference": "v.wav", "portrait_image": "a.png", "fps": 30, "seed": 4}
    speech, video = parts(read("talk", {**inputs, "output_path": tmp_path / "f.mp4"}))

    assert (speech["seed"], video["seed"], video["fps"]) == (4, 4, 30)
    assert (speech.keep_there, speech.output_path, video.output_path) == (True, None, tmp_path / "f.mp4")
    with pytest.raises(InvalidArgument, match="fps must be from 5 to 120, got 1"):
        read("talk", {**inputs, "fps": 1})
    with pytest.raises(InvalidArgument, match="'colour' is not an argument"):
        read("talk", {**inputs, "colour": "red"})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ("a", "b")),
        (" a , ,b,", ("a", "b")),
        ('"models/loras/a, b.safetensors"', ("models/loras/a, b.safetensors",)),
        ('"a, b", c', ("a, b", "c")),
        ("", ()),
    ],
)
def test_a_name_with_a_comma_goes_in_quotes(text: str, names: tuple[str, ...]):
    """Commas separate names, and may be part of one."""
    assert listed(text) == names
