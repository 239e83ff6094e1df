"""`hydra/sweeper=grid`: Hydra's own sweeper, which expands `a,b` into points, in one respect less.

It does not compose every point only to see whether that can be done: the launchers compose them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Grid(BasicSweeper):  # type: ignore[misc]
    """Every combination of the values given."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launcher."""
