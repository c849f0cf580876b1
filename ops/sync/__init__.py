"""What to change on a volume, and changing it."""
