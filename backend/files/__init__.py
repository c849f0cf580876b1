"""Result files: where they are written, what they hold, and a RunPod volume over S3."""
