"""Looking after models: which file is where, what is missing or wrong, and fixing it."""
