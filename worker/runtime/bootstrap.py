"""The first program in a container that has only Python: put the worker's code on its disk and start it.

The start command carries this file's text, without docstrings, so it needs only the standard library
(3.11.4 or newer) and no other file of the project. `worker.runtime.start` imports it for the same functions.

Where the code is not on the volume yet, the ops endpoint takes one kind of job, ``install``, whose archive
must have the sha256 that the endpoint's environment names. A generation endpoint waits, and then answers its
job with what to do.

Source of the protocol: runpod SDK 1.12.0, serverless/modules/{rp_job,rp_http,rp_ping}.py.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request

TYPE_CHECKING = False
if TYPE_CHECKING:  # left out of the start command, as every annotation is
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import IO, Any, NoReturn

    Report = Callable[[Mapping[str, Any]], object]
    Answer = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]

ENV = os.environ
VOLUME = ENV.get("RUNPOD_VOLUME_PATH", "/runpod-volume")
STORE = VOLUME + "/.comfyform/runtime"
DISK = ENV.get("COMFYFORM_RUNTIME_DIR", "/opt/comfyform")
CODE = ENV.get("COMFYFORM_CODE", "")
IS_OPS = ENV.get("COMFYFORM_ROLE") == "ops"
ABSENT = "the runtime is not on the volume: run `pulumi up`"


class Damaged(ValueError):
    """An archive's bytes are not those that its name promises."""

    pass  # noqa: PIE790 - the start command leaves the docstring out


class HashedFile:
    """A file that is hashed while it is read forward."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sum = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self.file.read(size)
        self.sum.update(data)
        return data

    def finish(self) -> str:
        """Read the rest, which a tar's reader leaves, and return the sha256."""
        while self.read(1 << 20):
            pass
        return self.sum.hexdigest()


def sha256_of(path: str) -> str:
    """Hash a file."""
    with open(path, "rb") as file:
        return HashedFile(file).finish()


def gunzip(source: HashedFile) -> AbstractContextManager[Any]:
    """Open a tar.gz."""
    return gzip.GzipFile(fileobj=source)  # type: ignore[call-overload,no-any-return]  # it only reads forward


def unpack(
    path: str,
    sha256: str,
    target: str,
    opened: Callable[[HashedFile], AbstractContextManager[Any]] = gunzip,
) -> None:
    """Unpack an archive into a new folder; nothing of it can be seen before its sha256 was compared.

    Raises Damaged for other bytes. A failure of the disk stays an OSError: only the hash of the whole
    file says whether the archive is at fault.
    """
    if os.path.isdir(target):
        return
    parent = os.path.dirname(target)
    os.makedirs(parent, exist_ok=True)
    aside = tempfile.mkdtemp(dir=parent, prefix=".")
    try:
        with open(path, "rb") as raw:
            source = HashedFile(raw)
            with opened(source) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as tar:
                extract(tar, aside)
            if source.finish() != sha256:
                raise Damaged(sha256)
        os.chmod(aside, 0o755)  # noqa: S103 - mkdtemp's 0700 would hide the code from the worker's user
        os.rename(aside, target)
    except Exception as error:
        # Another process on this disk was first.
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return
        if not isinstance(error, FileNotFoundError) and sha256_of(path) != sha256:
            raise Damaged("%s: its sha256 is another" % path) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def extract(tar: tarfile.TarFile, folder: str) -> None:
    """Write a tar's files and folders; faster than extractall, which sets owners and times."""
    known = set()
    for entry in tar:
        member = tarfile.data_filter(entry, folder)
        place = os.path.join(folder, member.name)
        parent = place if member.isdir() else os.path.dirname(place)
        if parent not in known:
            os.makedirs(parent, exist_ok=True)
            known.add(parent)
        if member.issym():
            os.symlink(member.linkname, place)
        elif member.isreg():
            with open(place, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file, 1 << 20)  # type: ignore[arg-type]  # it is a file
            if member.mode & 0o100:
                os.chmod(place, 0o755)  # noqa: S103 - a program


def publish(folder: str, name: str, write: Callable[[IO[bytes]], object]) -> str:
    """Write a file beside its place, rename it, and return its path.

    `write` gets the open file, and may return the name that the file is to have.
    """
    os.makedirs(folder, exist_ok=True)
    sweep(folder)
    aside = "%s/.%s.%s" % (folder, name, ENV.get("RUNPOD_POD_ID", os.getpid()))
    try:
        with open(aside, "wb") as file:
            other = write(file)
            file.flush()
            os.fsync(file.fileno())
        path = "%s/%s" % (folder, other if isinstance(other, str) else name)
        os.chmod(aside, 0o644)
        os.rename(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(aside)
        raise
    with contextlib.suppress(OSError):  # a volume may refuse the fsync of a folder
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return path


def sweep(folder: str) -> None:
    """Remove what a kill left aside more than an hour ago."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if name.startswith(".") and time.time() - os.stat(path).st_mtime > 3600:
                os.remove(path)


def code_path(sha256: str, store: object = STORE) -> str:
    """Return where a code archive lies on the volume."""
    return "%s/code/%s.tar.gz" % (store, sha256)


def install(job: Mapping[str, Any], store: object = STORE) -> dict[str, Any]:
    """Keep the code archive that a job brings; its bytes must have the sha256 that it names."""
    sha256 = job["sha256"]
    data = base64.b64decode(job["archive"], validate=True)
    real = hashlib.sha256(data).hexdigest()
    if real != sha256:
        raise ValueError("the archive's sha256 is %s, expected %s" % (real, sha256))
    path = code_path(sha256, store)
    if not os.path.exists(path) or sha256_of(path) != sha256:
        publish(os.path.dirname(path), os.path.basename(path), lambda file: file.write(data))
    return {"installed": sha256, "bytes": len(data)}


def call(name: str, job: str = "", body: Mapping[str, Any] | None = None, query: str = "") -> Any:
    """Send a request of RunPod's worker protocol and return its document; None for an empty answer."""
    url = ENV["RUNPOD_WEBHOOK_" + name].replace("$RUNPOD_POD_ID", ENV["RUNPOD_POD_ID"])
    url = url.replace("$ID", job or ENV["RUNPOD_POD_ID"]) + query
    headers = {"Authorization": ENV.get("RUNPOD_AI_API_KEY", ""), "User-Agent": "comfyform-bootstrap"}
    data = None
    if body is not None:
        form = "application/x-www-form-urlencoded"
        headers |= {"Content-Type": form, "charset": "utf-8", "X-Request-ID": job}
        data = json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=90) as answer:
        text = answer.read()
        return json.loads(text) if text and answer.status == 200 else None


