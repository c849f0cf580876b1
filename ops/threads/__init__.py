"""Running work on several threads, and retrying it."""
