"""Fill in what a service's model takes, by the JSON Schema that it publishes for it. Pure.

Such models refuse what they do not know, and have shapes where we have pixels:
what was asked for becomes the nearest that there is, and the difference is said.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.verbs.request import Request


@dataclass(frozen=True, slots=True)
class SchemaInput:
    """An input on its way.

    Attributes:
        model: the model's id.
        properties: those of its input's schema.
        values: what it is given.
        warnings: sentences about what is not quite as asked.
    """

    model: str
    properties: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, asked: str) -> None:
        """Return a value that was asked for: the nearest that the model takes, or none.

        Args:
            name: the model's name for it.
            value: what was asked for.
            asked: our name for it.
        """
        if name not in self.properties:
            self.warnings.append(f"{self.model} has no {asked}: it was left out.")
            return
        rule = self.properties[name]
        taken = value
        if isinstance(value, int | float):
            taken = min(max(value, rule.get("minimum", value)), rule.get("maximum", value))
        if taken != value:
            self.warnings.append(f"{self.model} takes no {asked} of {value}: {taken} was used.")
        self.values[name] = taken

    def put_rest(self, request: Request, names: Mapping[str, str], *, but: set[str]) -> None:
        """Return the other arguments that the caller gave, by the model's names, else their own."""
        for asked, value in request.given.items():
            if asked not in but:
                self.put(names.get(asked, asked), value, asked)

    def put_shape(self, width: int, height: int, *, asked: bool) -> None:
        """Return the aspect ratio and the resolution that are nearest to a size in pixels.

        Args:
            width, height: the size.
            asked: whether the caller asked for it, and is told what it became.
        """
        ratios = self.properties.get("aspect_ratio", {}).get("enum")
        if not ratios:
            if asked:
                self.warnings.append(f"{self.model} has no width and height: they were left out.")
            return
        wanted = math.log(width / height)
        name = min(ratios, key=lambda each: abs(math.log(_ratio(each)) - wanted))
        self.values["aspect_ratio"] = name
        ratio, side, said = _ratio(name), min(width, height), name
        if "resolution" in self.properties:
            names = self.properties["resolution"]["enum"]
            resolution = min(names, key=lambda each: abs(math.log(_pixels(each) / side)))
            self.values["resolution"] = resolution
            side, said = _pixels(resolution), f"{name} at {resolution}"
        size = (round(side * ratio), side) if ratio >= 1 else (side, round(side / ratio))
        if asked and size != (width, height):
            self.warnings.append(f"{self.model} makes no {width}x{height}: {said} was asked for instead.")


def _ratio(name: str) -> float:
    across, _, down = name.partition(":")
    return float(across) / float(down)


def _pixels(name: str) -> int:
    """The shorter side that a resolution names: ``720p``, ``1440p (2K QHD)``, ``2K``."""
    found = re.match(r"(\d+)(K?)", name)
    return int(found[1]) * (1024 if found[2] else 1) if found else 720
