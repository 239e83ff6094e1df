"""Rows of text and instructions, from the hub, a local file or the embedded world."""
