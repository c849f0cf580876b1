"""The Comfy API v2."""
