"""What runs commands of this machine within ``up``, only where the stack's configuration asks for it.

``worker:build`` and ``ops:build`` name the repositories that the two images
are built for and pushed to, before the templates, which then have the images
by their digests; ``verify:command`` is run when the stack is up. Without these
keys no command resource is declared, and neither the Python package nor the
plugin of ``pulumi-command`` is needed.
"""

import importlib.metadata
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi import Output, Resource, ResourceOptions

from backend.errors import ConfigError
from infra.engine.pulumi_plugins import need_plugin
from infra.image_build import DOCKERFILES, content_tag


@dataclass(frozen=True, slots=True)
class OptIn:
    """The commands that a stack asks for.

    Attributes:
        build: image (``worker`` or ``ops``) → repository to push to, without a tag.
        verify: a shell command to run when the stack is up, or None.
    """

    build: Mapping[str, str] = field(default_factory=dict)
    verify: str | None = None

    @classmethod
    def parse(cls, config: Mapping[str, str]) -> "OptIn":
        """Read the keys.

        Args:
            config: all of the stack's configuration, ``namespace:key`` → text, that
                ``StackConfig.parse`` has judged.
        """
        build = {image: config[f"{image}:build"] for image in DOCKERFILES if config.get(f"{image}:build")}
        return cls(build, config.get("verify:command") or None)

    def check(self) -> None:
        """Refuse to go on without what these commands need; with no command nothing is needed.

        Raises:
            ConfigError: the Python package or the plugin is missing, with the way to get it.
        """
        keys = [*(f"{image}:build" for image in self.build), *(["verify:command"] if self.verify else [])]
        if not keys:
            return
        try:
            version = importlib.metadata.version("pulumi-command")
        except importlib.metadata.PackageNotFoundError:
            raise ConfigError(
                f"{keys[0]} needs the Python package pulumi-command, which is not installed.",
                hint="Install it: pip install 'comfyform[command]'",
            ) from None
        need_plugin("command", version, wanted_by=keys[0])


def built_image(image: str, repository: str, project: Path) -> Output[str]:
    """Declare that an image is built and pushed, and return its reference by digest.

    Args:
        image: ``worker`` or ``ops``.
        repository: where to push it.
        project: the checkout that is built.
    """
    tag = content_tag(project)
    # The python3 on PATH is the one that runs this program. Its own path would differ between machines,
    # and each of them would then build again.
    build = f"python3 -m infra.image_build {image} {shlex.quote(repository)} {tag}"
    command = _command(f"{image}-image", build, project, triggers=[f"{repository}:{tag}"])
    output: Output[str] = command.stdout
    return output.apply(lambda text: f"{repository}@{text.strip().splitlines()[-1]}")


def verified(
    command: str, project: Path, *, after: Sequence[Resource], environment: Output[dict[str, str]]
) -> Output[str]:
    """Declare that a command is run when the stack is up, and again when it changed; return what it prints.

    Args:
        command: for a shell; it gets the runtime's variables.
        project: where it is run.
        after: what must be there first.
        environment: the variables, which may be known only later.
    """
    opts = ResourceOptions(depends_on=list(after))
    made = _command("verify", command, project, environment=environment, triggers=[environment], opts=opts)
    said: Output[str] = made.stdout
    return said


def _command(
    name: str,
    script: str,
    project: Path,
    *,
    triggers: Sequence[Any],
    environment: Output[dict[str, str]] | None = None,
    opts: ResourceOptions | None = None,
) -> Any:
    from pulumi_command import local

    return local.Command(
        name,
        create=script,
        update=script,
        dir=str(project),
        environment=environment,
        triggers=list(triggers),
        opts=opts,
    )
