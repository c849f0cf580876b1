"""Names of objects at RunPod: whose they are is decided on the whole name, never on how it begins.

An object is called ``<project>-<stack>-<logical name>``, with a suffix of six hexadecimal digits where
one creation of one state must be told from another. ``a-b-…`` is therefore never an object of stack ``a``
as long as its logical name is known.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SUFFIX_DIGITS: Final = 6
COMPONENT: Final = "comfyform:index:Environment"
"""Pulumi type of the component that has an environment's resources."""
_ENDPOINT: Final = "pulumi-python:dynamic/runpod:Endpoint"
_SUFFIX: Final = rf"(?:-[0-9a-f]{{{SUFFIX_DIGITS}}})?"


def object_name(project: str, stack: str, logical: str) -> str:
    """Build an object's name at RunPod, without a suffix."""
    return f"{project}-{stack}-{logical}"


def is_named_after(name: str, base: str) -> bool:
    """Tell whether a name at RunPod is a base alone, as older ones are, or a base with a suffix."""
    return re.fullmatch(re.escape(base) + _SUFFIX, name) is not None


def is_object(name: str, project: str, stack: str, logical: Iterable[str]) -> bool:
    """Tell whether a name at RunPod is that of one of a stack's resources.

    Args:
        name: whole name of an object at RunPod.
        project: of Pulumi.
        stack: its short name.
        logical: logical names of the stack's resources.
    """
    return any(is_named_after(name, object_name(project, stack, each)) for each in logical)


def stack_of(name: str, stacks: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Find the stack that an object's name is of; ``a-b-volume`` is of ``a-b`` and not of ``a``.

    Args:
        name: whole name of an object at RunPod.
        stacks: project and short name of every stack that is known.

    Returns:
        The project and the stack with the longest name that fits, or None.
    """
    fitting = [each for each in stacks if name.startswith(object_name(*each, ""))]
    return max(fitting, key=lambda each: len("-".join(each)), default=None)


def endpoint_urn(project: str, stack: str, logical: str) -> str:
    """Build the URN of an environment's endpoint.

    Args:
        project: of Pulumi.
        stack: its short name.
        logical: the endpoint's logical name.
    """
    return f"urn:pulumi:{stack}::{project}::{COMPONENT}${_ENDPOINT}::{logical}"


@dataclass(frozen=True, slots=True)
class EnvironmentNames:
    """Logical names of the resources that an environment declares.

    Attributes:
        environment: the environment's own logical name.
    """

    environment: str = "comfy"

    @property
    def volume(self) -> str:
        """The network volume."""
        return f"{self.environment}-volume"

    @property
    def ops(self) -> str:
        """The ops endpoint and its template."""
        return f"{self.environment}-ops"

    @property
    def worker(self) -> str:
        """The GPU endpoint and its template."""
        return f"{self.environment}-worker"

    @property
    def registry(self) -> str:
        """The credential for a private container registry."""
        return f"{self.environment}-registry"

    def all(self) -> tuple[str, ...]:
        """All of them."""
        return (self.volume, self.ops, self.worker, self.registry)


def logical_names(urns: Iterable[str]) -> str:
    """Name resources by their logical names, for a sentence."""
    return ", ".join(urn.rpartition("::")[2] for urn in urns)
