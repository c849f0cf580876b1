"""The account's worker quota: RunPod gives it a number only where it refuses. Pure.

REST v2 has no call that tells it (Source: RunPod's OpenAPI document, REST v2 2.0.0).
"""

import re
from collections.abc import Mapping
from typing import Final

FIRST: Final = 5
"""Of an account that has bought little credit yet. Source: facts/runpod.md §1b, by balance."""
# Source: seen in the field, facts/runpod.md §1a and §1b, older wording included.
_REFUSAL: Final = re.compile(r"workers? quota (?:\((\d+)\)|of (\d+))")


def hint(refusal: str, asked: int, in_use: Mapping[str, int]) -> str | None:
    """Explain RunPod's refusal with the numbers that it leaves out.

    Args:
        refusal: its words.
        asked: the most workers of the endpoint that was refused.
        in_use: name → most workers, of the account's other endpoints.

    Returns:
        Two or three sentences, or None where the refusal is about something else.
    """
    found = _REFUSAL.search(refusal)
    if found is None:
        return None
    quota, taken = int(found[1] or found[2]), sum(in_use.values())
    others = ", ".join(f"{name} {count}" for name, count in sorted(in_use.items()) if count) or "none"
    return (
        f"This endpoint asks for {asked}, other endpoints may have {taken} ({others}), "
        f"so at most {max(quota - taken, 0)} of {quota} are left. Lower workers_max here or there, "
        f"or ask RunPod for a higher quota; comfyform:worker_quota: {quota} has the preview check it."
    )
