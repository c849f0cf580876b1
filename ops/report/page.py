"""Draw a report as one HTML page. Pure except for images and videos, which are read when embedded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from ops.report.html import (
    bar,
    chip,
    data_url,
    document,
    element,
    more,
    path_text,
    section,
    size,
    table,
    tile,
)
from ops.report.model import SECTIONS, Job, JobFile, Model, Report, Section

EMBED_FILE_BYTES: Final = 12 * 1000 * 1000
EMBED_TOTAL_BYTES: Final = 60 * 1000 * 1000
"""What goes into the page: with more a browser is slow. What does not fit is named by its path."""

_TONES: Final = {
    "succeeded": "good", "failed": "bad", "expired": "bad", "cancelled": "plain",
    "running": "busy", "waiting": "busy",
    "in place": "good", "missing": "bad", "wrong": "bad", "extra": "plain", "unverified": "busy",
    "ready": "good", "paused": "busy", "unhealthy": "bad",
}  # fmt: skip


def draw(report: Report) -> str:
    """Return the page as text."""
    return document(f"{report.title} · comfyform", _head(report), _summary(report), *_sections(report))


def _head(report: Report) -> Element:
    moment = report.made_at.strftime("%Y-%m-%d %H:%M UTC")
    return element(
        "header", element("h1", report.title), element("p", f"comfyform report of {moment}", class_="soft")
    )


def _sections(report: Report) -> list[Element]:
    parts = [_stack(report), _jobs(report), _models(report), _costs(report)]
    lacking = [name for name in SECTIONS if report.problems_of(name)]
    if lacking:
        # That something is missing comes first: everything below is to be read with it in mind.
        items = [
            element("li", element("a", SECTIONS[name], href=f"#{name}"), ": ", problem.sentence)
            for name in lacking
            for problem in report.problems_of(name)
        ]
        trouble = section("trouble", "What this page could not find out", element("ul", *items))
        trouble.set("class", "trouble")
        parts.insert(0, trouble)
    return parts


def _part(report: Report, name: Section, content: Sequence[Element], empty: str) -> Element:
    """Make a section: what it lacks, and what it has; where it has nothing and lacks nothing, why."""
    lacks = [element("p", problem.sentence, class_="error") for problem in report.problems_of(name)]
    return section(name, SECTIONS[name], *(lacks + list(content) or [element("p", empty, class_="soft")]))


def _summary(report: Report) -> Element:
    named = [model for model in report.models if model.state != "extra"]
    there = [model for model in named if model.state == "in place"]
    failed = [job for job in report.jobs if job.state in {"failed", "expired"}]
    looked = [model for model in named if model.state != "unknown"]
    models = tile(
        "Models in place",
        f"{len(there)} of {len(named)}",
        size(sum(model.size_bytes or 0 for model in there)),
        "good" if len(there) == len(named) else "bad",
    )
    tiles = [
        models if looked else tile("Models wanted", str(len(named)) if named else "–"),
        tile(
            "Recent jobs that failed",
            f"{len(failed)} of {len(report.jobs)}",
            tone="bad" if failed else "good" if report.jobs else "plain",
        ),
    ]
    if report.monthly_usd is not None:
        tiles.append(tile("Storage", f"${report.monthly_usd:.2f}", "a month"))
    if report.hourly_usd is not None:
        tiles.append(tile("Running", f"${report.hourly_usd:.2f}", "an hour, all workers busy"))
    return element("dl", *tiles, class_="tiles", aria_label="Summary")


def _stack(report: Report) -> Element:
    rows: list[tuple[Element | str | None, ...]] = [
        (
            resource.kind,
            element(
                "span", element("span", resource.name), element("div", resource.identifier, class_="path")
            ),
            chip(resource.state, _TONES.get(resource.state, "plain")) if resource.state else None,
            resource.note,
        )
        for resource in report.resources
    ]
    content = [table("What is deployed", ("Kind", "Name", "State", "Details"), rows)] if rows else []
    return _part(report, "stack", content, "No setting speaks of RunPod: this page is of this machine alone.")


def _models(report: Report) -> Element:
    largest = max((model.size_bytes or 0 for model in report.models), default=0) or 1

    def named(model: Model) -> tuple[Element, Element]:
        share = (model.size_bytes or 0) / largest
        return element("div", model.name, path_text(model.path)), bar(share, size(model.size_bytes))

    rows: list[tuple[Element | str | None, ...]] = [
        (
            *named(model),
            chip(model.state, _TONES.get(model.state, "plain")),
            model.reason,
            ", ".join(model.used_by) or "–",
        )
        for model in sorted(report.models, key=_worst_first)
        if model.state != "extra"
    ]
    columns = ("Model", "Size", "On the volume", "Why", "Used by")
    parts = [table("Models wanted", columns, rows)] if rows else []
    extra: list[tuple[Element | str | None, ...]] = [
        named(model) for model in report.models if model.state == "extra"
    ]
    if extra:
        files = "1 file" if len(extra) == 1 else f"{len(extra)} files"
        rest = table("Unreferenced models", ("Model", "Size"), extra)
        parts.append(more(f"{files} on the volume that the registry does not name", rest))
    return _part(report, "models", parts, "The registry names no models.")


def _worst_first(model: Model) -> tuple[int, str]:
    order = ("wrong", "missing", "unverified", "unknown", "in place", "extra")
    return (order.index(model.state) if model.state in order else len(order), model.path)


def _jobs(report: Report) -> Element:
    room = EMBED_TOTAL_BYTES
    cards = []
    for job in report.jobs:
        figures = []
        for file in job.files:
            fits = file.path is not None and 0 < (file.size_bytes or 0) <= min(room, EMBED_FILE_BYTES)
            if fits:
                room -= file.size_bytes or 0
            figures.append(_figure(job, file, embed=fits))
        cards.append(element("li", *figures, _words(job), class_="job"))
    content = [element("ul", *cards, class_="jobs")] if cards else []
    return _part(report, "jobs", content, "No job was run from this machine yet.")


def _figure(job: Job, file: JobFile, *, embed: bool) -> Element:
    caption = element("figcaption", f"{file.name} · {size(file.size_bytes)}")
    if not embed or file.path is None:
        gone = "" if file.path else " · not on this machine"
        return element(
            "figure", element("figcaption", f"{file.path or file.name} · {size(file.size_bytes)}{gone}")
        )
    return element("figure", _media(job, file, file.path), caption)


def _media(job: Job, file: JobFile, path: Path) -> Element:
    says = f"{job.verb}: {job.summary or file.name}"
    if file.type == "image":
        return element("img", src=data_url(path), alt=says, loading="lazy")
    if file.type == "audio":
        return element("audio", controls=True, preload="metadata", src=data_url(path), aria_label=says)
    if file.type == "video":
        return element("video", controls=True, preload="metadata", src=data_url(path), aria_label=says)
    return element("a", "Open", href=data_url(path), download=file.name, aria_label=f"Download {file.name}")


def _words(job: Job) -> Element:
    took = f"{job.seconds:.1f} s" if job.seconds is not None else None
    when = job.started_at.strftime("%Y-%m-%d %H:%M")
    facts = [when, job.backend, took, f"seed {job.seed}" if job.seed is not None else None]
    return element(
        "div",
        element(
            "div", element("h3", job.verb), chip(job.state, _TONES.get(job.state, "plain")), class_="top"
        ),
        element("p", job.summary) if job.summary else None,
        element("p", " · ".join(fact for fact in facts if fact), class_="soft"),
        element("p", job.error, class_="error") if job.error else None,
        element("p", job.identifier, class_="path"),
        class_="words",
    )


def _costs(report: Report) -> Element:
    rows: list[tuple[Element | str | None, ...]] = [
        (cost.what, cost.basis, _money(cost.monthly_usd), _money(cost.hourly_usd)) for cost in report.costs
    ]
    columns = ("What", "How it is reckoned", "A month", "An hour")
    content = [table("What the stack costs", columns, rows, numeric=(2, 3))] if rows else []
    empty = (
        "Not known without the stack." if report.deployed else "Nothing is deployed that would cost anything."
    )
    return _part(report, "costs", content, empty)


def _money(usd: float | None) -> str:
    return "–" if usd is None else f"${usd:.2f}"
