"""comfyform for models that use tools: a server of the Model Context Protocol."""
