"""Fetch and verify a model file over loopback: ours, `hf download` + sha256sum, aria2 with checksum.

Run as ``python -m benchmarks.bench_fetch [MiB] [runs]``. All fetch the same
file from the same server, in turns: first as fast as it can, then from one that
answers 50 ms late and gives each connection 50 MB/s, as hubs far away do.
aria2 is measured when it is installed.
What a killed fetch costs is measured too: kill -9 in the middle, then again.
"""

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import PYTHON, Measured, best, measure, table

OURS = """
import sys
from pathlib import Path
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
with Http() as http:
    store = FolderStore(Path(sys.argv[1]), Sources.from_settings(Settings.from_env(), http))
    wanted = {"path": "models/x.bin", "source": "hf:org/name:file.bin", "sha256": sys.argv[2]}
    print(store.provision([wanted])[0]["fetched_bytes"])
"""
IDLE = OURS.split("    store =", maxsplit=1)[0] + "    pass\n"


class Hub:
    """The server, and the environment that points at it. The file that it serves is made once."""

    def __init__(self, folder: Path, size_bytes: int, *, far: bool = False) -> None:
        file = folder / "served.bin"
        if not file.exists():
            fill(file, size_bytes)
        with file.open("rb") as content:
            self.sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        command = [PYTHON, str(Path(__file__).with_name("hub_server.py")), str(file), self.sha256]
        self.process = subprocess.Popen(
            command + (["0.05", "50e6"] if far else []), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.env = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def sent(self) -> int:
        """Bytes that the server has sent so far, by its own count."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()


def fill(file: Path, size_bytes: int) -> None:
    """Write bytes that no two pieces of which are the same."""
    with file.open("wb") as served, Path("/dev/urandom").open("rb") as noise:
        for _ in range(size_bytes >> 20):
            served.write(noise.read(1 << 20))


def ours(hub: Hub, folder: Path) -> list[str]:
    return [PYTHON, "-c", OURS, str(folder), hub.sha256]


def hf(folder: Path) -> list[str]:
    program = str(Path(PYTHON).with_name("hf"))
    return [program, "download", "org/name", "file.bin", "--local-dir", str(folder), "--quiet"]


def run_ours(hub: Hub, folder: Path) -> Measured:
    return measure(ours(hub, folder), hub.env)


def run_hf(hub: Hub, folder: Path) -> Measured:
    fetched = measure(hf(folder), hub.env)
    return fetched.plus(measure(["sha256sum", str(folder / "file.bin")]))


def run_aria2(hub: Hub, folder: Path) -> Measured:
    url = f"{hub.url}/org/name/resolve/main/file.bin"
    options = ["-q", "-x4", "-s4", f"--checksum=sha-256={hub.sha256}", "-d", str(folder), "-o", "file.bin"]
    return measure(["aria2c", *options, url])


def twice(hub: Hub, command: list[str], folder: Path, size_bytes: int) -> int:
    """Kill a fetch in the middle, run it again, and count the bytes that were sent twice."""
    before = hub.sent()
    process = subprocess.Popen(
        command,
        env={**hub.env, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while hub.sent() - before < size_bytes // 2 and time.monotonic() < deadline:
        pass
    process.kill()
    process.wait()
    measure(command, hub.env)
    shutil.rmtree(folder, ignore_errors=True)
    return hub.sent() - before - size_bytes


def compare(title: str, hub: Hub, root: Path, size_bytes: int, runs: int) -> None:
    """Fetch with each in turns, then kill and fetch again."""
    peers = {"ours": run_ours, "hf download + sha256sum": run_hf}
    if shutil.which("aria2c"):
        peers["aria2 -x4 with checksum"] = run_aria2
    measured: dict[str, list[Measured]] = {name: [] for name in peers}
    for turn in range(runs):
        for name, run in peers.items():
            folder = root / f"{turn}-{len(name)}"
            measured[name].append(run(hub, folder))
            shutil.rmtree(folder)
    idle = best([measure([PYTHON, "-c", IDLE, "", ""], hub.env) for _ in range(3)])
    rows = [(name, best(durations)) for name, durations in measured.items()]
    table(f"fetch and verify {size_bytes >> 20} MiB {title}, best of {runs}", rows, size_bytes)
    print(f"memory above idle, ours: {rows[0][1].peak_mib - idle.peak_mib:.0f} MiB")
    folder = root / "killed"
    for name, command in (("ours", ours(hub, folder)), ("hf download", hf(folder))):
        killed = twice(hub, command, folder, size_bytes)
        print(f"sent twice after kill -9 in the middle, {name}: {killed / 2**20:.1f} MiB")


def main() -> None:
    size_bytes = int(sys.argv[1] if len(sys.argv) > 1 else 1024) << 20
    runs = int(sys.argv[2] if len(sys.argv) > 2 else 3)
    with tempfile.TemporaryDirectory() as scratch:
        for title, far in (("from near", False), ("from far away", True)):
            hub = Hub(Path(scratch), size_bytes, far=far)
            try:
                compare(title, hub, Path(scratch), size_bytes, 1 if far else runs)
            finally:
                hub.close()


if __name__ == "__main__":
    main()
