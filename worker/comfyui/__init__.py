"""The ComfyUI of this container: its process, folders, log, node definitions and model paths."""
