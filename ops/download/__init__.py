"""From a source to a verified file: ranges, pieces, resuming."""
