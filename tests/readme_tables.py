"""The README's tables of results, as tests compare them with what is computed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


class Published(NamedTuple):
    """A row beside the published code: ours, and the same of its weights."""

    perplexity: float
    jsd: float
    its_perplexity: float
    its_jsd: float


class Shown(NamedTuple):
    """A row of the embedded model."""

    perplexity: float
    jsd_prose: float
    jsd_instructions: float
    em: float
    f1: float
    em_reworded: float


def published() -> dict[str, Published]:
    """By method and pattern: `dense`, `wanda-u50`, `wanda-2of4`."""
    found = re.findall(
        r"^\| (dense|magnitude|Wanda|SparseGPT)(?: (50 %|2:4))? \| ([\d.]+) \| ([\d.]+) "
        r"\| ([\d.]+), ([\d.]+) \|$",
        README,
        re.MULTILINE,
    )
    ends = {"": "", "50 %": "-u50", "2:4": "-2of4"}
    return {
        method.lower() + ends[pattern]: Published(*map(float, numbers))
        for method, pattern, *numbers in found
    }


def embedded() -> dict[tuple[str, str, str], Shown]:
    """By method, sparsity (`50 %`) and what it was calibrated on."""
    rows = [line.strip("| ").split(" | ") for line in README.splitlines() if "| ." in line]
    return {
        (row[0], row[1].strip(), row[2].strip()): Shown(*map(float, row[3:]))
        for row in (line if len(line) == 9 else [line[0], "", "", *line[1:]] for line in rows)
    }
