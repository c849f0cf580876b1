"""What a program holds: backends, their sync and async clients, fallback between them."""
