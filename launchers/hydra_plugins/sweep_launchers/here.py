"""`hydra/launcher=here`: a grid in this process, cell after cell.

Hydra imports this file at every start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Here(Launcher):  # type: ignore[misc]
    """Composes every point of the grid at once, then runs the plan."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over; the task function is for single runs and not used."""
        self._context = hydra_context
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the grid.

        Raises:
            Refusal, Failed, OutOfSpace: see `sweep.grid.sweep`.
        """
        from sweep.grid import sweep
        from sweep_jobs.composed import frozen, returned

        sweep(frozen(self._context, self._config, job_overrides))
        return returned(job_overrides)
