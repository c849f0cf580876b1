"""Settings: one table of variables, read from the environment by entry points only.

A library function takes a ``Settings`` or a plain value; nothing here is read
at import, and nothing else reads the environment. Addresses are settings like
any other, which is all that it takes to point comfyform at another RunPod.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_args

from backend.errors import ConfigError, MissingSetting


class Secret:
    """A value that never shows: not in a print, an f-string, a log or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, at the one place that sends it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _: object) -> "Secret":
        return self

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("A secret is not pickled.")


BACKENDS: Final[Mapping[str, str]] = {
    "local": "backend.comfyui.backend:LocalBackend",
    "runpod": "backend.runpod.backend:RunPodBackend",
    "cloud": "backend.comfy_cloud.backend:CloudBackend",
    "hedra": "backend.hedra.backend:HedraBackend",
}
"""Backend → its module and its class, whose ``from_settings`` makes one."""


def _variable(
    name: str,
    sentence: str,
    default: Any = None,
    *,
    shown: str | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a setting: the variable that sets it, the sentence that explains it, its possible values."""
    about = {"variable": name, "sentence": sentence, "shown": shown, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that comes from outside. ``None`` means "not set"."""

    comfy_backend: str = _variable("COMFY_BACKEND", "Which backend `get_backend()` gives.", "local")
    comfyui_url: str = _variable("COMFYUI_URL", "Address of a ComfyUI.", "http://localhost:8188")
    comfyui_models_dir: str | None = _variable(
        "COMFYUI_MODELS_DIR",
        "Folder of this machine's models: what `models.scan` reads, and what `local:` sources are below.",
        shown="asked of ComfyUI, else ~/Documents/ComfyUI/models",
    )
    comfy_api_url: str = _variable(
        "COMFY_API_URL",
        "Server of the Comfy API v2 for the `cloud` backend: `https://cloud.comfy.org`, a deployment's "
        "`https://….run.comfy.app`, or comfy-api-proxy before a ComfyUI of your own.",
        "http://127.0.0.1:8189",
    )
    comfy_api_key: Secret | None = _variable(
        "COMFY_API_KEY", "Its API key. A proxy of your own may need none."
    )
    hedra_api_key: Secret | None = _variable(
        "HEDRA_API_KEY",
        "Hedra key for the `hedra` backend, `key_id:secret`; its jobs are paid from a wallet.",
    )
    hedra_max_usd: float = _variable(
        "HEDRA_MAX_USD", "What one job at Hedra may cost, in USD; above it nothing is submitted.", 1.0
    )
    hedra_api_url: str = _variable("HEDRA_API_URL", "Hedra's API, version 3.", "https://api.hedra.com/v3")
    hedra_image_model: str = _variable(
        "HEDRA_IMAGE_MODEL", "Hedra's model for `portrait` and `imagine`.", "flux-dev"
    )
    hedra_speech_model: str = _variable("HEDRA_SPEECH_MODEL", "Hedra's model for `tts`.", "elevenlabs-v3")
    hedra_avatar_model: str = _variable("HEDRA_AVATAR_MODEL", "Hedra's model for `lipsync`.", "hedra-avatar")
    hedra_poll_s: float = _variable(
        "HEDRA_POLL_S", "Seconds between looks at a job at Hedra, which takes 60 calls a minute a key.", 5.0
    )
    runpod_api_key: Secret | None = _variable(
        "RUNPOD_API_KEY", "RunPod key for the control plane and for jobs."
    )
    runpod_endpoint_id: str | None = _variable(
        "RUNPOD_ENDPOINT_ID", "Endpoint that generates.", shown="stack output"
    )
    runpod_ops_endpoint_id: str | None = _variable(
        "RUNPOD_OPS_ENDPOINT_ID", "Endpoint that looks after the models.", shown="stack output"
    )
    runpod_volume_id: str | None = _variable("RUNPOD_VOLUME_ID", "Network volume.", shown="stack output")
    runpod_volume_path: str = _variable(
        "RUNPOD_VOLUME_PATH", "Where a worker finds its network volume.", "/runpod-volume"
    )
    runpod_rest_url: str = _variable(
        "RUNPOD_REST_URL", "RunPod's control plane, REST v2.", "https://api.runpod.io/v2"
    )
    runpod_jobs_url: str = _variable("RUNPOD_JOBS_URL", "RunPod's job plane.", "https://api.runpod.ai/v2")
    runpod_s3_url: str | None = _variable(
        "RUNPOD_S3_URL", "RunPod's volumes over S3.", shown="https://s3api-<data center>.runpod.io"
    )
    runpod_s3_access_key_id: str | None = _variable(
        "RUNPOD_S3_ACCESS_KEY_ID", "S3 access key, made in RunPod's console."
    )
    runpod_s3_secret_access_key: Secret | None = _variable(
        "RUNPOD_S3_SECRET_ACCESS_KEY", "S3 secret key, made in RunPod's console."
    )
    hf_token: Secret | None = _variable("HF_TOKEN", "Hugging Face token, for gated and private repositories.")
    hf_endpoint: str = _variable("HF_ENDPOINT", "Hugging Face, or a mirror.", "https://huggingface.co")
    civitai_token: Secret | None = _variable("CIVITAI_TOKEN", "CivitAI key, for models behind a login.")
    civitai_url: str = _variable("CIVITAI_URL", "CivitAI, or a mirror.", "https://civitai.com")
    comfyform_allow_hosts: tuple[str, ...] = _variable(
        "COMFYFORM_ALLOW_HOSTS",
        "Comma-separated hosts that a job's URLs may use although they are private or plain http.",
        (),
    )
    comfyform_state_dir: str | None = _variable(
        "COMFYFORM_STATE_DIR",
        "Where the journal of paid jobs and the hash cache are kept.",
        shown="the user's state folder",
    )
    comfyform_output_dir: str | None = _variable(
        "COMFYFORM_OUTPUT_DIR",
        "Folder for what the MCP server generates; it writes nowhere else.",
        shown="the user's data folder",
    )
    comfyform_mcp_confirm: str = _variable(
        "COMFYFORM_MCP_CONFIRM",
        "What the MCP server asks about first: `gpu` (jobs that cost GPU seconds), "
        "`all` (CPU jobs too) or `never`.",
        "gpu",
    )
    comfyform_mcp_token: Secret | None = _variable(
        "COMFYFORM_MCP_TOKEN",
        "What clients of the MCP server over HTTP must send; needed where other machines can reach it.",
    )
    comfyform_log: str = _variable(
        "COMFYFORM_LOG",
        "What is logged to stderr: `off`, `info` (retries, resumed transfers, what a sync does) or `debug` "
        "(each request and each Pulumi command too).",
        "off",
        choices=("off", "info", "debug"),
    )
    comfyform_timeout_s: float = _variable(
        "COMFYFORM_TIMEOUT_S", "Total deadline of one generation, in seconds.", 900.0
    )

    comfyform_preflight: bool = _variable(
        "COMFYFORM_PREFLIGHT",
        "Whether a RunPod job that its workers would certainly refuse is refused before it is submitted.",
        True,
        shown="on",
    )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, only: Collection[str] | None = None
    ) -> "Settings":
        """Read the settings.

        Args:
            environ: variables; by default those of this process. An empty value counts as not set.
            only: attributes to read, so that mistakes in others do not matter; by default all.

        Raises:
            ConfigError: a value cannot be read; all such values are named.
        """
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems: list[str] = []
        for spec in fields(cls):
            name = spec.metadata["variable"]
            text = source.get(name, "").strip()
            if text and (only is None or spec.name in only):
                try:
                    if spec.metadata["choices"]:
                        text = _choice(text, spec.metadata["choices"])
                    values[spec.name] = _parse(spec.name, str(spec.type), text)
                except ValueError as error:
                    problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError("; ".join(problems))
        return cls(**values)

    def need(self, name: str, purpose: str) -> Any:
        """Return a setting that must be there.

        Args:
            name: the attribute, for example ``"runpod_api_key"``.
            purpose: ends the sentence "… is not set: <purpose>."

        Raises:
            MissingSetting: it is not set.
        """
        value = getattr(self, name)
        if value is None or value == "":
            raise MissingSetting(VARIABLES[name], purpose)
        return value


