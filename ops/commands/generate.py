"""What ``inv generate.*`` and ``inv backend.health`` do. Each function is one command.

They take plain values and give an exit code; errors go up to whoever runs them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backend import Backend, GenerationResult, Settings, get_backend
from backend.errors import ComfyformError, InvalidArgument, NotFound
from backend.jobs.journal import Journal
from backend.verbs.catalog import find
from backend.verbs.params import Param
from ops.console.console import Console, opened
from ops.console.generation_progress import watching
from ops.files.amounts import amount, duration
from ops.registry.load import load

REGISTRY: Final = "models-registry.yaml"
UNHEALTHY: Final = 3


def generate(
    verb: str,
    *,
    backend: str = "",
    json: bool = False,
    timeout: float | None = None,
    detach: bool = False,
    settings: Settings | None = None,
    **params: Any,
) -> int:
    """Run a verb and say where its files are.

    Args:
        verb: its name; `backend.verbs` has a module for each.
        backend: by default that of the settings.
        json: give the result as JSON.
        timeout: total timeout in seconds.
        detach: submit it and return the job's id; ``inv jobs.wait`` fetches the result.
        settings: by default those of the environment.
        params: the verb's own; texts are read as the numbers and lists that the verb takes.
    """
    console = Console("json" if json else "human")
    arguments = parsed(verb, params)
    settings = settings or Settings.from_env()
    with get_backend(backend or None, settings=settings) as client:
        if detach:
            job = client.submit(verb, timeout_s=timeout, **arguments)  # type: ignore[call-overload]  # a name from the command line
            console.data({"job_id": job.id, "backend": client.name})
            console.text(job.id)
            again = f"inv jobs.wait {job.id}"
            if Journal.from_settings(settings).find(job.id) is None:
                # A ComfyUI of one's own costs nothing, so its runs are in no journal of paid jobs.
                again += f" --backend {client.name} --output-path {arguments.get('output_path', '…')}"
            console.say(f"Submitted. Fetch the result with: {again}")
            return 0
        job_id = ""

        def on_progress(event: Mapping[str, Any]) -> None:
            nonlocal job_id
            job_id = str(event.get("job_id") or event.get("prompt_id") or job_id)
            tell(event)

        try:
            with watching(console) as tell:
                result = client.generate(verb, timeout_s=timeout, on_progress=on_progress, **arguments)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(after_interrupt(client, job_id)) from None
    return show(console, result)


def after_interrupt(client: Backend, job_id: str) -> str:
    """Say what became of a job whose wait was ended by Ctrl-C, which also cancels it."""
    if not job_id:
        return "Stopped before a job was submitted."
    try:
        state = client.status(job_id).state
    except NotFound:
        state = "CANCELLED"  # a run that was taken out of ComfyUI's queue leaves no trace
    except ComfyformError as error:
        return f"Stopped. Job {job_id} was cancelled, but its state is unknown: {error}"
    match state:
        case "COMPLETED":
            return f"Stopped. Job {job_id} had already finished: `inv jobs.wait {job_id}` fetches its result."
        case "IN_QUEUE" | "IN_PROGRESS":
            return f"Stopped. Job {job_id} was cancelled and is still {state}: see `inv jobs.show {job_id}`."
    return f"Stopped. Job {job_id} was cancelled: it gives no result."


def show(console: Console, result: GenerationResult) -> int:
    """Show a result: the path of each file on stdout, the rest as talk."""
    for warning in result.warnings:
        console.warn(warning)
    console.data(result.to_json())
    if not result.success:
        error = result.exception or ComfyformError(result.error or "The run failed.")
        raise with_provider(error, Path(REGISTRY))
    for file in result.files:
        console.text(str(file.local_path or file.remote_url or file.origin_path))
    about = [f"{file.type}, {amount(file.size_bytes)}" for file in result.files]
    seed = "" if result.seed is None else f" Seed {result.seed}."
    console.say(f"{'; '.join(about)}, in {duration(result.timings.get('total', 0.0))}.{seed}")
    return 0


def health(*, backend: str = "", json: bool = False, settings: Settings | None = None) -> int:
    """Say whether a backend would take a job now. Wakes no worker and costs nothing."""
    settings, console = opened(settings, json=json)
    with get_backend(backend or None, settings=settings) as client:
        found = client.health_check()
    console.data(found.to_json())
    if note := found.details.get("note"):
        console.warn(str(note))
    if not found.healthy:
        console.text(f"{found.backend}: {found.error}")
        return UNHEALTHY
    version = f", ComfyUI {found.version}" if found.version else ""
    console.text(f"{found.backend}: healthy{version}")
    return 0


def parsed(verb: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a command line's texts into what a verb takes; empty texts mean "not given".

    Raises:
        InvalidArgument: the verb is unknown, or a text is not a number or not JSON.
    """
    table = find(verb).params
    result = {}
    for name, value in params.items():
        if value is None or value == "":
            continue
        result[name] = _read(name, table[name], value) if name in table and isinstance(value, str) else value
    return result


def _read(name: str, param: Param, text: str) -> Any:
    try:
        match param.what:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
            case "loras":
                return [_lora(part) for part in text.split(",") if part.strip()]
            case "inputs":
                return dict(part.split("=", 1) for part in text.split(",") if part.strip())
    except (ValueError, KeyError):
        raise InvalidArgument(f"{name} must be {_WISHES[param.what]}, got {text!r}.") from None
    return text


_WISHES: Final = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "loras": "FILE:STRENGTH,…",
    "inputs": "NAME=FILE,…",
}
"""Kind of a parameter → what its text must look like."""


def _lora(text: str) -> dict[str, Any]:
    """Read ``file.safetensors:0.8``; the strength is for model and clip alike."""
    name, _, strength = text.strip().partition(":")
    return {"name": name, **dict.fromkeys(("strength_model", "strength_clip"), float(strength or 1.0))}


def with_provider(error: ComfyformError, registry: Path) -> ComfyformError:
    """Name the registry's entry that provides a model file which an error says is missing."""
    output = getattr(error, "output", None) or {}
    # A worker sends what ComfyUI's refusal holds in a field of its own.
    details = output.get("details") or output
    missing = [str(name) for name in details.get("missing_models") or ()]
    if not registry.is_file() or not missing:
        return error
    try:
        wanted = load(registry)
    except ComfyformError:
        return error
    lacking = {path.rpartition("/")[2] for path in missing}
    providers = [
        model.name
        for model in (*wanted.required, *wanted.optional)
        if lacking & {file.path.rpartition("/")[2] for file in model.files}
    ]
    if providers:
        entries = " and ".join(dict.fromkeys(providers))
        verb = "provides" if len(set(providers)) == 1 else "provide"
        error.hint = f"{entries} in {registry} {verb} it: run `inv models.sync`."
    return error
