"""Rendered images, synthesized speech and encoded videos."""
