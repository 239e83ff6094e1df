"""Calibration: rows to windows of tokens, by which a method sees what a layer is fed."""
