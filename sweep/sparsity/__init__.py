"""Scores in, exact masks out."""