def wait(seconds: float) -> None:
    """Wait."""
    threading.Event().wait(seconds)


def ping(jobs: list[str]) -> None:
    """Say again and again that this worker lives, and which job it has."""
    while True:
        with contextlib.suppress(OSError):
            call("PING", query="&runpod_version=0" + "".join("&job_id=" + job for job in jobs))
        wait(int(ENV.get("RUNPOD_PING_INTERVAL", "10000")) / 1000)


def serve(answer: Answer, is_done: Callable[[], bool]) -> None:
    """Take jobs until `is_done()`; `answer(job input, report)` returns a job's output or raises.

    `report(event)` sends the job's progress.
    """
    jobs: list[str] = []
    pause = 1
    threading.Thread(target=ping, args=(jobs,), daemon=True).start()
    while not is_done():
        try:
            job = call("GET_JOB", query="&job_in_progress=0")
            pause = 1
        except (OSError, ValueError) as error:
            if getattr(error, "code", 0) != 400:
                print("bootstrap: no job:", error, flush=True)
                wait(pause)
                pause = min(pause * 2, 30)
            continue
        if not job:
            continue
        jobs[:] = [job["id"]]
        try:
            task = job.get("input") or {}
            frame = {"status": "success", "action": task.get("action")}
            result: dict[str, Any] = {"output": {**frame, **answer(task, lambda event: report(jobs, event))}}
        except Exception as error:
            result = {"error": str(error) or type(error).__name__}
            print("bootstrap: job failed:", result["error"], flush=True)
        post(job["id"], result, 3)
        jobs.clear()


def report(jobs: list[str], event: Mapping[str, Any]) -> None:
    """Send progress of the job at work."""
    for job in jobs:
        post(job, {"status": "IN_PROGRESS", "output": event}, 1)


def post(job: str, body: Mapping[str, Any], tries: int) -> None:
    """Send a job's result or progress."""
    for _ in range(tries):
        try:
            call("POST_OUTPUT", job, body, "&isStream=false")
            return
        except (OSError, ValueError) as error:
            print("bootstrap: not sent:", error, flush=True)
            wait(tries > 1)


def refuse(reason: str) -> NoReturn:
    """Answer every job with a reason, as long as this worker lives: better than a restart again and again."""
    print("bootstrap:", reason, flush=True)

    def answer(*_: object) -> NoReturn:
        raise RuntimeError(reason)

    serve(answer, lambda: False)
    sys.exit(reason)


def remove_damaged(path: str, error: Damaged) -> None:
    """Move an archive with wrong bytes out of the way, so that it is sent or built again."""
    print("bootstrap: refused:", error, flush=True)
    os.replace(path, path + ".damaged")


def wait_for(ready: Callable[[], bool]) -> bool:
    """Wait for what another worker puts onto the volume, within bounds; return whether it is there."""
    limit = time.monotonic() + float(ENV.get("COMFYFORM_RUNTIME_WAIT_S", "60"))
    while not ready() and time.monotonic() < limit:
        wait(1)
    return ready()


def get_code() -> str:
    """Return the folder of this endpoint's code, once it is there."""
    folder, path = "%s/code/%s" % (DISK, CODE[:16]), code_path(CODE)
    while True:
        try:
            unpack(path, CODE, folder)
            return folder
        except FileNotFoundError:
            pass
        except Damaged as error:
            remove_damaged(path, error)
        if IS_OPS:
            serve(take_install, lambda: os.path.exists(path))
        elif not wait_for(lambda: os.path.exists(path)):
            refuse(ABSENT)


def take_install(job: Mapping[str, Any], _: Report) -> dict[str, Any]:
    """Do the one job that needs no code."""
    if job.get("action") != "install":
        raise ValueError(ABSENT)
    if job.get("sha256") != CODE:
        raise ValueError(
            "another version: this worker expects the code %s, got %s" % (CODE, job.get("sha256"))
        )
    return install(job)


def main() -> NoReturn:
    """Start the second stage, which is in the code archive."""
    begin = time.time()
    try:
        if not hasattr(tarfile, "data_filter"):
            raise RuntimeError(
                "Python %s cannot unpack safely: 3.11.4 or newer is required" % sys.version.split()[0]
            )
        folder = get_code()
    except Exception as error:
        refuse("the worker's code cannot be unpacked: %s: %s" % (type(error).__name__, error))
    ENV["COMFYFORM_START"] = json.dumps({"began_at": begin, "code_s": round(time.time() - begin, 3)})
    ENV["PYTHONPATH"] = ENV["COMFYFORM_CODE_FOLDER"] = folder
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker.runtime.start"])


if __name__ == "__main__":
    main()
