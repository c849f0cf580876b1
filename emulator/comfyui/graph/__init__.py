"""Graphs: the queue, validation, execution and results."""
