"""`hydra/launcher=fetch`: reads what a grid needs, and runs nothing.

Hydra imports this file at every start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Fetch(Launcher):  # type: ignore[misc]
    """Composes every point of the grid at once, then reads its models and data."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over; the task function is for single runs and not used."""
        self._context = hydra_context
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Read what the grid needs.

        Raises:
            Refusal: see `sweep.fetch.fetch`.
        """
        from sweep.fetch import fetch
        from sweep_jobs.composed import frozen, returned

        fetch(frozen(self._context, self._config, job_overrides))
        return returned(job_overrides)
