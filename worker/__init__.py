"""The worker: what runs on RunPod, in two images: one that generates, one that looks after the models."""
