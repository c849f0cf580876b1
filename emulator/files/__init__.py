"""Downloads: generated contents, byte ranges and the CDN."""
