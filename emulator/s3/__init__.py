"""Network volumes over S3."""
