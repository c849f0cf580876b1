"""A stand-in for ComfyUI: its HTTP and websocket surface over real files, with drawings for diffusion.

It validates a graph against node definitions and reads model folders for real.
Only the arithmetic is missing: pictures, speech and films are drawn from the prompt and the seed.
"""
