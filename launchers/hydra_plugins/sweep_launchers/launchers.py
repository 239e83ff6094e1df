"""The options of `hydra/launcher`, by which Hydra finds what runs a grid.

Hydra imports this file at every start, and anew, so nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra_plugins.sweep_launchers._door import Door


class Here(Door):
    """In this process, cell after cell."""

    def run(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `sweep.grid.sweep`."""
        from sweep.grid import sweep

        sweep(configs)


class Local(Door):
    """Processes of this machine; its settings are those of `sweep_jobs.local.LocalJobs`."""

    def run(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `sweep_jobs.submit.submit`."""
        from sweep_jobs.submit import submit

        submit(configs, "sweep_jobs.local.LocalJobs", self.settings)


class Slurm(Door):
    """SLURM job arrays; its settings are those of `sweep_jobs.slurm.SlurmJobs`."""

    def run(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `sweep_jobs.submit.submit`."""
        from sweep_jobs.submit import submit

        submit(configs, "sweep_jobs.slurm.SlurmJobs", self.settings)


class Fetch(Door):
    """Reads what a grid needs into the caches, and runs nothing."""

    def run(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `sweep.fetch.fetch`."""
        from sweep.fetch import fetch

        fetch(configs)
