"""Compression methods, one per file, and the walk that takes them through a model."""
