"""A RunPod on loopback: a program with an address, sharing no code with what it serves."""