def variables_set(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables that are set, without their values.

    Args:
        environ: variables; by default those of this process.
    """
    source = os.environ if environ is None else environ
    return sorted(name for name in VARIABLES.values() if source.get(name))


def listed(text: str) -> tuple[str, ...]:
    """Split a text at its commas, which is how variables and options give several; empty parts are dropped.

    A part in double quotes may hold commas: ``"a, b.safetensors",c.safetensors``.
    """
    if '"' not in text:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    import csv  # its import takes a millisecond, and few texts have quotes

    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return tuple(part.strip() for row in rows for part in row if part.strip())


def _parse(name: str, kind: str, text: str) -> Any:
    """Turn a variable's text into the setting's type."""
    if "Secret" in kind:
        return _secret(text)
    if kind.startswith("tuple"):
        return listed(text)
    if "float" in kind:
        return _number(text)
    if "bool" in kind:
        return _switch(text)
    if name.endswith(("_url", "_endpoint")):
        return _address(text)
    return text


def _choice(text: str, choices: tuple[str, ...]) -> str:
    """Read one of a few words, in any case."""
    if text.lower() not in choices:
        raise ValueError(f"must be one of {', '.join(choices)} (got {text!r})")
    return text.lower()


def _secret(text: str) -> Secret:
    """Read a key or a token, which goes out in a header. It is never repeated in a message."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it contains a non-ASCII character or a line break, which no key has")
    return Secret(text)


def _switch(text: str) -> bool:
    """Read on or off."""
    words = {"on": True, "true": True, "yes": True, "1": True}
    words |= {"off": False, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(f"expected on or off, got {text!r}")
    return words[text.lower()]


def _number(text: str) -> float:
    """Read a number of seconds or dollars."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"must be a non-negative number, got {text!r}")
    return number


def _address(text: str) -> str:
    """Read an address, without the slash at its end."""
    from urllib.parse import urlsplit

    if not text.startswith(("http://", "https://")):
        raise ValueError(f"must start with http:// or https://, got {text!r}")
    try:
        parts = urlsplit(text)
        usable = parts.hostname and parts.port != 0 and not set(text) & set(" \t\r\n")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a valid URL: {error}") from None
    if "@" in parts.netloc:
        # Not repeated here: addresses stand in messages and logs, and a password must not.
        raise ValueError("it contains a user name or a password; URLs appear in messages, so leave both out")
    if parts.query:
        # Not repeated either: it may be a token.
        raise ValueError("it has a query (?…); give the server's URL without one")
    if not usable:
        raise ValueError(f"{text!r} has no host")
    return text.partition("#")[0].rstrip("/")


SECRETS: Final = frozenset(
    spec.metadata["variable"] for spec in fields(Settings) if Secret in get_args(spec.type)
)
"""Variables whose values are secret, by their type: they are never handed to other programs."""

VARIABLES: Final[Mapping[str, str]] = {spec.name: spec.metadata["variable"] for spec in fields(Settings)}
"""Attribute → variable."""
