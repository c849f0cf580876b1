"""How long tests wait for what must happen."""

HANG_S = 600.0
"""Bounds a hang, not a speed: seconds far beyond what any step takes, also on a loaded machine."""
