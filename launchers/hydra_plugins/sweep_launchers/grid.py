"""`hydra/sweeper=grid`: Hydra's own sweeper, which expands `a,b` into points, in one respect less.

It does not compose every point only to see whether that can be done: the launchers compose them.
And it writes no multirun.yaml: nothing reads it, lines of `hydra.launcher.setup` would be in it,
and whoever launches next into the same folder could not write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn


class Grid(BasicSweeper):  # type: ignore[misc]
    """Every combination of the values given."""

    def sweep(self, arguments: Sequence[str]) -> Any:
        """The points of the grid, to the launcher."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        found: list[Sequence[JobReturn]] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            returned = self.launcher.launch(batch, initial_job_idx=sum(map(len, found)))
            for one in returned:
                _ = one.return_value  # raises what a job has raised
            found.append(returned)
        return found
