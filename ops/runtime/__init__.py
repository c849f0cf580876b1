"""A worker's code and Python environments as content-addressed archives: names, keys and the start command.

Both sides use it: the stack's program, which sends them, and the worker, which builds and unpacks them.
"""
