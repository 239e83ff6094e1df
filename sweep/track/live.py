"""A running cell shown in Weights & Biases: on its server, or in a file that can be sent to it.

Nothing here decides anything: if W&B cannot be reached, fails, or goes away in the middle, the cell
goes on and says so once, and `python -m sweep.track` makes the mirror later.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from sweep.environment import environment
from sweep.files import Folder
from sweep.track import offline, server
from sweep.track.found import Found, Place, keep_place
from sweep.track.journal import Journal, layers
from sweep.track.mirror import Examples, Mirror, SilentMirror, Tracker
from sweep.track.send import send
from sweep.track.shown import Shown, of_cell

if TYPE_CHECKING:
    from sweep.cell import Cell

log = logging.getLogger("sweep")

PATIENCE = 15.0
"""Seconds in which the server must answer when a run is opened, and take the rest when it ends."""

CHANCES = 3
"""Cells that a server in trouble may leave unshown, or not shown whole, until it is given up."""

EVERY = 30.0
"""Seconds after which a cell's file is made anew while the cell runs."""

LATER = "`python -m sweep.track {}` shows it later"


@final
@dataclass(frozen=True)
class WandB(Tracker):
    """Weights & Biases.

    Attributes:
        mode: `online` sends at once; `offline` writes below outputs/wandb and needs neither login
            nor network; `auto` is online where there is a login and the server answers within a
            few seconds, else offline; `disabled` shows nothing.
        project: on the server.
        entity: user or team; None: the login's own.
    """

    mode: Literal["online", "offline", "disabled", "auto"] = "offline"
    project: str = "compression-sweep"
    entity: str | None = None
    _chosen: list[Literal["online", "offline"]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )
    _late: list[str] = field(init=False, repr=False, compare=False, default_factory=list)
    _failures: list[str] = field(init=False, repr=False, compare=False, default_factory=list)

    def open(self, cell: Cell, group: str) -> Mirror:
        """See `Tracker`. Once W&B has failed, the cells that follow do not wait for it.

        A server that is there and only takes too long (rate limits, errors of its own) has not, but
        for one that is so for several cells. The history of cells that are not shown is written
        all the same, so that they can be shown later as if nothing were.
        """
        if self.mode == "disabled":
            return SilentMirror()
        outputs = Path(cell.settings.outputs)
        folder = Folder(outputs, cell.name)
        journal = Journal(folder.progress)
        try:
            server.prepare(outputs / "wandb")
            mode = self._mode(outputs)
            _begin(journal, cell, folder, group, "offline" if self._failures else mode)
        except Exception as error:  # noqa: BLE001 - whatever a mirror does, the cell goes on
            self._fail(outputs, error)
            return SilentMirror()
        said = _said(cell)
        mirror = CellMirror(lambda: of_cell(folder, said, journal=journal), journal)
        if not self._failures:
            place = _Server(self) if mode == "online" else _File(self, outputs)
            mirror.show_in(place, lambda error: self._fail(outputs, error))
        return mirror

    def conclude(self, name: str, outputs: Path) -> None:
        """See `Tracker`. Only online: offline `sweep.track` sends it with the cells."""
        if self.mode == "disabled":
            return
        place = Place(self.project, self.entity)
        try:
            keep_place(place, name, outputs)
            if self.mode == "offline" or self._failures:
                return
            server.prepare(outputs / "wandb")
            shown = Found.below(outputs).sweep(name) if self._mode(outputs) == "online" else None
            if shown is None:
                return
            if (lacks := server.login()) is not None:
                raise RuntimeError(lacks)
            cells = shown.config["cells"]
            _, has = server.there([shown.id, *cells], *place)
            if not has.get(shown.id, server.Held()).holds(shown):
                send(shown, outputs, place, PATIENCE)
                server.clean(outputs / "wandb")
            if count := sum(id not in has for id in cells):
                words = f"{outputs}/reports/{name} --project {self.project}"
                words += f" --entity {self.entity}" if self.entity else ""
                text = "W&B: %d of %d cells, done before, are not in %s; `python -m sweep.track %s`"
                log.warning(f"{text} sends them", count, len(cells), self.project, words)
        except Exception as error:  # noqa: BLE001 - whatever a mirror does, the sweep has ended
            later = LATER.format(outputs)
            log.warning("W&B: the sweep's table: %s; %s", server.in_words(error), later)

    def _mode(self, outputs: Path) -> Literal["online", "offline"]:
        """What `auto` means here; found out once, and said if it is not what it would like."""
        if self.mode in ("online", "offline"):
            return self.mode
        if not self._chosen:
            lacks = server.login()
            if lacks is None and not server.answers():
                lacks = f"{server.address()} does not answer within {server.LOOK:.0f} s"
            if lacks is not None:
                later = LATER.format(outputs)
                log.info("W&B: %s; so offline, and %s", lacks, later)
            self._chosen.append("online" if lacks is None else "offline")
        return self._chosen[0]

    def _fail(self, outputs: Path, error: Exception) -> None:
        reason, later = server.in_words(error), LATER.format(outputs)
        if not self._failures and server.late(error) and len(self._late) < CHANCES - 1:
            self._late.append(reason)
            log.warning("  not all of it is shown in W&B yet: %s; %s", reason, later)
            return
        if not self._failures:
            log.warning(
                "  not shown in W&B, and the cells that follow neither: %s; %s", reason, later
            )
        self._failures.append(reason)


