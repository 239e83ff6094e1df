"""`hydra/launcher=here`: a grid in this process, cell after cell.

Hydra imports this file at every start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Here(Launcher):  # type: ignore[misc]
    """Composes every point of the grid at once, then runs the plan."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over; the task function is for single runs and not used."""
        self._loader = hydra_context.config_loader
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the grid. Results are files; what is returned says only that nothing failed.

        Raises:
            Refusal, Failed, OutOfSpace: see `sweep.grid.sweep`.
        """
        from sweep.config import freeze
        from sweep.grid import sweep

        configs = [
            freeze(self._loader.load_sweep_config(self._config, list(overrides)))
            for overrides in job_overrides
        ]
        sweep(configs)
        return [_done(overrides) for overrides in job_overrides]


def _done(overrides: Sequence[str]) -> JobReturn:
    value: Any = None
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
