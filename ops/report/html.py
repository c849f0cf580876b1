"""One self-contained HTML page: its frame, its look, and the pieces that pages are put together from.

Pages are element trees, so that no text can become markup. The frame forbids
every request by policy: images and videos are embedded in the page.
"""

import base64
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from backend.validation.printable import visible
from ops.files.amounts import amount
from ops.files.mime_type import mime_type
from ops.report.css import STYLE

Child = Element | str | None

_POLICY: Final = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def element(name: str, /, *children: Child, **attributes: str | bool | None) -> Element:
    """Make an element.

    Args:
        name: the tag.
        children: elements and text in order; None is left out.
        attributes: an underscore stands for a dash, and one at the end is dropped (``class_``);
            True is an attribute without a value, None and False leave it out.
    """
    result = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            result.set(key.rstrip("_").replace("_", "-"), key if value is True else str(value))
    for child in children:
        if isinstance(child, Element):
            result.append(child)
        elif child is not None and len(result):
            result[-1].tail = (result[-1].tail or "") + child
        elif child is not None:
            result.text = (result.text or "") + child
    return result


def document(title: str, *body: Element) -> str:
    """Return the whole page as text.

    Args:
        title: of the window; the page's own heading is part of the body.
        body: what the page shows.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        # Without it a browser asks the server, or the disk, for a favicon.
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", STYLE),
    )
    page = element("html", head, element("body", element("main", *body)), lang="en")
    return "<!DOCTYPE html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def section(identifier: str, heading: str, *children: Child) -> Element:
    """Make a section that screen readers find by its heading."""
    title = element("h2", heading, id=identifier)
    return element("section", title, *children, aria_labelledby=identifier)


def table(
    caption: str, columns: tuple[str, ...], rows: list[tuple[Child, ...]], *, numeric: tuple[int, ...] = ()
) -> Element:
    """Make a table whose first column names the rows.

    Args:
        caption: what it shows, for those who cannot see it.
        columns: headings.
        rows: cells, as many as columns.
        numeric: columns that are set flush right.
    """

    def cell(index: int, content: Child) -> Element:
        kind = "number" if index in numeric else None
        if index == 0:
            return element("th", content, scope="row", class_=kind)
        return element("td", content, class_=kind)

    heads = [
        element("th", c, scope="col", class_="number" if i in numeric else None)
        for i, c in enumerate(columns)
    ]
    body = [element("tr", *(cell(index, content) for index, content in enumerate(row))) for row in rows]
    grid = element(
        "table",
        element("caption", caption, class_="hidden"),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
    )
    # A wide table scrolls by itself, also by keyboard, instead of the page.
    return element("div", grid, class_="scroll", tabindex="0", role="region", aria_label=caption)


def more(summary: str, content: Element) -> Element:
    """Make something that is there for whoever opens it."""
    return element("details", element("summary", summary), content)


def chip(word: str, tone: str) -> Element:
    """Make a small label. The word says it; the color only repeats it.

    Args:
        word: what it says.
        tone: ``good``, ``bad``, ``busy`` or ``plain``.
    """
    return element("span", word, class_=f"chip {tone}")


def tile(label: str, value: str, note: str = "", tone: str = "plain") -> Element:
    """Make one figure of a summary."""
    return element(
        "div",
        element("dt", label),
        element("dd", value, class_=f"figure {tone}"),
        element("dd", note, class_="note") if note else None,
        class_="tile",
    )


def bar(part: float, label: str) -> Element:
    """Make a bar beside its number.

    Args:
        part: 0 to 1.
        label: the number that it draws.
    """
    width = f"width:{max(0.0, min(1.0, part)) * 100:.1f}%"
    drawn = element("span", element("span", style=width, class_="fill"), class_="bar", aria_hidden="true")
    return element("span", element("span", label, class_="barlabel"), drawn, class_="barcell")


def path_text(path: str) -> Element:
    """Show a path, so that it breaks after a slash where it must break."""
    first, *rest = visible(path, lines=False).split("/")
    parts: list[Child] = [first]
    for part in rest:
        parts += ["/", element("wbr"), part]
    return element("div", *parts, class_="path")


def data_url(path: Path) -> str:
    """Return a file as a URL that holds it."""
    return f"data:{mime_type(path)};base64,{base64.b64encode(path.read_bytes()).decode()}"


def size(count: int | None) -> str:
    """Return bytes for a reader: ``6.94 GB``; a dash if unknown."""
    return "–" if count is None else amount(count)
