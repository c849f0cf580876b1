"""Collects what several independent checks refuse, so that one preview reports all of it."""

import contextlib
from collections.abc import Iterator, Sequence

from backend.errors import ComfyformError, ConfigError


class SeveralRefusals(ConfigError):
    """Several checks refused.

    Attributes:
        errors: what each of them raised.
    """

    def __init__(self, errors: Sequence[ComfyformError]) -> None:
        lines = [f"{number}. {error}" for number, error in enumerate(errors, 1)]
        super().__init__("\n".join([f"This stack has {len(errors)} problems:", *lines]))
        self.errors = tuple(errors)


class Refusals:
    """The errors of checks that do not depend on each other."""

    def __init__(self) -> None:
        self._errors: list[ComfyformError] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Run a check in a ``with`` block: an error ends the block, and waits for `raise_all`."""
        try:
            yield
        except SeveralRefusals as refused:
            self._errors += refused.errors
        except ComfyformError as error:
            self._errors.append(error)

    def raise_all(self) -> None:
        """Raise what was collected.

        Raises:
            ComfyformError: the only error.
            SeveralRefusals: several.
        """
        if len(self._errors) > 1:
            raise SeveralRefusals(self._errors)
        if self._errors:
            raise self._errors[0]
