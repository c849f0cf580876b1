"""The backend on Hedra's API."""
