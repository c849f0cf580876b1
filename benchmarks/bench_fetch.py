"""Fetch and verify a model file over loopback: ours, `hf download` + sha256sum, aria2 with checksum.

Run as ``python benchmarks/bench_fetch.py [MiB] [runs]``. All fetch the same
file from the same server, in turns. aria2 is measured when it is installed.
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
from backend.drivers import Http
from backend.settings import Settings
from ops.sources import Sources
from ops.store import FolderStore
with Http() as http:
    store = FolderStore(Path(sys.argv[1]), Sources.from_settings(Settings.from_env(), http))
    wanted = {"path": "models/x.bin", "source": "hf:org/name:file.bin", "sha256": sys.argv[2]}
    print(store.provision([wanted])[0]["fetched_bytes"])
"""
IDLE = OURS.split("    store =", maxsplit=1)[0] + "    pass\n"


class Hub:
    """The server, and the environment that points at it."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.file = folder / "served.bin"
        digest = hashlib.sha256()
        with self.file.open("wb") as file, Path("/dev/urandom").open("rb") as noise:
            for _ in range(size_bytes >> 20):
                data = noise.read(1 << 20)
                digest.update(data)
                file.write(data)
        self.sha256 = digest.hexdigest()
        self.process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("hub_server.py")), str(self.file), self.sha256],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.env = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def sent(self) -> int:
        """Bytes that the server has sent so far, by its own count."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


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


def main() -> None:
    size_bytes = int(sys.argv[1] if len(sys.argv) > 1 else 1024) << 20
    runs = int(sys.argv[2] if len(sys.argv) > 2 else 3)
    peers = {"ours": run_ours, "hf download + sha256sum": run_hf}
    if shutil.which("aria2c"):
        peers["aria2 -x4 with checksum"] = run_aria2
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        hub = Hub(root, size_bytes)
        try:
            measured: dict[str, list[Measured]] = {name: [] for name in peers}
            for turn in range(runs):
                for name, run in peers.items():
                    folder = root / f"{turn}-{len(name)}"
                    measured[name].append(run(hub, folder))
                    shutil.rmtree(folder)
            idle = best([measure([PYTHON, "-c", IDLE, "", ""], hub.env) for _ in range(3)])
            rows = [(name, best(taken)) for name, taken in measured.items()]
            table(f"fetch and verify {size_bytes >> 20} MiB, best of {runs}", rows, size_bytes)
            print(f"memory above idle, ours: {rows[0][1].peak_mib - idle.peak_mib:.0f} MiB")
            killed = twice(hub, ours(hub, root / "killed"), root / "killed", size_bytes)
            print(f"sent twice after kill -9 in the middle, ours: {killed / 2**20:.1f} MiB")
            killed = twice(hub, hf(root / "killed-hf"), root / "killed-hf", size_bytes)
            print(f"sent twice after kill -9 in the middle, hf download: {killed / 2**20:.1f} MiB")
        finally:
            hub.process.terminate()
            hub.process.wait()


if __name__ == "__main__":
    main()
