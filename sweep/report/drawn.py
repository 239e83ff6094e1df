"""What all figures of a report have in common (matplotlib): style, panels, the same bytes always.

A colour is a method with its calibration set, a marker is a pattern, in every figure of a report;
grey is the dense model. Colours are those of Okabe and Ito, which people who see fewer colours can
tell apart. No text is read as mathematics: names may hold any sign.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from textwrap import wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sweep.report.frontier import UNSTRUCTURED, pattern_of
from sweep.report.table import Rows

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
"""Of the dense model, and of what is no method's."""
INK = "#333333"
"""Of figures that are of several methods or calibration sets at once."""
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "sweep",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.hspace": 0.06,
}
PANELS = 12
"""Of a figure; more are not looked at, and a page has no room for them."""
LINES = 24
"""Of a panel; a legend of more cannot be read, and their colours, markers and dashes no more be
told apart."""
TOLD = 8
"""Lines, or rows, of a panel that the text alternative has; the tables have all."""


@dataclass(frozen=True)
class Sketch:
    """A figure that is not yet a picture.

    Attributes:
        name: of its files.
        title: above it.
        figure: as drawn.
        alternative: what it shows, for those who do not see it.
    """

    name: str
    title: str
    figure: Figure
    alternative: str


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name, title, alternative: see `Sketch`.
        svg, png: the picture.
    """

    name: str
    title: str
    alternative: str
    svg: bytes
    png: bytes


def colours(table: Rows) -> dict[tuple[str, str], str]:
    """By method and calibration set, in the order of the table; the ninth has the first's."""
    rows = zip(table.rows, table.entries, strict=True)
    pairs = dict.fromkeys((r["method"], r["calib"]) for r, e in rows if e.about["compresses"])
    return dict(zip(pairs, cycle(COLOURS), strict=False))


def markers(table: Rows) -> dict[str, str]:
    """By pattern: unstructured, then the others in the order of the table."""
    rows = zip(table.rows, table.entries, strict=True)
    patterns = [pattern_of(str(r["sparsity"])) for r, e in rows if e.about["compresses"]]
    return dict(zip(dict.fromkeys([UNSTRUCTURED, *patterns]), cycle(MARKERS), strict=False))


def panelled(
    count: int, *, width: float, height: float, most: int = 3
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with so many panels, at most so many side by side."""
    across = min(count, most)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down + 0.6))
    axes = list(figure.subplots(down, across, squeeze=False).flatten())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def told_patterns(signs: Mapping[str, str]) -> dict[str, Artist]:
    """For a legend, what markers mean; nothing where there is only the usual one."""
    if list(signs) == [UNSTRUCTURED]:
        return {}
    return {
        pattern: Line2D([], [], color=INK, linestyle="", marker=sign)
        for pattern, sign in signs.items()
    }


def keyed(figure: Figure, handles: Mapping[str, Artist], panels: int) -> None:
    """A legend below all panels, in as many columns as there is room for."""
    letters = int(figure.get_figwidth() * 13)
    across = max(1, min(3, panels, letters // (max(map(len, handles)) + 6)))
    figure.set_figheight(figure.get_figheight() + 0.18 * math.ceil(len(handles) / across))
    figure.legend(
        *(handles.values(), [clipped(label, letters // across - 6) for label in handles]),
        loc="outside lower center",
        ncols=across,
    )


def saved(sketch: Sketch, mark: str = "") -> Drawn:
    """The figure as it is kept.

    Args:
        sketch: the figure.
        mark: what is written into the picture, above its panels: a number that leaves the report
            must not lose it.
    """
    figure, alternative = sketch.figure, sketch.alternative
    if mark:
        lines = wrap(mark, int(figure.get_figwidth() * 17))
        figure.set_figheight(figure.get_figheight() + 0.13 * len(lines))
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=7, color=GREY)
        alternative += f" {mark[0].upper()}{mark[1:]}."
    svg, png = io.BytesIO(), io.BytesIO()
    with _salted(sketch.name), warnings.catch_warnings():
        # of letters that its font lacks: in SVG text is text, and the reader's fonts have them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Drawn(sketch.name, sketch.title, alternative, svg.getvalue(), png.getvalue())


@contextmanager
def _salted(name: str) -> Iterator[None]:
    """Ids that are the same at every run, and others in every figure of a page."""
    with rc_context({"svg.hashsalt": name}):
        yield


def clipped(name: str, most: int = 48) -> str:
    """Without its middle: what tells long names apart is at their ends."""
    end = most // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def ranged(values: Sequence[float]) -> str:
    """Of numbers, for those who do not see them."""
    return f"{min(values):.3g} to {max(values):.3g}" if values else "none"


def left_out(count: int, most: int, what: str) -> str:
    """What a figure does not have."""
    where = "--columns chooses" if what in ("metrics", "tasks") else "all are in the tables"
    return f"; the first {most} of {count} {what} ({where})" if count > most else ""


def sentences(said: Sequence[str], most: int = 12) -> str:
    """Sentences, not more of them than anybody listens to."""
    rest = len(said) - most
    shown = ". ".join(islice(said, most))
    return f"{shown}. And {rest} more; see the files." if rest > 0 else f"{shown}."
