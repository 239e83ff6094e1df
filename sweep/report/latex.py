"""The table as it goes into a paper: LaTeX with the rules of booktabs (pandas).

A value, beside it its difference to the baseline, with its interval if that fits; bold is the best
alone. What does not fit a text block of `WIDTH` points is split into tables of the same rows,
between corpora if possible. Below each stands on what the numbers are, where the intervals are if
they are not there, and what is a stand-in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sweep.report.notes import measured_on, sources, stand_ins
from sweep.report.table import UNCLEAR, UNKNOWN, Rows, shown_columns
from sweep.report.typeset import LEGEND, digits, minus, signed, spread

WIDTH = 345.0
"""Points: the text block of article at 10 pt, the narrowest of the usual ones."""

ROWS = 40
"""Of a table that fits a page; one of more goes on over pages (longtable)."""

NAMES = 0.45
"""Share of the width that names of rows have before their words are broken, down to `NARROW`."""

NARROW = 40.0
LEAST = 12.0
"""Points of a column of names: where its words are still readable, and where letters still fit."""

HEADING = 90.0
"""Points of a metric's name before its letters are broken."""

GAP = 5.0
"""Points between two columns."""

BOLD = 1.15
"""How much wider bold letters are."""

LETTERS = (
    (".,:;'|!ijl", 0.3),
    ("-() ft[]rs", 0.42),
    ("0123456789–acegoz", 0.54),
    ("bdhknpquvxy", 0.6),
    ("+−±×≈<>=w", 0.83),
    ("m%&", 0.89),
    ("", 1.1),
)
"""How wide letters are at 8 pt, in shares of that; the last is for all others."""

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≈": r"$\sim$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
"""Letters that LaTeX would obey, or that its first font lacks."""

HEAD = """\
% \\usepackage{{booktabs,longtable}}; set for a text block of {width:g} pt or more
% (in two columns: table* in place of table)
"""


@dataclass(frozen=True)
class _Column:
    """A metric: its heads, and per row the value and its difference, in plain letters."""

    name: str
    over: str
    head: str
    values: Sequence[str]
    changes: Sequence[str]

    @property
    def width(self) -> float:
        inner = BOLD * max(map(_long, self.values)) + max(map(_long, self.changes)) + 2.0
        return max(inner, min(_width(self.head), HEADING)) + GAP


def latex(table: Rows, name: str) -> str:
    """One `table` or more (`longtable` if there are many rows), each within `WIDTH` points.

    Letters that are not ASCII become the nearest that is, or a question mark.

    Args:
        table: its rows.
        name: of the sweep, for caption and label.
    """
    if not table.rows:
        return HEAD.format(width=WIDTH)
    shown = shown_columns(table)
    for intervals in (True, False):
        columns = [_column(table, metric, intervals=intervals) for metric in table.metrics]
        names = _capped(table, shown, max((one.width for one in columns), default=0.0))
        room = WIDTH - sum(width + GAP for _, width in names)
        if sum(one.width for one in columns) <= room:
            break
    texts = [
        _typeset(table, name, number, shown, names, part)
        for number, part in enumerate(_parts(columns, room) or [[]], start=1)
    ]
    return HEAD.format(width=WIDTH) + "\n".join(texts)


def _column(table: Rows, metric: str, *, intervals: bool) -> _Column:
    cells = (_cell(table, row, metric, intervals=intervals) for row in table.rows)
    values, changes = zip(*cells, strict=True)
    found = [entry.values[metric] for entry in table.entries if metric in entry.values]
    corpora = [entry.corpus(metric) for entry in table.entries if metric in entry.values]
    own = str(found[0]["name"]) if found else metric
    corpus = next((corpus for corpus in corpora if corpus and own.endswith(f"_{corpus}")), "")
    arrow = {"lower": " ↓", "higher": " ↑"}.get(table.better.get(metric, ""), "")
    head = own.removesuffix(f"_{corpus}") if corpus else metric
    way = metric.removeprefix(own) if corpus else ""  # `@…`, of what was measured in several ways
    return _Column(metric, corpus + way, head + arrow, values, changes)


