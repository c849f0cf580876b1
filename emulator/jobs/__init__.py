"""The job plane: RunPod's queue, for clients and for workers."""
