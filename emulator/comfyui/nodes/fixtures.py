"""Nodes of no real pack, to make trouble on purpose: slow, failing, or saving without telling ComfyUI."""

from __future__ import annotations

from emulator.comfyui.graph.run import Failure, Run
from emulator.comfyui.graph.values import Picture, Shown
from emulator.comfyui.media import image_rendering
from emulator.comfyui.nodes.declarations import boolean, choice, integer, link, node, number, text
from emulator.comfyui.nodes.loaders import out_of_memory

MODULE = "custom_nodes.emulator"


@node(
    "EmulatorSlow",
    inputs={
        "image": link("IMAGE"),
        "steps": integer(4, 1, 10_000),
        "delay": number(0.1, 0.0, 3600.0),
        "preview": boolean(default=False),
    },
    outputs=("IMAGE",),
    category="emulator",
    module=MODULE,
)
def emulator_slow(run: Run, image: Picture, steps: int, delay: float, preview: bool) -> tuple[Picture]:
    """Take `steps` times `delay` seconds, with progress."""
    jpeg = image_rendering.preview(image.draw(0)) if preview else None
    for step in range(1, steps + 1):
        run.wait(delay)
        run.report(step, steps, jpeg)
    return (image,)


@node(
    "EmulatorRaise",
    inputs={"image": link("IMAGE"), "kind": choice("value_error", "oom")},
    outputs=("IMAGE",),
    category="emulator",
    module=MODULE,
)
def emulator_raise(run: Run, image: Picture, kind: str) -> tuple[Picture]:
    """Fail."""
    if kind == "oom":
        raise out_of_memory(48.0, run.knobs.vram_gb)
    raise Failure("ValueError", "deliberate failure from the emulator's node")


@node(
    "EmulatorQuietSave",
    inputs={"names": text("mesh.glb"), "kilobytes": integer(1, 0, 100_000)},
    category="emulator",
    module=MODULE,
    is_output=True,
)
def emulator_quiet_save(run: Run, names: str, kilobytes: int) -> Shown:
    """Write files into the output folder, by comma-separated names, and leave them out of history.

    Source: packs for meshes do it (PozzettiAndrea/ComfyUI-TRELLIS2#144).
    """
    for name in names.split(","):
        path = run.folders.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode().ljust(1024 * kilobytes, b"."))
    return Shown((), {})
