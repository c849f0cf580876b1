"""What RunPod says about a job: its status, and its place in the list of requests. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from backend.errors import Unavailable
from backend.flow import Flow, Progress, Reply
from backend.jobs.status import JobStatus, UnreadableAnswer
from backend.validation.checks import is_id

MAX_UNREADABLE: Final = 6
"""Answers in a row that cannot be read, after which no further one is asked for."""


class StatusAnswers:
    """The answers about one job. One that cannot be read is a passing trouble; several in a row are not."""

    def __init__(self) -> None:
        self._unreadable = 0

    def read(self, reply: Reply, job_id: str) -> JobStatus:
        """Read an answer.

        Raises:
            Unavailable: it cannot be read.
            UnreadableAnswer: several in a row cannot.
        """
        try:
            job = JobStatus.from_json(reply.object(), job_id)
        except Unavailable as error:
            self._unreadable += 1
            if self._unreadable < MAX_UNREADABLE:
                raise
            problem = UnreadableAnswer(f"RunPod's answers about job {job_id} cannot be read: {error.message}")
            problem.content, problem.job_id = reply.content, job_id
            raise problem from None
        self._unreadable = 0
        return job


def news_since(before: JobStatus | None, now: JobStatus) -> Flow[None]:
    """Yield what changed since the last answer, as progress."""
    if before is None or before.state != now.state:
        yield Progress({"progress": "job", "state": now.state, "job_id": now.id})
    if now.output is not None and (before is None or before.output != now.output):
        value = now.output
        yield Progress(value if isinstance(value, Mapping) else {"progress": value})


def id_of(value: Any, key: str) -> str | None:
    """The id of the innermost object that has one and holds a text in any field, at any depth."""
    inner = _children(value)
    for item in inner:
        if (found := id_of(item, key)) is not None:
            return found
    own = value.get("id") if isinstance(value, Mapping) else None
    return str(own) if is_id(own) and _holds(value, key) else None


def _holds(value: Any, key: str) -> bool:
    return key in value if isinstance(value, str) else any(_holds(item, key) for item in _children(value))


def _children(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
