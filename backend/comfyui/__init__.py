"""The backend on a ComfyUI server: its API, the workflows that the verbs build, their validation."""
