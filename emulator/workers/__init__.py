"""Worker processes: which there are, how they are started, watched and ended."""