def _cell(table: Rows, row: Mapping[str, Any], metric: str, *, intervals: bool) -> tuple[str, str]:
    """The value, and its difference in brackets, with its interval; or with `≈` if that holds 0,
    and `?` if there is none."""
    if metric not in row:
        return "–", ""
    value, change = row[metric], f"{metric}_vs_{table.baseline}"
    form = digits(value)
    shown = format(value, form)
    shown = _number(shown + spread(row.get(f"{metric}_sd"), shown))
    if change not in row or row["method"] == table.baseline:
        return shown, ""
    sign = {UNCLEAR: "≈"}.get(own := table.sign(row, metric), own)
    ends = ""
    if intervals and (found := table.ends(row, metric)) is not None:
        ends = f" [{', '.join(signed(end, form) for end in found)}]"
        sign = ""
    return shown, f"({_number(signed(row[change], form) + ends)}{sign})"


def _number(said: str) -> str:
    """With a minus that is one; `1.3e-04` is 1.3e−4."""
    return minus(re.sub("e-0?", "e-", said))


def _capped(table: Rows, shown: Sequence[str], widest: float) -> list[tuple[float, float]]:
    """Of each column of names the width at which its words are broken, and the width it has."""
    natural = [
        max(_width(said) for said in (name, *(str(row[name]) for row in table.rows)))
        for name in shown
    ]
    cap = WIDTH
    while cap > LEAST:
        found = [min(width, cap) for width in natural]
        share = max(NAMES * WIDTH, WIDTH - 2 * widest) if cap >= NARROW else WIDTH - widest
        if sum(found) + GAP * len(found) <= share:
            break
        cap -= 4.0
    return [(cap, min(width, cap)) for width in natural]


def _parts(columns: Sequence[_Column], room: float) -> list[list[_Column]]:
    """The columns of each table: those of one corpus begin a new one if they do not all fit."""
    parts: list[list[_Column]] = []
    left = 0.0
    for _, group in groupby(columns, key=lambda one: one.over):
        together = list(group)
        if not parts or sum(one.width for one in together) > left:
            parts.append([])
            left = room
        for one in together:
            if one.width > left and parts[-1]:
                parts.append([])
                left = room
            parts[-1].append(one)
            left -= one.width
    return parts


def _typeset(
    table: Rows,
    name: str,
    number: int,
    shown: Sequence[str],
    names: Sequence[tuple[float, float]],
    columns: Sequence[_Column],
) -> str:
    import pandas as pd

    heads = [("", _boxed(said, cap), "") for said, (cap, _) in zip(shown, names, strict=True)]
    for one in columns:
        over, head = (_boxed(said, HEADING, "raggedleft") for said in (one.over, one.head))
        heads += [(over, head, "value"), (over, head, "change")]
    cells = [
        [
            *(_boxed(str(row[n]), cap) for n, (cap, _) in zip(shown, names, strict=True)),
            *(said for one in columns for said in _pair(table, row, one, i)),
        ]
        for i, row in enumerate(table.rows)
    ]
    for own in cells:  # or the `\\` before it would take a name's `[` or `*` for its own
        own[0] = "{}" + own[0]
    frame = pd.DataFrame(cells, columns=pd.MultiIndex.from_tuples(heads))
    bare = not any(one.over for one in columns)
    styler = frame.style.hide(axis="index").hide(axis="columns", level=[0, 2] if bare else [2])
    long = len(table.rows) > ROWS
    text = str(
        styler.to_latex(
            hrules=True,
            column_format="l" * len(shown) + r"r@{\,}l" * len(columns),
            multicol_align="c",
            position=None if long else "tbp",
            position_float=None if long else "centering",
            environment="longtable" if long else "table",
            caption=_caption(table, name, columns),
            label=f"tab:{_label(name)}-{number}",
        )
    )
    text = _ruled(text, len(shown), columns)
    notes = "".join(f"{_broken(line)}\\par\n" for line in _notes(table, columns))
    small = f"{{\\fontsize{{7}}{{8.5}}\\selectfont\\raggedright\n{notes}}}\n"
    size = "\\fontsize{8}{9.6}\\selectfont\\setlength{\\tabcolsep}{2.5pt}\n"
    if long:
        return f"\\begingroup{size}{text}\\noindent{small}\\endgroup\n"
    text = text.replace("\\centering\n", f"\\centering{size}", 1)
    text = text.replace("\\begin{tabular}", "\\smallskip\n\\begin{tabular}", 1)
    return text.replace("\\end{table}", f"\\par\\smallskip\n{small}\\end{{table}}")


