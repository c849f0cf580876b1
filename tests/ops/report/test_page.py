"""The report page: whole in itself, safe with any text, and readable without eyes."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ops.files.mime_type import mime_type
from ops.report.html import element, size
from ops.report.model import Cost, Job, JobFile, Model, Problem, Report, Resource, Section
from ops.report.page import EMBED_FILE_BYTES, draw

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
VOID = {"meta", "link", "img", "wbr", "br"}
HOSTILE = '<script src="https://evil.example/x.js">&"\''


class Page(HTMLParser):
    """Every element of a page, with its attributes and text; complains about a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text: list[str] = []
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self._open.append((tag, text))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert tag == opened

    def handle_data(self, data: str) -> None:
        for _, text in self._open:
            text.append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, "".join(text).strip()) for name, attributes, text in self.elements if name == tag
        ]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, JobFile]:
    created = {}
    for kind, name in (("image", "odin.png"), ("audio", "speech.flac"), ("video", "odin.mp4")):
        path = tmp_path / name
        path.write_bytes(f"the bytes of {name}".encode())
        created[kind] = JobFile(type=kind, name=name, path=path, size_bytes=path.stat().st_size)
    return created


def job(**changes: Any) -> Job:
    facts = {
        "identifier": "job-1",
        "verb": "portrait",
        "backend": "runpod",
        "started_at": NOW,
        "state": "succeeded",
    }
    return Job(**{**facts, **changes})


def problem(section: Section, sentence: str) -> Problem:
    return Problem(section=section, sentence=sentence, exit_code=3)


def report(**parts: Any) -> Report:
    return Report(title="demo", made_at=NOW, **parts)


def full(files: dict[str, JobFile]) -> Report:
    return report(
        resources=(
            Resource(kind="GPU endpoint", name="gpu", identifier="ep_1", state="idle", note="0 to 3"),
        ),
        models=(
            Model(
                name="SVD",
                path="models/checkpoints/svd.safetensors",
                size_bytes=4,
                state="missing",
                reason="gone",
            ),
            Model(
                name="XL",
                path="models/checkpoints/xl.safetensors",
                size_bytes=8,
                state="in place",
                reason="same",
            ),
        ),
        jobs=tuple(
            job(verb=verb, files=(files[kind],), summary=f"a {kind}")
            for verb, kind in (("portrait", "image"), ("tts", "audio"), ("lipsync", "video"))
        ),
        costs=(
            Cost(what="Volume", basis="50 GB", monthly_usd=3.5),
            Cost(what="GPU", basis="3", hourly_usd=2.07),
        ),
        problems=(problem("stack", "The volume did not answer."),),
    )


def test_the_page_asks_nobody_for_anything(files: dict[str, JobFile]) -> None:
    """Everything it shows is inside it, and its policy forbids the rest."""
    page = Page(draw(full(files)))

    sources = [
        a[name] for _, a, _ in page.elements for name in ("src", "href", "poster", "srcset") if name in a
    ]
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    within = [url for url in sources if str(url).startswith("#")]
    assert len(sources) - len(within) == 4  # three files and the icon
    assert [url for url in sources if not str(url).startswith(("data:", "#"))] == []
    assert str(policy).startswith("default-src 'none'")
    assert page.all("script") == []
    assert re.findall(r"url\(|@import", draw(full(files))) == []


def test_pictures_speech_and_film_are_in_the_page(files: dict[str, JobFile]) -> None:
    """An image has an alternative text; players have controls and a name."""
    page = Page(draw(full(files)))

    assert [a["alt"] for a, _ in page.all("img")] == ["portrait: a image"]
    for tag, name in (("audio", "tts: a audio"), ("video", "lipsync: a video")):
        [(attributes, _)] = page.all(tag)
        assert attributes["aria-label"] == name
        assert "controls" in attributes


def test_sections_and_tables_have_names(files: dict[str, JobFile]) -> None:
    """Each section is labelled by its heading, each table has a caption and headings with a scope."""
    page = Page(draw(full(files)))

    headings = {a["id"]: text for a, text in page.all("h2")}
    assert [headings[a["aria-labelledby"]] for a, _ in page.all("section")] == [
        "What this page could not find out",
        "Stack",
        "Recent jobs",
        "Models",
        "Costs",
    ]
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert [a for a, _ in page.all("th") if a.get("scope") not in {"row", "col"}] == []
    assert page.all("html")[0][0]["lang"] == "en"
    assert len(page.all("h1")) == 1


def test_what_is_wrong_comes_first(files: dict[str, JobFile]) -> None:
    """A missing model stands above one that is in place, and the summary counts them."""
    page = Page(draw(full(files)))

    rows = [text for a, text in page.all("th") if a.get("scope") == "row"]
    figures = [text for a, text in page.all("dd") if "figure" in (a.get("class") or "")]
    assert next(row for row in rows if "safetensors" in row).startswith("SVD")
    assert figures == ["1 of 2", "0 of 3", "$3.50", "$2.07"]


