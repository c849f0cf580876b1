"""What ``inv report`` does."""

from datetime import UTC, datetime
from pathlib import Path

from backend.settings import Settings
from ops.console.console import opened
from ops.files.atomic import write_whole
from ops.report.collect import gather
from ops.report.model import SECTIONS
from ops.report.page import draw
from ops.stores.remote_volume import cheapest_transport

REGISTRY = "models-registry.yaml"
OUTPUT = "report.html"


def report(
    *,
    output: str = OUTPUT,
    registry: str = REGISTRY,
    transport: str = "",
    title: str = "Studio",
    json: bool = False,
    settings: Settings | None = None,
) -> int:
    """Write one page to look at: stack, models, recent jobs and costs.

    The page is written in any case. What could not be found out is said on it and on stderr; then the
    exit code is that of the first such error.

    Args:
        output: the page's file; an existing one is replaced.
        registry: the models wanted.
        transport: how to look at the volume, job or s3; by default s3 where its keys are set.
        title: the page's heading.
        json: give the file's name and what could not be found out as JSON.
        settings: by default those of the environment.
    """
    settings, console = opened(settings, json=json)
    made = gather(
        settings,
        title=title,
        registry=Path(registry),
        transport=transport or cheapest_transport(settings),
        now=lambda: datetime.now(UTC),
    )
    place = Path(output)
    write_whole(place, draw(made).encode())
    for problem in made.problems:
        console.warn(f"{SECTIONS[problem.section]}: {problem.sentence}")
    problems = [{"section": problem.section, "sentence": problem.sentence} for problem in made.problems]
    console.data({"output": str(place.resolve()), "problems": problems})
    console.text(str(place.resolve()))
    return made.problems[0].exit_code if made.problems else 0
