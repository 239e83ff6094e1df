"""Tensors in, tensors out: what a layer was fed, and what can be solved with it."""
