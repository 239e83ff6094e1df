"""Output error and sparsity of a cell's layers as maps, of a choice of cells (matplotlib).

Of more cells than can be looked at, those are drawn that can be compared: each method and
calibration set at the same few sparsities, from the least to the most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sweep.report.drawn import Sketch, clipped, panelled, ranged, sentences
from sweep.report.table import Rows, named

MAPS = 12
"""Cells whose layers are drawn."""


class Candidate(NamedTuple):
    """A cell that could be drawn.

    Attributes:
        cell: its name.
        variant: method and calibration set, with the model if there are several.
        place: sparsity, and the settings by which cells differ.
        ratio: share of zeros, by which places are ordered.
    """

    cell: str
    variant: tuple[str, ...]
    place: str
    ratio: float

    @property
    def name(self) -> str:
        """For people; of several seeds all have it."""
        return " ".join(word for word in (*self.variant, self.place) if word)


def maps(table: Rows, layers: Sequence[Mapping[str, Any]]) -> Iterator[Sketch]:
    """Output error by depth and kind of linear, a map per cell; sparsity of those in which it
    varies."""
    for name, title in (("output_error", "Relative output error"), ("sparsity", "Sparsity")):
        known = [layer for layer in layers if layer[name] is not None]
        if name == "sparsity":
            known = _varying(known)
        if not known:
            continue
        there = {layer["cell"] for layer in known}
        candidates = [one for one in _candidates(table) if one.cell in there]
        chosen = choice(candidates)
        cells = {one.cell for one in chosen}
        shown = [layer for layer in known if layer["cell"] in cells]
        kinds = list(dict.fromkeys(layer["kind"] for layer in shown))
        depths = sorted({layer["depth"] for layer in shown})
        most = max(float(layer[name]) for layer in shown)
        side_by_side = 4 if len({one.variant for one in chosen}) in (2, 4) else 3
        figure, panels = panelled(
            len(chosen),
            width=13.0 / side_by_side,
            height=1.2 + 0.22 * len(kinds),
            most=side_by_side,
        )
        picture: Any = None
        for axes, one in zip(panels, chosen, strict=True):
            found = {(x["kind"], x["depth"]): x[name] for x in shown if x["cell"] == one.cell}
            grid = [[float(found.get((k, d), math.nan)) for d in depths] for k in kinds]
            picture = axes.imshow(grid, cmap="cividis", vmin=0, vmax=most, aspect="auto")
            axes.set_title(f"{clipped(one.name)}\n{clipped(one.cell)}", fontsize=7)
            axes.set_yticks(range(len(kinds)), kinds, fontsize=7)
            step = max(1, len(depths) // 8)
            axes.set_xticks(range(0, len(depths), step), [str(d) for d in depths[::step]])
            axes.set_xlabel("block")
            axes.spines[:].set_visible(False)
        figure.colorbar(picture, ax=list(panels), label=title.lower())
        said = [
            f"{one.name} ({one.cell}): " + ranged([x[name] for x in shown if x["cell"] == one.cell])
            for one in chosen
        ]
        yield Sketch(
            f"layers_{name}",
            f"{title} by depth and kind{told(chosen, candidates)}",
            figure,
            sentences(said),
        )


def _candidates(table: Rows) -> list[Candidate]:
    several = len({row["weights"] for row in table.rows}) > 1
    return [
        Candidate(
            cell=row["cell"],
            variant=(*([str(row["model"])] if several else []), row["method"], row["calib"]),
            place=" ".join([str(row["sparsity"]), *named(row, table.settings)]),
            ratio=entry.about["ratio"] or 0.0,
        )
        for row, entry in zip(table.rows, table.entries, strict=True)
    ]


def choice(cells: Sequence[Candidate]) -> list[Candidate]:
    """Of the cells those that are drawn, by sparsity and then as given.

    One of each method and calibration set, then a second: at the places that most of them have,
    these spread over all, and where one has none of these, at the same sparsity. Other seeds come
    last.
    """
    cells = sorted(cells, key=lambda one: one.ratio)
    variants = _by_turns(list(dict.fromkeys(one.variant for one in cells)))
    places = _by_preference(cells, MAPS // len(variants))
    tried: dict[tuple[str, ...], set[str]] = {}
    for one in cells:
        tried.setdefault(one.variant, set()).add(one.place)
    turns = {
        (variant, place): turn
        for variant, own in tried.items()
        for turn, place in enumerate(filter(own.__contains__, places))
    }
    seeds: Counter[tuple[Any, ...]] = Counter()
    ranks: list[tuple[int, int, int]] = []
    for one in cells:
        turn = turns[one.variant, one.place]
        ranks.append((seeds[one[1:]], turn, variants.index(one.variant)))
        seeds[one[1:]] += 1
    first = sorted(range(len(cells)), key=lambda i: ranks[i])[:MAPS]
    given = list(dict.fromkeys(one.place for one in cells))
    return sorted((cells[i] for i in sorted(first)), key=lambda one: given.index(one.place))


def told(chosen: Sequence[Candidate], cells: Sequence[Candidate]) -> str:
    """Which cells were chosen, and how many were not; nothing if all are there."""
    if len(chosen) == len(cells):
        return ""
    places: dict[str, dict[str, None]] = {}
    for one in chosen:
        name = clipped(" ".join(filter(None, one.variant)))
        places.setdefault(name, {})[clipped(one.place)] = None
    together: dict[tuple[str, ...], list[str]] = {}
    for name, own in places.items():
        together.setdefault(tuple(own), []).append(name)
    which = "; ".join(f"{', '.join(names)} at {', '.join(own)}" for own, names in together.items())
    seeds = len({one[1:] for one in cells}) < len(cells)
    one_seed = ", one seed of each" if seeds and len({o[1:] for o in chosen}) == len(chosen) else ""
    others = len(cells) - len(chosen)
    said = f"; {len(chosen)} of {len(cells)} cells: {which}{one_seed}"
    return f"{said}; the other {others} are in layers.csv"


def _by_turns(variants: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Every method with its first calibration set, then with its second."""
    before: Counter[tuple[str, ...]] = Counter()
    turns: dict[tuple[str, ...], int] = {}
    for variant in variants:
        turns[variant] = before[variant[:-1]]
        before[variant[:-1]] += 1
    return sorted(variants, key=lambda variant: turns[variant])


