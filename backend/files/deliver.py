"""Put what a job made where it is wanted. The job is done and may be paid for: nothing here loses it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.errors import ApiError, ComfyformError, InvalidArgument, NotFound, TransferError
from backend.files.output_paths import places, suffix_warning
from backend.flow import Flow, Progress
from backend.verbs.result import GeneratedFile, GenerationResult

Fetch = Callable[[int, Path | None], Flow[GeneratedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The files of a job where they are now, and what is to be said about them.

    Attributes:
        failure: why a file that is wanted here is not here; the job itself went well.
    """

    files: tuple[GeneratedFile, ...]
    warnings: tuple[str, ...] = ()
    failure: ComfyformError | None = None


def deliver(
    left: Sequence[GeneratedFile], output_path: Path | None, fetch: Fetch, *, again: str
) -> Flow[Delivered]:
    """Fetch every file to its place; one that does not come stays where it lies, and the rest comes.

    Yields ``{"progress": "fetch", "filename"}`` for each.

    Args:
        left: the files where they lie.
        output_path: where the first goes, or the folder of all; None to leave them where they lie.
        fetch: number of a file and its place, or None → that file.
        again: a sentence that says how to get the result later.
    """
    names = [file.filename for file in left]
    targets = [None] * len(names) if output_path is None else places(output_path, names)
    files, warnings = list(left), []
    failure: ComfyformError | None = None
    for number, (name, place) in enumerate(zip(names, targets, strict=True)):
        if place is not None:
            yield Progress({"progress": "fetch", "filename": name})
        try:
            files[number] = yield from fetch(number, place)
        except (ApiError, TransferError, InvalidArgument) as error:
            failure = failure or error
        else:
            if place is not None and (warning := suffix_warning(place, name)):
                warnings.append(warning)
    # What its server no longer has cannot be fetched later either.
    if failure is not None and not isinstance(failure, NotFound):
        failure.hint = f"{failure.hint} {again}" if failure.hint else again
    return Delivered(files=tuple(files), warnings=tuple(warnings), failure=failure)


def result_of(
    delivered: Delivered,
    *,
    backend: str,
    seed: int | None,
    timings: Mapping[str, float],
    prompt_id: str | None = None,
    job_id: str | None = None,
) -> GenerationResult:
    """Return the result of a job that went well; without success where a file did not come."""
    failure = delivered.failure
    return GenerationResult(
        success=failure is None,
        backend=backend,
        files=delivered.files,
        seed=seed,
        prompt_id=prompt_id,
        job_id=job_id,
        error=None if failure is None else str(failure),
        exception=failure,
        warnings=delivered.warnings,
        timings={name: round(value, 3) for name, value in timings.items()},
    )


def journal_again(job_id: str) -> str:
    """Say how to get the result of a job that is in the journal."""
    return (
        f"The job is done: `inv jobs.wait {job_id} --output-path …` fetches its result without paying again."
    )
