"""`hydra/launcher=slurm`: a grid as SLURM job arrays.

Hydra imports this file at every start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Slurm(Launcher):  # type: ignore[misc]
    """Composes every point of the grid at once, submits what is missing, and returns.

    Its settings are those of `sweep_jobs.slurm.SlurmJobs`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over; the task function is for single runs and not used."""
        self._context = hydra_context
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the grid.

        Raises:
            Refusal, Failed: see `sweep_jobs.submit.submit`.
        """
        from sweep_jobs.composed import frozen, returned
        from sweep_jobs.submit import submit

        configs = frozen(self._context, self._config, job_overrides)
        submit(configs, "sweep_jobs.slurm.SlurmJobs", self._settings)
        return returned(job_overrides)
