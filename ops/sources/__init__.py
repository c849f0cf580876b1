"""Where models come from: Hugging Face, CivitAI, addresses, and who may be asked."""
