"""What the launchers have in common. Hydra does not load files whose names begin with `_`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Door(Launcher):  # type: ignore[misc]
    """Composes every point of the grid before the first of them runs.

    Args:
        settings: what is set below `hydra.launcher`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands over; the task function is for single runs and not used."""
        self._context = hydra_context
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """See `run`."""
        from sweep_jobs.composed import Composer, returned

        if self.settings.get("private"):  # another sweeper's: lines of `setup` are in it
            with suppress(OSError):
                (Path(self._config.hydra.sweep.dir) / "multirun.yaml").chmod(0o600)
        composer = Composer(self._context, self._config)
        self.run([composer.frozen(point) for point in job_overrides])
        return returned(job_overrides)

    @abstractmethod
    def run(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """What this launcher does with the grid.

        Args:
            configs: its points, frozen.

        Raises:
            Stop: with what the user is to read.
        """
