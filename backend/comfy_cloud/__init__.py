"""The backend on the Comfy API v2, as Comfy Cloud and comfy-api-proxy serve it."""
