"""`hydra/sweeper=grid`: Hydra's own sweeper, which expands `a,b` into points, with one thing more.

A study may be several grids: `sparsity.ratio` over some values, and `sparsity=2to4,4to8`, which has
no ratio, beside it. They are one sweep. Words of the command line choose among them:
`sparsity.ratio=0.5` and `sparsity=2to4` leave only the grid that they are about. Grids of
corpora of the hub are left out, with a line that says so, where names of corpora mean stand-ins.

It does not compose every point only to see whether that can be done: the launchers compose them.
And it writes no multirun.yaml: nothing reads it, lines of `hydra.launcher.setup` would be in it,
and whoever launches next into the same folder could not write it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn

from sweep.refusal import Refusal


class Grid(BasicSweeper):  # type: ignore[misc]
    """Every combination of the values given.

    Args:
        params: values by key, as Hydra's sweeper takes them; the command line's come before them.
        also: more grids of the same sweep, each like `params`.
        hub: more of them, of corpora without stand-ins.
        corpora: what the names of corpora mean, `hub` or `embedded`.
    """

    def __init__(
        self,
        params: Mapping[str, str] | None = None,
        also: Sequence[Mapping[str, str]] = (),
        hub: Sequence[Mapping[str, str]] = (),
        corpora: str = "hub",
    ) -> None:
        super().__init__(max_batch_size=None, params=None)
        self.grids = [dict(params or {}), *map(dict, also), *map(dict, hub)]
        self.away = range(
            len(self.grids) - len(hub), len(self.grids) if corpora == "embedded" else 0
        )

    def sweep(self, arguments: Sequence[str]) -> list[Sequence[JobReturn]]:
        """The points of all grids, at once, to the launcher."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        asked = _values(parser, arguments)
        if len(studies := asked.get("study", ())) > 1:
            reason = "one at a time: each is a grid of its own"
            raise Refusal("study", ",".join(sorted(studies)), reason)
        points: dict[frozenset[str], list[str]] = {}  # what is in two grids is one point
        grids = [[f"{key}={value}" for key, value in grid.items()] for grid in self.grids]
        values = [_values(parser, words) for words in grids]
        meant = _meant(values, asked)
        here = [number for number in meant if number not in self.away] or meant
        for number in here:
            words = grids[number]
            (found,) = self.split_arguments(parser.parse_overrides([*words, *arguments]), None)
            points |= {frozenset(point): point for point in found}
        for number in sorted({*meant} - {*here}):
            _say(f"left out: {', '.join(grids[number])}; of these corpora there are no stand-ins")
        returned = self.launcher.launch([*points.values()], initial_job_idx=0)
        for one in returned:
            _ = one.return_value  # raises what a job has raised
        return [returned]


def _say(line: str) -> None:
    """A line of the log."""
    from sweep.grid import quiet

    quiet()
    logging.getLogger("sweep").info("%s", line)


def _values(parser: OverridesParser, words: Sequence[str]) -> dict[str, set[str]]:
    """What each key is to be."""
    return {
        word.key_or_group: set(word.sweep_string_iterator())
        if word.is_sweep_override()
        else {word.get_value_element_as_str()}
        for word in parser.parse_overrides(list(words))
        if not word.is_delete()
    }


def _meant(grids: Sequence[Mapping[str, set[str]]], asked: Mapping[str, set[str]]) -> list[int]:
    """Numbers of the grids that the words are about.

    Of a key that grids have: those that have all of its values; if none has, those with the key,
    but for options of a group of which the grid has settings: another option has not the same.
    """
    meant = list(range(len(grids)))
    for key, values in asked.items():
        having = [i for i in meant if key in grids[i]]
        exact = [i for i in having if values <= grids[i][key]]
        free = [i for i in having if not any(name.startswith(f"{key}.") for name in grids[i])]
        meant = exact or free or having or meant
    return meant
