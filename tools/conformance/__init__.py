"""The conformance run: comfyform's local backend and graph check, driven against a real ComfyUI."""
