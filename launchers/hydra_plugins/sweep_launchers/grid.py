"""`hydra/sweeper=grid`: Hydra's own sweeper, which expands `a,b` into points, with one thing more.

A study may be several grids: `sparsity.ratio` over some values, and `sparsity=2to4,4to8`, which has
no ratio, beside it. They are one sweep.

It does not compose every point only to see whether that can be done: the launchers compose them.
And it writes no multirun.yaml: nothing reads it, lines of `hydra.launcher.setup` would be in it,
and whoever launches next into the same folder could not write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn


class Grid(BasicSweeper):  # type: ignore[misc]
    """Every combination of the values given.

    Args:
        params: values by key, as Hydra's sweeper takes them; the command line's come before them.
        also: more grids of the same sweep, each like `params`.
    """

    def __init__(
        self, params: Mapping[str, str] | None = None, also: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(max_batch_size=None, params=None)
        self.grids = [dict(params or {}), *map(dict, also)]

    def sweep(self, arguments: Sequence[str]) -> list[Sequence[JobReturn]]:
        """The points of all grids, at once, to the launcher."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        points: list[list[str]] = []
        for grid in self.grids:
            words = [f"{key}={value}" for key, value in grid.items()]
            (found,) = self.split_arguments(parser.parse_overrides([*words, *arguments]), None)
            points += found
        returned = self.launcher.launch(points, initial_job_idx=0)
        for one in returned:
            _ = one.return_value  # raises what a job has raised
        return [returned]
