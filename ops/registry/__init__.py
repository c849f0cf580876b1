"""models-registry.yaml and its lock: reading, checking, editing."""
