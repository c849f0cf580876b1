"""The HTML pages to look at: each one file, with nothing to load from elsewhere."""