class _Place(ABC):
    """Where a run is while its cell runs. Everything may raise whatever the client raises."""

    every: float
    """Seconds after which it wants to be shown everything again."""

    @abstractmethod
    def show(self, shown: Shown) -> None:
        """Everything that is known of the cell."""

    @abstractmethod
    def add(self, row: Mapping[str, Any]) -> None:
        """One more row of its history."""

    @abstractmethod
    def close(self, shown: Shown, failed: bool) -> None:
        """The last that there is to show."""


@final
class _File(_Place):
    """A file below outputs/wandb."""

    every = EVERY

    def __init__(self, tracker: WandB, outputs: Path) -> None:
        self._tracker, self._outputs = tracker, outputs

    def show(self, shown: Shown) -> None:
        offline.render(shown, self._outputs, self._tracker.project, self._tracker.entity)

    def add(self, row: Mapping[str, Any]) -> None:
        """It is in the next file."""

    def close(self, shown: Shown, failed: bool) -> None:
        self.show(replace(shown, done=shown.done and not failed))


@final
class _Server(_Place):
    """A run on the server."""

    every = float("inf")

    def __init__(self, tracker: WandB) -> None:
        self._tracker = tracker
        self._run: Any = None
        self._next = 0

    def show(self, shown: Shown) -> None:
        if self._run is None:
            if (lacks := server.login()) is not None:
                raise RuntimeError(lacks)
            self._run = server.open_run(
                shown,
                "online",
                Path(shown.config["outputs"]) / "wandb",
                project=self._tracker.project,
                entity=self._tracker.entity,
                patience=PATIENCE,
                wait=PATIENCE,
            )
            self._next = self._run.starting_step
        server.fill(self._run, shown, self._next)
        if shown.history:
            self._next = max(self._next, shown.history[-1]["step"] + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        server.log_row(self._run, row)
        self._next = row["step"] + 1

    @property
    def next(self) -> int:
        """Number of the row that the server would take next."""
        return self._next

    def close(self, shown: Shown, failed: bool) -> None:
        try:
            self.show(shown)
        finally:
            self._run.finish(exit_code=1 if failed else 0)
            server.clean(Path(shown.config["outputs"]) / "wandb")


@final
class CellMirror(Mirror):
    """A cell's history on disk, and from there in W&B.

    Args:
        read: the cell as its folder has it now.
        journal: its history, begun.
    """

    def __init__(self, read: Callable[[], Shown], journal: Journal) -> None:
        self._read = read
        self._journal = journal
        self._place: _Place | None = None
        self._fail: Callable[[Exception], None] = lambda error: None
        self._shown_at = 0.0
        self._tokens, self._began = 0, time.monotonic()

    def show_in(self, place: _Place, fail: Callable[[Exception], None]) -> None:
        """Show everything that is known, and from now on what is added.

        Args:
            place: where.
            fail: is told why nothing is shown any more.
        """
        self._place, self._fail = place, fail
        self._show()
        if isinstance(self._place, _Server):
            self._journal.skip_to(self._place.next)

    def progress(self, what: str, done: int, total: int) -> None:
        """How far the loop is, the memory, and while compressing the tokens per second."""
        row = {f"progress/{what}": done / total, f"done/{what}": done, **memory()}
        if what == "blocks" and self._tokens:
            seconds = max(time.monotonic() - self._began, 1e-6)
            row["tokens_per_second/compression"] = self._tokens * done / total / seconds
        self._add(row)
        if self._place is not None and time.monotonic() - self._shown_at > self._place.every:
            self._show()

    def calibrated(self, tokens: int) -> None:
        """From here the compression is timed."""
        self._tokens, self._began = tokens, time.monotonic()

    def layers(self, found: Mapping[int, Mapping[str, Any]]) -> None:
        """A row for each, once: of a compression that goes on, or is made again, some are there."""
        self._add(*self._journal.untold(found))

    def compressed(self, record: Mapping[str, Any]) -> None:
        """A row for every layer that was not told of while it went on."""
        self.layers(layers(record))

    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """All its values with their intervals, the generations, and how fast it was."""
        tokens = sum(int(data.get("scored_tokens", 0)) for data in record["data"])
        for rows in examples.values():
            tokens += sum(len(row.get("tokens", ())) for row in rows if "answer" in row)
        if tokens and record["seconds"]:
            self._add({f"tokens_per_second/{metric}": tokens / record["seconds"]})
        if isinstance(self._place, _Server):
            self._show()

    def close(self, failure: str | None) -> None:
        """The run ends; as failed, if the cell did."""

        def end(place: _Place) -> None:
            shown = self._read()
            if failure is not None:
                shown = replace(shown, summary={**shown.summary, "failure": failure})
            place.close(shown, failure is not None)

        self._safely(end)

    def _add(self, *rows: Mapping[str, float]) -> None:
        try:
            added = self._journal.add(*rows)
        except OSError as error:  # a full disk, of which the cell will say more
            if self._place is not None:
                self._fail(error)
            self._place = None
            return

        def show(place: _Place) -> None:
            for row in added:
                place.add(row)

        self._safely(show)

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        self._safely(lambda place: place.show(self._read()))

    def _safely(self, act: Callable[[_Place], None]) -> None:
        if self._place is None:
            return
        try:
            act(self._place)
        except Exception as error:  # noqa: BLE001 - whatever a mirror does, the cell goes on
            self._place = None
            self._fail(error)


def memory() -> dict[str, float]:
    """Gigabytes that the process has used at most, and of the GPU, if it uses one."""
    kilo = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
    found = {"memory/peak_gb": peak / 1e9}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["memory/gpu_gb"] = torch.cuda.memory_allocated() / 1e9
        found["memory/gpu_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def _said(cell: Cell) -> dict[str, Any]:
    """What will be in cell.yaml."""
    metrics = {name: cell.metric_id(name) for name in cell.parts.metrics}
    return {
        "id": cell.id,
        "identity": dict(cell.identity),
        "about": dict(cell.about),
        "metrics": metrics,
        "config": dict(cell.config),
    }


def _begin(journal: Journal, cell: Cell, folder: Folder, group: str, mode: str) -> None:
    """Another attempt in the journal; rows of an earlier one without a tracker come first."""
    from sweep.model.placement import choose_device

    planned = {
        name: [asdict(origin) for origin in metric.origins()]
        for name, metric in cell.parts.metrics.items()
    }
    calibration = cell.parts.calibration
    if calibration is not None:
        planned["calib"] = [asdict(origin) for origin in calibration.origins()]
    device = str(choose_device(cell.parts.checkpoint.device))
    head = {"sweep": group, "mode": mode, "began": time.time()}
    journal.begin({**head, "environment": environment(device), "data": planned})
    journal.add(*journal.untold(layers(folder.compression())))
