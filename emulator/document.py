"""The JSON objects that the planes show."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
"""One JSON object as an API shows it: `Any` because its rules live in tables such as `rest.bodies`."""
