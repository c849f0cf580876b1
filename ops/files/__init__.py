"""Files on a disk: atomic writes, hashes, flushing, first bytes."""
