"""Send a model file to a volume over S3: ours (hashed, resumable, checked) beside boto3's own transfer.

A file of this machine, and one from a model hub that only passes through.
Run as ``python -m benchmarks.bench_s3 [MiB]``, against the emulated gateway,
which is a Python program and bounds both; what is compared is the overhead.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.bench_fetch import Hub, hf
from benchmarks.measure import PYTHON, best, measure, table
from tests.support.emulation import running_emulator

OURS = """
import sys
from backend.flow.http_driver import Http
from backend.settings import Settings
from ops.stores.open import open_store
with Http() as http:
    store = open_store(Settings.from_env(), http, transport="s3")
    print(store.provision([{"path": "models/loras/x.bin", "source": "local:loras/x.bin"}]))
    store.remove(["models/loras/x.bin"])
"""
PASS_ON = OURS.replace('"source": "local:loras/x.bin"', '"source": "hf:org/name:file.bin"')
BOTO3 = """
import os, sys
import boto3
from boto3.s3.transfer import TransferConfig
client = boto3.client(
    "s3", endpoint_url=os.environ["RUNPOD_S3_URL"], region_name="EU-RO-1",
    aws_access_key_id=os.environ["RUNPOD_S3_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["RUNPOD_S3_SECRET_ACCESS_KEY"],
)
config = TransferConfig(multipart_chunksize=32 << 20, max_concurrency=3)
bucket = os.environ["RUNPOD_VOLUME_ID"]
file = os.environ["COMFYUI_MODELS_DIR"] + "/loras/x.bin"
client.upload_file(file, bucket, "models/loras/y.bin", Config=config)
client.delete_object(Bucket=bucket, Key="models/loras/y.bin")
"""


def main() -> None:
    size_bytes = int(sys.argv[1] if len(sys.argv) > 1 else 512) << 20
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "emulator").mkdir()
        file = root / "models" / "loras" / "x.bin"
        file.parent.mkdir(parents=True)
        with file.open("wb") as out, Path("/dev/urandom").open("rb") as noise:
            for _ in range(size_bytes >> 20):
                out.write(noise.read(1 << 20))
        with running_emulator(root / "emulator", images={}) as emu:
            volume = {"name": "models", "size": 10, "dataCenter": "EU-RO-1"}
            env = emu.env | {
                "RUNPOD_VOLUME_ID": str(emu.rest("POST", "/network-volumes", volume).json()["id"]),
                "COMFYUI_MODELS_DIR": str(root / "models"),
                "COMFYFORM_STATE_DIR": str(root / "state"),
            }
            idle = measure([PYTHON, "-c", OURS.split("    store =", maxsplit=1)[0] + "    import boto3"], env)
            rows = [
                ("ours", best([measure([PYTHON, "-c", OURS], env) for _ in range(2)])),
                ("boto3 upload_file, no hash", best([measure([PYTHON, "-c", BOTO3], env) for _ in range(2)])),
            ]
            table(f"send {size_bytes >> 20} MiB", rows, size_bytes)
            print(f"memory above idle, ours: {rows[0][1].peak_mib - idle.peak_mib:.0f} MiB")
            hub = Hub(root, size_bytes)
            try:
                passed = best([measure([PYTHON, "-c", PASS_ON], env | hub.env) for _ in range(2)])
                staged = Path(env["COMFYUI_MODELS_DIR"]) / "staged"
                theirs = measure(hf(staged), env | hub.env).plus(measure([PYTHON, "-c", BOTO3], env))
            finally:
                hub.close()
            rows = [("ours", passed), ("hf download, then boto3, no hash", theirs)]
            table(f"pass {size_bytes >> 20} MiB on from a hub", rows, size_bytes)
            print(f"memory above idle, ours: {passed.peak_mib - idle.peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
