"""Hedra's account: files, jobs, balance. Rules only; `hedra` puts them on HTTP.

Source: Hedra API v3 documentation, read 2026-10 (files live an hour, outputs a day).
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from emulator.document import Document
from emulator.files.cdn import cdn_of
from emulator.files.content import Plain
from emulator.hedra import media
from emulator.hedra.media import Made
from emulator.hedra.models import MODELS, RETIRED, VOICES, Model, problems
from emulator.state import State

FILE_LIFE_S = 3600.0
OUTPUT_LIFE_S = 24 * 3600.0
DONE = ("COMPLETED", "FAILED")


class Refused(Exception):
    """Hedra's way to say no: an error envelope with a code to branch on."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error: Document = {"code": code, "message": message, "retryable": status == 429, **more}


def invalid(details: list[Document]) -> Refused:
    """Refuse an input, naming every field."""
    first = details[0]
    return Refused(400, "INVALID_ARGUMENT", first["message"], param=first["field"], details=details)


@dataclass(slots=True)
class HedraJob:
    """One job; `made` is its output once it is finished."""

    id: str
    model: Model
    settings: Document
    cost: float
    created_at: float
    status: str = "IN_QUEUE"
    error: Document | None = None
    made: Made | None = None
    finished_at: float | None = None
    asset_id: str = field(default_factory=lambda: f"asset_{uuid.uuid4()}")


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file."""

    data: bytes
    content_type: str
    expires_at: float


class Account:
    """One Hedra workspace."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._cdn = cdn_of(state)
        self._tasks: set[asyncio.Task[None]] = set()
        self.jobs: dict[str, HedraJob] = {}
        self.files: dict[str, File] = {}
        self.idempotent: dict[str, str] = {}
        self.spent = 0.0
        state.on_reset.append(self.clear)

    def clear(self) -> None:
        """Forget everything."""
        for task in self._tasks:
            task.cancel()
        self.jobs.clear()
        self.files.clear()
        self.idempotent.clear()
        self.spent = 0.0

    @property
    def balance(self) -> float:
        """What is left of the prepaid wallet, in USD."""
        return round(self._state.limits.hedra_balance_usd - self.spent, 4)

    def add_file(self, data: bytes, name: str) -> Document:
        """Keep an upload for an hour."""
        kind = media.sniff(data)
        if kind is None:
            raise invalid([{"field": "file", "message": "unsupported file type", "reason": "type"}])
        url = self._cdn.link("hedra", Plain(data), name)
        expires_at = self._state.clock.now() + FILE_LIFE_S
        self.files[url] = File(data, kind, expires_at)
        return {"url": url, "content_type": kind, "expires_at": timestamp(expires_at)}

    def model(self, model_id: str) -> Model:
        """Find a model."""
        if model_id in RETIRED:
            message = f"Model {model_id} was retired."
            raise Refused(410, "GONE", message, replaced_by=RETIRED[model_id])
        if model_id not in MODELS:
            raise Refused(404, "NOT_FOUND", f"Model {model_id} not found.")
        return MODELS[model_id]

    def job(self, job_id: str) -> HedraJob:
        """Find a job."""
        if job_id not in self.jobs:
            raise Refused(404, "NOT_FOUND", f"Job {job_id} not found.")
        return self.jobs[job_id]

    async def price(self, model: Model, settings: Any) -> float:
        """Check an input, and return the price of its job."""
        details = list(problems(model.input_schema, settings))
        if details:
            raise invalid(details)
        if "voice_id" in settings and settings["voice_id"] not in {voice["id"] for voice in VOICES}:
            raise invalid([{"field": "input.voice_id", "message": "unknown voice", "reason": "enum"}])
        seconds = 0.0
        if model.modality == "video":
            self._bytes(model, settings, "start_image")
            seconds = await asyncio.to_thread(media.seconds_of, self._bytes(model, settings, "audio"))
            if not 0.5 <= seconds <= 600:
                message = f"audio must last from 0.5 to 600 seconds, not {seconds:.2f}"
                raise invalid([{"field": "input.audio", "message": message, "reason": "duration"}])
        return model.cost_usd(settings, seconds)

    async def submit(self, model: Model, settings: Any, key: str | None) -> tuple[HedraJob, bool]:
        """Start a job, or return the one that the same key started; tell whether it is a replay."""
        if key is not None and key in self.idempotent:
            return self.jobs[self.idempotent[key]], True
        cost = await self.price(model, settings)
        if cost > self.balance:
            billing = {"balance": self.balance, "required": cost, "currency": "USD"}
            billing["funding_url"] = "https://app.hedra.com/billing"
            raise Refused(402, "INSUFFICIENT_BALANCE", "Insufficient balance.", billing=billing)
        if self._state.limits.hedra_outcome == "REFUSED":
            raise Refused(422, "MODERATION_FAILED", "The input was refused by moderation.")
        self.spent += cost
        job = HedraJob(f"job_{uuid.uuid4()}", model, settings, cost, self._state.clock.now())
        self.jobs[job.id] = job
        if key is not None:
            self.idempotent[key] = job.id
        task = asyncio.get_running_loop().create_task(self._work(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job, False

    async def _work(self, job: HedraJob) -> None:
        limits = self._state.limits
        job.status = "IN_PROGRESS"
        self._state.bells.ring(("hedra", job.id))
        await asyncio.sleep(limits.hedra_job_s)
        if limits.hedra_outcome in ("COMPLETED", "ITEM_FAILED"):
            job.made = await asyncio.to_thread(self._make, job)
            job.status = "COMPLETED"
        else:
            code = {"FAILED": "INTERNAL"}.get(limits.hedra_outcome, limits.hedra_outcome)
            job.status = "FAILED"
            job.error = {"code": code, "message": "The job could not be finished.", "retryable": False}
            self.spent -= job.cost
        job.finished_at = self._state.clock.now()
        self._state.bells.ring(("hedra", job.id))

    def _make(self, job: HedraJob) -> Made:
        if job.model.modality == "image":
            return media.picture(job.settings, seed=sum(job.id.encode()))
        if job.model.modality == "audio":
            return media.speech(job.settings)
        image, audio = (self._bytes(job.model, job.settings, name) for name in ("start_image", "audio"))
        return media.avatar(job.settings, image, audio)

    def _bytes(self, model: Model, settings: Document, name: str) -> bytes:
        """Return the bytes that an input refers to.

        Raises:
            Refused: 400 for a URL that is not of `/files` or too old, an unknown asset, a wrong type or size.
        """
        rule, reference = model.input_schema["properties"][name], settings[name]
        where = f"input.{name}." + ("url" if reference["source"] == "url" else "asset_id")
        if reference["source"] == "url":
            file = self.files.get(reference["url"])
            if file is None:
                raise invalid(
                    [{"field": where, "message": "only URLs of POST /files are taken", "reason": "external"}]
                )
            if file.expires_at < self._state.clock.now():
                raise invalid([{"field": where, "message": "the file has expired", "reason": "expired"}])
            data, kind = file.data, file.content_type
        else:
            created = next(
                (job.made for job in self.jobs.values() if job.asset_id == reference["asset_id"]), None
            )
            if created is None:
                raise invalid([{"field": where, "message": "no such asset", "reason": "not_found"}])
            data, kind = created.data, created.content_type
        if not kind.startswith(rule["x-media"]):
            raise invalid([{"field": where, "message": f"{kind} is no {rule['x-media']}", "reason": "type"}])
        if len(data) > rule["x-max-bytes"]:
            raise invalid([{"field": where, "message": "the file is too large", "reason": "maximum"}])
        return data

    def status(self, job: HedraJob) -> Document:
        """Return a job as `/jobs/{id}/status` shows it; speech shows no progress before its end."""
        progress = 1.0 if job.status == "COMPLETED" else 0.0
        if job.status == "IN_PROGRESS" and job.model.modality != "audio":
            whole = self._state.limits.hedra_job_s or 1.0
            progress = min(0.99, (self._state.clock.now() - job.created_at) / whole)
        return {
            "job_id": job.id,
            "status": job.status,
            "progress": progress,
            "estimated_completion_at": timestamp(job.created_at + self._state.limits.hedra_job_s),
        }

    def result(self, job: HedraJob) -> Document:
        """Return a job as `/jobs/{id}` shows it; each time with new links."""
        done_s = (job.finished_at or job.created_at) - job.created_at
        return {
            "job_id": job.id,
            "model": job.model.id,
            "status": job.status,
            "prompt": job.settings.get("prompt", job.settings.get("text")),
            "outputs": [self._item(job)] if job.status == "COMPLETED" else [],
            "metrics": {"processing_time_ms": round(done_s * 1000)},
            "error": job.error,
            "cost": job.cost,
            "currency": "USD",
        }

    def _item(self, job: HedraJob) -> Document:
        names = ("content_type", "width", "height", "duration_ms", "fps")
        item: Document = {"status": "COMPLETED", "asset_id": job.asset_id, "url": None, "error": None}
        item |= {name: getattr(job.made, name, None) for name in names}
        expires_at = job.created_at + OUTPUT_LIFE_S
        item["expires_at"] = timestamp(expires_at)
        if self._state.limits.hedra_outcome == "ITEM_FAILED":
            return item | {
                "status": "FAILED",
                "asset_id": None,
                "error": {"code": "INTERNAL", "message": "lost"},
            }
        if self._state.clock.now() > expires_at or job.made is None:
            return item | {"status": "EXPIRED", "asset_id": None}
        extension = job.made.content_type.partition("/")[2]
        return item | {"url": self._cdn.link("hedra", Plain(job.made.data), f"output.{extension}")}


def timestamp(seconds: float) -> str:
    """Write a time as Hedra does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
