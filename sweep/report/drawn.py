"""What all figures of a report have in common (matplotlib): style, panels, the same bytes always.

Colours are those of Okabe and Ito, which people who see fewer colours can tell apart. No text is
read as mathematics: names may hold any sign.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
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
class Drawn:
    """A figure.

    Attributes:
        name: of its files.
        title: above it.
        alternative: what it shows, for those who do not see it.
        svg, png: the picture.
    """

    name: str
    title: str
    alternative: str
    svg: bytes
    png: bytes


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


def saved(name: str, title: str, figure: Figure, alternative: str) -> Drawn:
    """The figure as it is kept; for the arguments see `Drawn`."""
    svg, png = io.BytesIO(), io.BytesIO()
    with _salted(name), warnings.catch_warnings():
        # of letters that its font lacks: in SVG text is text, and the reader's fonts have them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Drawn(name, title, alternative, svg.getvalue(), png.getvalue())


@contextmanager
def _salted(name: str) -> Iterator[None]:
    """Ids that are the same at every run, and others in every figure of a page."""
    with rc_context({"svg.hashsalt": name}):
        yield


def clipped(name: str, most: int = 48) -> str:
    """Without its middle: what tells long names apart is at their ends."""
    end = most // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def left_out(count: int, most: int, what: str) -> str:
    """What a figure does not have."""
    where = "all are in the tables" if what == "lines" else "--columns chooses"
    return f"; the first {most} of {count} {what} ({where})" if count > most else ""


def sentences(said: Sequence[str], most: int = 12) -> str:
    """Sentences, not more of them than anybody listens to."""
    rest = len(said) - most
    shown = ". ".join(islice(said, most))
    return f"{shown}. And {rest} more; see the files." if rest > 0 else f"{shown}."
