"""Cells shown in Weights & Biases, while they run or at any time later. The files are the truth.

What is shown of a cell is read from its folder (`shown`, `journal`), so a mirror can be made by the
running cell (`live`), into a file without a network (`offline`), or by `python -m sweep.track`.
"""

from sweep.track.live import WandB
from sweep.track.mirror import Mirror, Silent, SilentMirror, Tracker

__all__ = ["Mirror", "Silent", "SilentMirror", "Tracker", "WandB"]
