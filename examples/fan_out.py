"""Many pictures at once: python examples/fan_out.py FOLDER DESCRIPTION...

All are submitted together; on RunPod as many workers as the endpoint may have
take them in parallel. One that fails does not stop the others.
"""

import asyncio
import sys
from pathlib import Path

from backend import GenerationResult, get_async_backend


async def main(folder: Path, descriptions: list[str]) -> int:
    async with get_async_backend() as backend:

        async def one(number: int, description: str) -> GenerationResult:
            return await backend.imagine(
                description=description, quality="draft", output_path=folder / f"{number:03}.png"
            )

        results = await asyncio.gather(*(one(*job) for job in enumerate(descriptions, start=1)))
    for description, result in zip(descriptions, results, strict=True):
        print(result.files[0].local_path if result.success else f"{description}: {result.error}")
    return sum(not result.success for result in results)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), sys.argv[2:])))