def test_no_text_becomes_markup() -> None:
    """Names, prompts and errors from outside stay text, wherever they stand."""
    page = Page(
        draw(
            Report(
                title=HOSTILE,
                made_at=NOW,
                problems=(problem("models", HOSTILE),),
                resources=(
                    Resource(kind=HOSTILE, name=HOSTILE, identifier=HOSTILE, state=HOSTILE, note=HOSTILE),
                ),
                models=(Model(name=HOSTILE, path=HOSTILE, size_bytes=1, state="extra", reason=HOSTILE),),
                jobs=(job(summary=HOSTILE, error=HOSTILE, identifier=HOSTILE),),
                costs=(Cost(what=HOSTILE, basis=HOSTILE),),
            )
        )
    )

    assert page.all("script") == []
    assert page.all("h1")[0][1] == HOSTILE


def test_a_file_that_is_too_large_or_gone_is_named_instead(files: dict[str, JobFile], tmp_path: Path) -> None:
    """A big film is given by its path, a deleted one by its name; the page stays light."""
    big = JobFile(type="video", name="big.mp4", path=tmp_path / "big.mp4", size_bytes=EMBED_FILE_BYTES + 1)
    gone = JobFile(type="image", name="gone.png", path=None, size_bytes=10)
    page = Page(draw(report(jobs=(job(files=(big, gone)),))))

    captions = [text for _, text in page.all("figcaption")]
    assert page.all("video") == page.all("img") == []
    assert captions == [f"{tmp_path / 'big.mp4'} · 12.00 MB", "gone.png · 10 B · not on this machine"]


def test_an_empty_report_says_so() -> None:
    """With nothing deployed and nothing run, each section says what that means."""
    page = Page(draw(report(deployed=False)))

    assert [text for _, text in page.all("p")][1:] == [
        "No setting speaks of RunPod: this page is of this machine alone.",
        "No job was run from this machine yet.",
        "The registry names no models.",
        "Nothing is deployed that would cost anything.",
    ]


def test_a_section_says_what_it_lacks(files: dict[str, JobFile]) -> None:
    """A problem stands on top with a link to its section, and in the section, beside what is known."""
    page = Page(draw(full(files)))
    bare = Page(draw(report(problems=(problem("models", "There is no registry."),))))

    assert [(a["href"], text) for a, text in page.all("a")] == [("#stack", "Stack")]
    assert [text for a, text in page.all("p") if a.get("class") == "error"] == ["The volume did not answer."]
    assert "The registry names no models." not in [text for _, text in bare.all("p")]


def test_files_that_nobody_wants_are_folded_away() -> None:
    """They are counted in words, and listed for whoever opens the list."""
    stray = [
        Model(name=name, path=f"models/{name}", size_bytes=1, state="extra", reason="") for name in ("a", "b")
    ]
    page = Page(draw(report(models=tuple(stray))))

    assert [text for _, text in page.all("summary")] == [
        "2 files on the volume that the registry does not name"
    ]
    assert [text for a, text in page.all("th") if a.get("scope") == "row"] == ["amodels/a", "bmodels/b"]


def test_models_that_nobody_looked_at_are_not_counted_as_missing() -> None:
    """Without the volume the summary says how many are wanted, and not that none is there."""
    unknown = Model(name="XL", path="models/x", size_bytes=8, state="unknown", reason="not looked at")
    page = Page(draw(report(models=(unknown,))))

    assert next(text for _, text in page.all("dt")) == "Models wanted"
    assert next(text for a, text in page.all("dd") if "figure" in (a.get("class") or "")) == "1"


def test_both_schemes_are_styled() -> None:
    """The page follows the reader's light or dark setting."""
    text = draw(report())

    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (6938078334, "6.94 GB"),
    ],
)
def test_sizes_are_shown_in_units(count: int | None, shown: str) -> None:
    """Bytes are shown with two digits behind the point and a unit; what nobody knows as a dash."""
    assert size(count) == shown


def test_an_element_keeps_text_between_its_children() -> None:
    """Text after a child stays after it."""
    created = element("p", "a", element("b", "c"), "d", None, "e", class_="x", hidden=True, title=None)

    assert [created.text, created[0].tail, created.attrib] == ["a", "de", {"class": "x", "hidden": "hidden"}]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.PNG", "image/png"), ("a.webp", "image/webp"), ("a.flac", "audio/flac"), ("a.wav", "audio/x-wav"),
        ("a.mp4", "video/mp4"), ("a.mkv", "video/x-matroska"), ("a.safetensors", "application/octet-stream"),
    ],
)  # fmt: skip
def test_media_are_known_without_the_machines_help(name: str, expected: str) -> None:
    """What the verbs make and take has its type, also where the system has no table."""
    assert mime_type(Path(name)) == expected