def _pair(table: Rows, row: Mapping[str, Any], one: _Column, place: int) -> tuple[str, str]:
    value, change = _numeric(one.values[place]), _numeric(one.changes[place])
    if table.best(row, one.name):
        number, sign, rest = value.partition(" $\\pm$")
        bold = r"\boldmath" if "$" in number else ""
        value = f"\\textbf{{{bold}{number}}}{sign}{rest}"
    return value, change


def _ruled(text: str, names: int, columns: Sequence[_Column]) -> str:
    """A rule under each corpus, of the columns that it is over."""
    rules, place = "", names + 1
    for over, group in groupby(columns, key=lambda one: one.over):
        end = place + 2 * len(list(group))
        rules += f"\\cmidrule(lr){{{place}-{end - 1}}}" if over else ""
        place = end
    if not rules:
        return text
    lines = text.split("\n")
    tops = [i for i, line in enumerate(lines) if line == "\\toprule"]
    for i in reversed(tops):  # of a long table the head is there twice
        lines.insert(i + 2, rules)
    return "\n".join(lines)


def _caption(table: Rows, name: str, columns: Sequence[_Column]) -> str:
    said = ", ".join(dict.fromkeys(one.name for one in columns))
    return f"{_broken(name)}: {_broken(said)}." if said else f"{_broken(name)}."


def _notes(table: Rows, columns: Sequence[_Column]) -> list[str]:
    """What the signs mean; on what the numbers are; what is a stand-in; what is not there."""
    lines: list[str] = []
    if table.mean:
        lines.append("±: one standard deviation over seeds.")
    if any(any(one.changes) for one in columns):
        said = f"In brackets: difference to {table.baseline}, over the same examples"
        inside = any("[" in change for one in columns for change in one.changes)
        elsewhere = "; ≈: its 95 % interval holds 0. The intervals are in results.csv."
        lines.append(said + (", with its 95 % interval." if inside else elsewhere))
    if any(change.endswith(f"{UNKNOWN})") for one in columns for change in one.changes):
        lines.append(f"{UNKNOWN}: {LEGEND[UNKNOWN]}.")
    if any(table.best(row, one.name) for row in table.rows for one in columns):
        lines.append("Bold: best with the same model and sparsity.")
    own = [one.name for one in columns]
    lines += [f"{line}." for line in measured_on(table.entries, own)]
    lines += [f"{line}." for line in stand_ins(sources(table.entries, own))]
    if lacking := sum(entry.status != "done" for entry in table.entries):
        lines.append(f"–: no result; not finished: {lacking} of {len(table.entries)} cells.")
    return lines


def _boxed(said: str, width: float, align: str = "raggedright") -> str:
    """Text that is no wider: else in lines, broken at any letter if need be."""
    if _width(said) <= width:
        return _tex(said)
    return f"\\parbox[t]{{{width:g}pt}}{{\\{align} {_broken(said, width)}}}"


def _broken(said: str, width: float = WIDTH / 3) -> str:
    """Text in which words that are wider may be broken at any letter."""
    words = _ascii(said).split(" ")
    return " ".join(
        ("\\allowbreak{}" if _width(word) > width else "").join(SPECIAL.get(x, x) for x in word)
        for word in words
    )


def _tex(said: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in _ascii(said))


def _numeric(said: str) -> str:
    """A number, `1.3e−5` as people write it."""
    return re.sub(r"([\d.]+)e\$-\$(\d+)", r"$\1\\times10^{-\2}$", _tex(said))


def _long(said: str) -> float:
    """Points of a number as `_numeric` writes it."""
    return _width(said.replace("e−", "×10−"))


def _label(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)


def _ascii(said: str) -> str:
    """The nearest letters that LaTeX has without packages."""
    own = {"–", *SPECIAL}
    plain = "".join(x if x in own else unicodedata.normalize("NFKD", x) for x in said)
    known = (x if (x.isascii() and x.isprintable()) or x in own else "?" for x in plain)
    return "".join(known)


def _width(said: str) -> float:
    """Points of a text at 8 pt: letters of Computer Modern, in classes, all as wide as one."""
    return 8 * sum(
        next(w for letters, w in LETTERS if x in letters or not letters) for x in _ascii(said)
    )
