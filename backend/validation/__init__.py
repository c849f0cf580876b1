"""What comes from outside: checks of ids, names, paths and texts; a bounded JSON reader; printable text."""
