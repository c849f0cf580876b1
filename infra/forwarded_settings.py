"""Which of this machine's settings its workers get: addresses that differ from the usual ones."""

from typing import Final

from backend.settings import VARIABLES, Settings

_PASSED: Final = ("hf_endpoint", "civitai_url", "comfyform_allow_hosts")


def worker_env(settings: Settings | None = None) -> dict[str, str]:
    """Return the variables for the workers' environment; no keys among them."""
    found, usual = settings or Settings.from_env(), Settings()
    return {
        VARIABLES[name]: ",".join(value) if isinstance(value, tuple) else str(value)
        for name in _PASSED
        if (value := getattr(found, name)) != getattr(usual, name)
    }
