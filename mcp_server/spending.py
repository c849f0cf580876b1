"""What a call may spend, and what is asked about first."""

from enum import Enum
from typing import Final


class Costs(Enum):
    """What a call may spend, in words that end the sentence "It costs …"."""

    NOTHING = "nothing"
    CPU = "a fraction of a cent, for a CPU worker that reads the volume"
    GPU = "money, for the seconds that a GPU works on it"


ASKED: Final[dict[str, frozenset[Costs]]] = {
    "never": frozenset(),
    "gpu": frozenset({Costs.GPU}),
    "all": frozenset({Costs.GPU, Costs.CPU}),
}
"""Value of ``COMFYFORM_MCP_CONFIRM`` → what is asked about."""
