"""Every error that comfyform raises, sorted by who must act.

::

    ComfyformError                    .hint: what to do next                   exit code
    ├─ ConfigError                    you: a setting or an argument            2
    │  ├─ MissingSetting              a variable that is not set
    │  ├─ InvalidArgument             an argument of a call (also ValueError)
    │  └─ RegistryError               a registry file: all its problems at once
    ├─ ApiError                       a server answered no                     3
    │  ├─ AuthError                   401: the key is missing or wrong
    │  ├─ Forbidden                   402, 403: not paid for, or the key may not do this
    │  ├─ NotFound                    404
    │  ├─ Conflict                    409
    │  ├─ InvalidRequest              400, 405, 413, 422
    │  ├─ RateLimited                 429, retryable
    │  └─ Unavailable                 408, 5xx, no connection, retryable
    ├─ JobError                       a job ended badly                        4
    │  ├─ JobFailed                   the worker said why
    │  ├─ JobCancelled
    │  ├─ JobExpired                  timed out in the queue, or its result is gone
    │  └─ WaitTimeout                 we stopped waiting (also TimeoutError)
    ├─ TransferError                  bytes did not arrive as they should      5
    │  ├─ SourceMissing
    │  ├─ HashMismatch
    │  ├─ InvalidJson                 a document is not JSON, too large or too deep
    │  ├─ VolumeFull
    │  └─ PartialApply                some of a plan was done
    └─ NotSupported                   this backend or API cannot do it         6

An error holds no request, response, client or header, so that no key can leak
through a log, a pickle or a traceback. It says what happened, to what, and in
``hint`` what to do next.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final


class ComfyformError(Exception):
    """Something that a person can act on.

    Attributes:
        hint: what to do next, a sentence, or None when the message says it.
        job_id: the service's name for the job that it is about, or None.
        exit_code: what a command line program exits with.
    """

    __module__ = "backend"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__:  # tracebacks show the name that users import
            cls.__module__ = "backend"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.job_id: str | None = None

    @property
    def message(self) -> str:
        """The sentence alone, without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[ComfyformError], args: tuple[object, ...], state: dict[str, object]) -> ComfyformError:
    """Make an error again without its constructor, whose keywords a pickle does not carry."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ComfyformError):
    """A setting, a file or an argument is wrong."""

    exit_code = 2


class MissingSetting(ConfigError):
    """A variable is needed for this and is not set.

    Attributes:
        name: the variable.
    """

    def __init__(self, name: str, purpose: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"{name} is not set: {purpose}.", hint=hint or f"Set it, for example: export {name}=…"
        )
        self.name = name


class InvalidArgument(ConfigError, ValueError):
    """An argument of a call is unknown, of the wrong type or out of range."""


SHOWN: Final = 50
"""Problems of a file that its error lists: more than a reader fixes before the next run."""


class RegistryError(ConfigError):
    """A registry, lock or other hand-written file has problems; all of them are listed.

    Attributes:
        problems: one sentence each, with file and line; the message spells out the first `SHOWN`.
    """

    def __init__(self, source: str, problems: Sequence[str], *, hint: str | None = None) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        shown = [f"  {problem}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            shown.append(f"  … and {len(problems) - SHOWN} more.")
        super().__init__("\n".join([f"{source} has {count}:", *shown]), hint=hint)
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ApiError(ComfyformError):
    """A server answered no.

    Attributes:
        status: HTTP status, or None when no answer came.
        method, url: the call, the URL without its query.
        request_id: the server's ``x-request-id``, to quote to its support.
        body: the answer's text, at most some hundred characters.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        method: str = "",
        url: str = "",
        request_id: str | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.method = method
        self.url = url
        self.request_id = request_id
        self.body = body


class AuthError(ApiError):
    """401: the key is missing, mistyped or revoked."""


class Forbidden(ApiError):
    """402 or 403: the key is known and may not do this, or the account cannot pay for it."""


class NotFound(ApiError):
    """404: no such thing, or it is not yours."""


class Conflict(ApiError):
    """409: its state forbids this now."""


class InvalidRequest(ApiError):
    """400, 405, 413 or 422: the server does not accept what was sent."""


class RateLimited(ApiError):
    """429: too many calls.

    Attributes:
        retry_after_s: seconds to wait, when the server said so.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **call: object) -> None:
        super().__init__(message, **call)  # type: ignore[arg-type]  # the keywords of ApiError, passed on
        self.retry_after_s = retry_after_s


class Unavailable(ApiError):
    """408, 5xx, or no usable answer at all: trying again may help.

    Attributes:
        sent: False only where the request certainly never reached the server.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = True, **call: object) -> None:
        super().__init__(message, **call)  # type: ignore[arg-type]  # the keywords of ApiError, passed on
        self.sent = sent


class JobError(ComfyformError):
    """A job ended badly. Its ``job_id`` is RunPod's or ComfyUI's name for it, or None."""

    exit_code = 4

    def __init__(self, message: str, *, job_id: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job_id = job_id


class JobFailed(JobError):
    """The job ran and failed.

    Attributes:
        worker_error: what the worker said, whole.
        output: what the job gave beside its error, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        hint: str | None = None,
        worker_error: str = "",
        output: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, hint=hint)
        self.worker_error = worker_error
        self.output = output


class JobCancelled(JobError):
    """The job was cancelled."""


class JobExpired(JobError):
    """The job timed out before a worker finished it, or its result is no longer kept."""


class WaitTimeout(JobError, TimeoutError):
    """The deadline passed while waiting."""


class TransferError(ComfyformError):
    """Bytes did not arrive as they should.

    Attributes:
        path: the file that was to be written, or None.
    """

    exit_code = 5

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class SourceMissing(TransferError):
    """The place a file should come from does not have it, or refuses to give it."""


class HashMismatch(TransferError):
    """The bytes that came are not the bytes that were asked for.

    Attributes:
        expected, actual: sha256, lower-case hex.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        expected: str = "",
        actual: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.expected = expected
        self.actual = actual


class InvalidJson(TransferError, ValueError):
    """A document from outside is not JSON, or is too large or too deeply nested to be read."""


class VolumeFull(TransferError):
    """Not enough free space for the file."""


class PartialApply(TransferError):
    """Some actions of a plan were done and some were not.

    Attributes:
        done, failed: one sentence an action.
    """

    def __init__(self, done: Sequence[str], failed: Sequence[str], *, hint: str | None = None) -> None:
        lines = [f"{len(failed)} of {len(done) + len(failed)} actions failed:", *(f"  {f}" for f in failed)]
        super().__init__("\n".join(lines), hint=hint or "Run the same command again: completed work is kept.")
        self.done = tuple(done)
        self.failed = tuple(failed)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}"


class NotSupported(ComfyformError):
    """This backend or API cannot do what was asked."""

    exit_code = 6


# What each HTTP status means to a caller. 405 and 409 ENDPOINT_PAUSED come from observation;
# a status that is not listed falls to its class: 4xx to InvalidRequest, 5xx to Unavailable.
STATUS_ERRORS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: AuthError,
    402: Forbidden,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    408: Unavailable,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    425: Unavailable,
    429: RateLimited,
}


def error_class(status: int) -> type[ApiError]:
    """Tell which error a failing HTTP status is."""
    return STATUS_ERRORS.get(status) or (Unavailable if status >= 500 else InvalidRequest)
