"""The terminal: tables, progress, prompts, exit codes."""
