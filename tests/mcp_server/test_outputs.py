"""Where the MCP server writes, and what it may read as an input."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import InvalidArgument, SourceMissing
from mcp_server.output_dir import Outputs


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "outputs", now=lambda: datetime(2026, 11, 24, 4, 5, 6, tzinfo=UTC))


@pytest.mark.parametrize(
    ("verb", "name", "expected"),
    [
        ("portrait", "odin.png", "odin.png"),
        ("tts", "odin/speech", "odin/speech.flac"),
        ("talk", "odin/../thor.mp4", "thor.mp4"),
        ("imagine", "a.b/ship.webp", "a.b/ship.webp"),
    ],
)
def test_a_name_is_a_place_below_the_folder(outputs: Outputs, verb: str, name: str, expected: str) -> None:
    """A result goes below the output folder, with the verb's suffix where it has none."""
    assert outputs.path_for(verb, name) == outputs.root / expected


def test_an_absolute_name_below_the_folder_is_taken(outputs: Outputs) -> None:
    """The path that an earlier answer showed can be given back."""
    path = outputs.root / "odin.png"

    assert outputs.path_for("portrait", str(path)) == path


@pytest.mark.parametrize(
    "name",
    [
        "../odin.png",
        "/etc/cron.d/odin",
        "a/../../odin.png",
        "a\0b",
        ".",
        "link/odin.png",
        "C:\\x\\a.png",
        "x" * 300,
        "\ud83d.png",
        "con.png",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(outputs: Outputs, tmp_path: Path, name: str) -> None:
    """Neither dots nor an absolute path nor a link lead out, and the folder itself is no file."""
    outputs.root.mkdir()
    (outputs.root / "link").symlink_to(tmp_path)

    with pytest.raises(InvalidArgument, match="output"):
        outputs.path_for("portrait", name)


def test_made_up_names_say_what_and_when(outputs: Outputs) -> None:
    """Without a name, the file is called by verb and time, and two calls never collide."""
    first, second = (outputs.path_for("tts", None) for _ in range(2))

    assert first != second
    assert first.name.startswith("tts-20261124-040506-")
    assert first.suffix == ".flac"


def test_an_address_leads_back_to_its_file(outputs: Outputs) -> None:
    """A resource address holds any name, and one without a file is told so."""
    path = outputs.root / "größe 50%" / "odin #1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    uri = outputs.uri(path)
    assert uri is not None

    assert uri.isascii()
    assert outputs.at(uri) == path
    assert outputs.uri(outputs.root.parent / "other.png") is None
    with pytest.raises(SourceMissing, match=r"File 'gone\.png' not found"):
        outputs.at("comfyform://outputs/gone.png")
    with pytest.raises(InvalidArgument):
        outputs.at("comfyform://outputs/%2e%2e/other.png")


def test_an_input_may_be_an_earlier_result(outputs: Outputs) -> None:
    """Its name and its address mean the file; other names are passed on as they are."""
    outputs.root.mkdir()
    speech = outputs.root / "speech.flac"
    speech.write_bytes(b"fLaC")

    assert outputs.source("speech.flac") == str(speech)
    assert outputs.source("comfyform://outputs/speech.flac") == str(speech)
    assert outputs.source("avatars/odin.png") == "avatars/odin.png"
    assert outputs.source("https://example.com/a.png") == "https://example.com/a.png"


def test_only_media_files_are_sent(outputs: Outputs, tmp_path: Path) -> None:
    """A private key is not uploaded as a portrait, whoever asks for it."""
    key = tmp_path / "id_ed25519"
    key.write_text("secret")
    picture = tmp_path / "me.jpg"
    picture.write_bytes(b"\xff\xd8\xff\xe0")

    assert outputs.source(str(picture)) == str(picture)
    with pytest.raises(InvalidArgument, match="not an image, audio or video file"):
        outputs.source(str(key))


def test_the_content_decides_and_not_the_name(outputs: Outputs, tmp_path: Path) -> None:
    """A key under a picture's name, by a link, a hard link or a new name, and a device, are not sent."""
    key = tmp_path / "id_ed25519"
    key.write_text("KEY")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.png").symlink_to(key)
    (tmp_path / "hard.png").hardlink_to(key)
    (tmp_path / "renamed.png").write_text("AKIA")
    (tmp_path / "frames.png").write_bytes(b"\xff\xfb\x90\x00")

    for path in ("folder/link.png", "hard.png", "renamed.png", "frames.png", "id_ed25519"):
        with pytest.raises(InvalidArgument, match="is not sent"):
            outputs.source(str(tmp_path / path))
    for device in ("/dev/stdin", "/proc/self/environ", "/dev/zero"):
        with pytest.raises(InvalidArgument, match="is not sent"):
            outputs.source(device)


@pytest.mark.slow
@given(
    st.text() | st.sampled_from(["data:image/png;base64," + "A/" * 500_000, "x/" * 5_000, "~nouser/a", "a\0"])
)
@settings(max_examples=200)
def test_any_text_is_an_input_or_a_sentence(text: str) -> None:
    """Never another error, and never seconds of the server's loop."""
    outputs = Outputs(Path("/nonexistent"))
    try:
        assert outputs.source(text) == text
    except (InvalidArgument, SourceMissing) as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 1000
