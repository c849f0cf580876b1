"""Amounts as people read them: bytes, totals, durations. Pure."""


def amount(size_bytes: int | None) -> str:
    """Write a number of bytes for people: ``6.30 GB``."""
    if size_bytes is None:
        return "?"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.2f} {unit}"
    return f"{size_bytes} B"


def total(size_bytes: int, unknown: int) -> str:
    """Write a sum for people that some files of unknown size are not in."""
    if not unknown:
        return amount(size_bytes)
    return (
        f"{amount(size_bytes)} and {unknown} of unknown size" if size_bytes else f"{unknown} of unknown size"
    )


def duration(seconds: float) -> str:
    """Write a time for people: ``1 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
