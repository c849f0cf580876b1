"""The node classes of this ComfyUI, by topic; importing them fills `declarations.NODES`."""

from emulator.comfyui.nodes import audio, f5tts, fixtures, images, loaders, sampling, sonic, texts, video

__all__ = ["audio", "f5tts", "fixtures", "images", "loaders", "sampling", "sonic", "texts", "video"]
