"""The runtime client: the same calls on a local ComfyUI and on RunPod."""
