"""Where models are kept: a directory, a volume over S3, a volume through a worker."""
