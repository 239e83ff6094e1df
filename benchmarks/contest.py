"""Two ways to do the same work, in turns in one run: what a benchmark says is a ratio.

The machines are shared, so seconds of one minute say little about seconds of the next. Both sides
of a contest do their work on the same inputs, one after the other, several times; the ratio of a
turn compares what was measured within a few seconds, and the median over the turns is what counts.
What the sides computed is compared too: a fast way to other numbers is no faster way.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sweep.model.placement import check_accelerate
from sweep.options import Options, positive
from sweep.refusal import Refusal

HERE = Path(__file__).parent
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Contest:
    """What was measured of one piece of work.

    Attributes:
        work: what is done, with its sizes.
        against: what it is compared with.
        unit: of both sides' values: s, MB, ….
        bound: the ratio, theirs over ours, that must be reached; None where there is none.
        ours: a value per turn; none at all if it was not measured.
        theirs: a value per turn.
        agreement: how far the two results are apart, in words.
        note: what bounds it, or why it was not measured.
    """

    work: str
    against: str
    unit: str
    bound: float | None
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    agreement: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Theirs over ours, the median over the turns; above 1, ours is less."""
        if not self.ours or not self.theirs:
            return None
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def turns(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    runs: int,
    before: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Seconds of both sides, one after the other, `runs` times; who begins changes.

    `before` sets a side up and is not timed. A side that returns a float has timed itself, in a
    process of its own.
    """
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(runs):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            before()
            started = time.perf_counter()
            told = (ours, theirs)[side]()
            seconds = time.perf_counter() - started
            spent[side].append(told if isinstance(told, float) else seconds)
    return spent


def resident(what: str = "VmRSS") -> float:
    """Memory of this process in MB: now, or with `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def peak_begins() -> float:
    """From here on `VmHWM` is counted; the memory in MB at this point."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident()


class Tensors(TorchDispatchMode):
    """Counts the bytes of tensors that are made in its scope and still held.

    Attributes:
        peak: the most of them at once.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._held = {one.untyped_storage().data_ptr(): 0 for one in apart}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for one in tree_leaves(answer):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                if (place := storage.data_ptr()) and place not in self._held:
                    self._held[place] = storage.nbytes()
                    self._now += storage.nbytes()
                    weakref.finalize(storage, self._dropped, place)
        self.peak = max(self.peak, self._now)
        return answer

    def _dropped(self, place: int) -> None:
        self._now -= self._held.pop(place)


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where this is measured: the device by its name, versions, threads, date."""
    from sweep.environment import environment

    return {
        **environment(device),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def arguments(command: str, description: str) -> Options:
    """What every benchmark can be told; more may be added."""
    parser = Options(command, description)
    parser.add_argument("--runs", type=positive, default=3, help="turns of both sides")
    parser.add_argument("--quick", action="store_true", help="small, one turn, nothing written")
    return parser


def needs_accelerate(parser: Options) -> None:
    """Ends the program where models cannot be read block by block, before anything is made."""
    try:
        check_accelerate("stream", None)
    except Refusal as refusal:
        parser.error(str(refusal))


def show(contests: Sequence[Contest], where: dict[str, Any]) -> None:
    """The table on the terminal."""
    table = Table(box=box.MARKDOWN)
    for name in ("work", "against", "unit", "ours", "theirs", "ratio", "bound", "agreement"):
        table.add_column(name, justify="left" if name in ("work", "against") else "right")
    for one in contests:
        ratio = NOT_MEASURED if one.ratio is None else f"{one.ratio:.2f}"
        bound = "" if one.bound is None else f"{one.bound:g}"
        sides = [f"{statistics.median(x):.3g}" if x else "" for x in (one.ours, one.theirs)]
        table.add_row(one.work, one.against, one.unit, *sides, ratio, bound, one.agreement)
    console = Console(width=160)
    console.print(table)
    for one in contests:
        if one.note:
            console.print(f"{one.work}, against {one.against}: {one.note}", markup=False)
    console.print(
        f"{where['date']}, {where['device']}, {where['cores']} cores, torch {where['torch']}, "
        f"{where['threads']} threads, peak resident memory {resident('VmHWM'):.0f} MB",
        markup=False,
    )


def write(name: str, contests: Sequence[Contest], where: dict[str, Any]) -> None:
    """`benchmarks/<name>.json`, from which the README's section is made."""
    rows = [{**vars(one), "ratio": one.ratio} for one in contests]
    record = {"machine": where, "peak_memory_mb": resident("VmHWM"), "contests": rows}
    (HERE / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
