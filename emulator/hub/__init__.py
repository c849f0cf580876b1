"""The model hub: Hugging Face's routes."""
