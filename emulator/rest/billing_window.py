"""The time that a billing request asks for, cut into buckets. Pure.

Source: REST v2 openapi, the parameters of the billing routes. A week begins on Monday here: the document does
not say when it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from emulator.numbers import whole_number
from emulator.rest.call import Call
from emulator.rest.problems import conflict, invalid
from emulator.rest.schema import quoted

SIZES = ("hour", "day", "week", "month", "year")
DEFAULT_DAYS = 30
MOST_BUCKETS = 10_000
"""More are refused; the document has no limit."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time from the start of a bucket to the end of one."""

    start: datetime
    end: datetime
    size: str

    def buckets(self) -> Iterator[tuple[datetime, datetime]]:
        """Begin and end of each bucket, oldest first."""
        begin = self.start
        while begin < self.end:
            end = following(begin, self.size)
            yield begin, end
            begin = end


def window(call: Call, now: float) -> Window:
    """Read the window of a request.

    Args:
        call: with `startTime`, `endTime`, `bucketSize`, `lastN`.
        now: seconds since the epoch.

    Raises:
        Problem: a value is malformed (422), or two exclude each other (400).
    """
    size = call.query.get("bucketSize", "day")
    if size not in SIZES:
        raise invalid(f"$.bucketSize: value must be one of {quoted(SIZES)}")
    current = datetime.fromtimestamp(now, UTC)
    if "lastN" in call.query:
        if "startTime" in call.query or "endTime" in call.query:
            raise conflict("lastN and startTime/endTime are mutually exclusive")
        count = whole_number(call.query["lastN"])
        if not count:
            raise invalid("$.lastN: must be an integer from 1")
        _check(count)
        begin = snapped(current, size)
        try:
            for _ in range(count - 1):
                begin = snapped(begin - timedelta(seconds=1), size)
        except OverflowError:
            raise conflict("lastN reaches back before the year 1") from None
        return Window(begin, following(snapped(current, size), size), size)
    end = _time(call, "endTime", current)
    start = snapped(_time(call, "startTime", current - timedelta(days=DEFAULT_DAYS)), size)
    if snapped(end, size) != end:
        end = following(snapped(end, size), size)
    if start >= end:
        raise conflict("startTime must be before endTime")
    _check((end - start) / timedelta(hours=1) if size == "hour" else (end - start).days)
    return Window(start, end, size)


def snapped(at: datetime, size: str) -> datetime:
    """Start of the bucket that a time lies in."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    match size:
        case "hour":
            return hour
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
    return day


def following(begin: datetime, size: str) -> datetime:
    """Start of the bucket after the one that begins at a time."""
    match size:
        case "hour":
            return begin + timedelta(hours=1)
        case "week":
            return begin + timedelta(days=7)
        case "month":
            return snapped(begin + timedelta(days=31), size)
        case "year":
            return snapped(begin + timedelta(days=366), size)
    return begin + timedelta(days=1)


def _time(call: Call, name: str, default: datetime) -> datetime:
    text = call.query.get(name)
    if text is None:
        return default
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a `+` that came without its escape
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(f"$.{name}: '{text}' is not valid date-time") from None


def _check(count: float) -> None:
    if count > MOST_BUCKETS:
        raise conflict(f"emulator: more than {MOST_BUCKETS} buckets are not given")
