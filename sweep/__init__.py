"""A grid of model, method, sparsity and calibration set, each point compressed once."""

from sweep import garbage  # noqa: F401 - asks to be called at the end before anything else does
