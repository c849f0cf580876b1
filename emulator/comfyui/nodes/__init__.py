"""The node classes of this ComfyUI, by topic. Importing the package fills `emulator.comfyui.node.NODES`."""

from emulator.comfyui.nodes import fixtures, images, loaders, sampling

__all__ = ["fixtures", "images", "loaders", "sampling"]
