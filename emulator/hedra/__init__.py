"""Hedra's API."""
