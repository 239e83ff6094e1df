"""A grid of model, method, sparsity and calibration set, each point compressed once."""
