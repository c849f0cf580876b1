"""Jobs whatever the service: their status, the journal on disk, how often to ask."""
