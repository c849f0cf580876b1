"""A checker for JSON bodies, as strict as REST v2 and with its wording.

Rules are small values; `check` walks a rule and a body and gives every failure.
It is not a JSON Schema engine: it has what the tables in `bodies` need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    min_length: int = 0
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """A number; whole unless `fraction`."""

    minimum: float | None = None
    maximum: float | None = None
    fraction: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""


@dataclass(frozen=True, slots=True)
class Items:
    """An array."""

    item: Rule
    min_items: int = 0
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Strings:
    """An object whose values are all strings."""


@dataclass(frozen=True, slots=True)
class Body:
    """An object with known properties and no others.

    Attributes:
        needs: property → the property that must come with it.
        noisy_without: properties that, when one of `required` is missing, are reported as not allowed
            although they are. RunPod's validator does so: what a failed branch of an `allOf` has seen
            counts as not seen.
    """

    properties: Mapping[str, Rule]
    required: tuple[str, ...] = ()
    min_properties: int = 0
    needs: Mapping[str, str] = field(default_factory=dict)
    noisy_without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ByType:
    """An object whose property `type` says which body it is."""

    bodies: Mapping[str, Body]


LONG = 2**63
"""Integers from here on do not fit RunPod's 64-bit fields."""

Rule = Text | Number | Flag | Items | Strings | Body | ByType


def check(rule: Rule, value: Any, path: str = "$") -> list[str]:
    """Return every way in which a value breaks a rule, each beginning with its path; none if it is valid."""
    match rule:
        case Text():
            problems = _text(rule, value)
        case Number():
            problems = _number(rule, value)
        case Flag():
            problems = [] if isinstance(value, bool) else [f"got {kind(value)}, want boolean"]
        case Items():
            return _items(rule, value, path)
        case Strings():
            if isinstance(value, dict):
                return [
                    error for name, item in value.items() for error in check(Text(), item, f"{path}.{name}")
                ]
            problems = [f"got {kind(value)}, want object"]
        case Body():
            return _body(rule, value, path)
        case ByType():
            return _by_type(rule, value, path)
    return [f"{path}: {problem}" for problem in problems]


def settled(rule: Rule, value: Any) -> Any:
    """Turn a valid value into what the rules of RunPod compute with: an integer that was written 2.0 is 2."""
    match rule:
        case Number(fraction=False) if isinstance(value, float):
            return int(value)
        case Items() if isinstance(value, list):
            return [settled(rule.item, item) for item in value]
        case Body() if isinstance(value, dict):
            known = rule.properties
            return {
                name: settled(known[name], item) if name in known else item for name, item in value.items()
            }
        case ByType() if isinstance(value, dict):
            return settled(rule.bodies[value["type"]], value)
    return value


def kind(value: Any) -> str:
    """Name a JSON value's type."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def quoted(names: list[str] | tuple[str, ...]) -> str:
    """List names as the validator does: 'a', 'b'."""
    return ", ".join(f"'{name}'" for name in names)


def _text(rule: Text, value: Any) -> list[str]:
    if value is None and rule.nullable:
        return []
    if not isinstance(value, str):
        return [f"got {kind(value)}, want " + ("string or null" if rule.nullable else "string")]
    if rule.choices and value not in rule.choices:
        word = "value must be " + ("one of " if len(rule.choices) > 1 else "")
        return [word + quoted(rule.choices)]
    if len(value) < rule.min_length:
        return [f"minLength: got {len(value)}, want {rule.min_length}"]
    if rule.pattern and not re.search(rule.pattern, value):
        return [f"'{value}' does not match pattern '{rule.pattern}'"]
    return []


def _number(rule: Number, value: Any) -> list[str]:
    required = "number" if rule.fraction else "integer"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [f"got {kind(value)}, want {required}"]
    if not rule.fraction and isinstance(value, float) and not value.is_integer():
        return [f"got number, want {required}"]
    if rule.minimum is not None and value < rule.minimum:
        return [f"minimum: got {_shown(value)}, want {rule.minimum:g}"]
    if rule.maximum is not None and value > rule.maximum:
        return [f"maximum: got {_shown(value)}, want {rule.maximum:g}"]
    if not rule.fraction and abs(value) >= LONG:
        return [f"got number, want {required}"]
    return []


def _shown(value: float) -> str:
    """Write a number briefly, and an integer that no float can hold in full."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _items(rule: Items, value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{path}: got {kind(value)}, want array"]
    problems = [error for at, item in enumerate(value) for error in check(rule.item, item, f"{path}[{at}]")]
    if len(value) < rule.min_items:
        problems.append(f"{path}: minItems: got {len(value)}, want {rule.min_items}")
    if rule.unique:
        twins = [(a, b) for b in range(len(value)) for a in range(b) if value[a] == value[b]]
        problems += [f"{path}: items at {a} and {b} are equal" for a, b in twins]
    return problems


def _body(rule: Body, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: got {kind(value)}, want object"]
    problems = []
    missing = [name for name in rule.required if name not in value]
    if missing:
        word = "property" if len(missing) == 1 else "properties"
        problems.append(f"{path}: missing {word} {quoted(missing)}")
    strange = {name for name in value if name not in rule.properties}
    if missing:
        strange |= {name for name in rule.noisy_without if name in value}
    if strange:
        problems.append(f"{path}: additional properties {quoted(sorted(strange))} not allowed")
    if len(value) < rule.min_properties:
        problems.append(f"{path}: minProperties: got {len(value)}, want {rule.min_properties}")
    problems += [
        f"{path}: properties '{required}' required, if '{name}' exists"
        for name, required in rule.needs.items()
        if name in value and required not in value
    ]
    for name, item in value.items():
        if name in rule.properties:
            problems += check(rule.properties[name], item, f"{path}.{name}")
    return problems


def _by_type(rule: ByType, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: got {kind(value)}, want object"]
    kind_of = value.get("type")
    body = rule.bodies.get(kind_of) if isinstance(kind_of, str) else None
    if body is None:
        if "type" not in value:
            return [f"{path}: missing property 'type'"]
        return check(Text(choices=tuple(rule.bodies)), value["type"], f"{path}.type")
    return _body(body, value, path)
