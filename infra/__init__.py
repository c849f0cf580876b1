"""The stack: RunPod resources for Pulumi, and the program that declares ours with them."""
