"""Every point of a grid, composed on the submitting machine, before the first of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig


def frozen(
    context: HydraContext, config: DictConfig, points: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """The points as frozen configurations: what runs later is what was composed now.

    Raises:
        Refusal: see `sweep.config.freeze`.
    """
    from sweep.config import freeze

    loader = context.config_loader
    return [freeze(loader.load_sweep_config(config, list(overrides))) for overrides in points]


def returned(points: Sequence[Sequence[str]]) -> list[JobReturn]:
    """What Hydra wants back. Results are files; this says only that nothing was refused."""
    value: Any = None
    return [
        JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
        for overrides in points
    ]