def _by_preference(cells: Sequence[Candidate], count: int) -> list[str]:
    """All places: so many that are spread over those that most variants have, the others of these,
    and after each one with the same sparsity; then a second one, and so on."""
    having: dict[str, set[tuple[str, ...]]] = {}
    for one in cells:
        having.setdefault(one.place, set()).add(one.variant)
    most = max(map(len, having.values()))
    common = [place for place, own in having.items() if len(own) == most]
    first = list(dict.fromkeys([*_spread(common, count), *common]))
    ratios = {one.place: one.ratio for one in cells}
    rest = [place for place in having if place not in first]
    ranks = {place: (0, i, 0) for i, place in enumerate(first)}
    for place in rest:
        before = sum(ratios[other] == ratios[place] for other in rest[: rest.index(place)])
        alike = (i for i, other in enumerate(first) if ratios[other] == ratios[place])
        ranks[place] = (before, min(alike, default=len(first)), 1)
    return sorted(having, key=ranks.__getitem__)


def _spread(places: Sequence[str], count: int) -> list[str]:
    """So many of a list, its ends among them; of only one, or none, the middle."""
    count = min(count, len(places))
    if count < 2:
        return [places[len(places) // 2]]
    step = (len(places) - 1) / (count - 1)
    return [places[round(i * step)] for i in range(count)]


def _varying(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of cells whose layers differ in their sparsity, by a percent or more."""
    found: dict[str, list[float]] = {}
    for layer in layers:
        found.setdefault(layer["cell"], []).append(layer["sparsity"])
    differ = {cell for cell, values in found.items() if max(values) - min(values) >= 0.01}
    return [layer for layer in layers if layer["cell"] in differ]
