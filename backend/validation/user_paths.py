"""Paths that a person writes, with ``~`` for a home folder."""

from pathlib import Path

from backend.errors import ConfigError


def user_path(text: str, name: str) -> Path:
    """Replace a leading ``~`` or ``~user`` by the home folder.

    Args:
        text: the path as it was written.
        name: of the setting or option that has it, for the error.

    Raises:
        ConfigError: the user does not exist on this machine.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{name} names a home folder that is unknown on this machine: {text!r}.",
            hint="Write the whole path, or ~ for your own home folder.",
        ) from error
