"""ComfyUI workflows as files: parsing them, and the models that they name."""
