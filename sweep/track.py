"""A cell shown in Weights & Biases while it runs and when it is done. The files are the truth.

One run per cell: its id is the cell's id, its group the sweep. Nothing here decides anything: if
W&B cannot be reached or fails, the cell goes on, and says so. The only file that imports wandb.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from sweep.cell import Cell

log = logging.getLogger("sweep")

SAMPLES = 20
"""Generations shown per corpus; all of them are in the cell's folder."""

PATIENCE = 15.0
"""Seconds in which the server must answer when a run is opened."""

Examples = Mapping[str, Sequence[Mapping[str, Any]]]


class Mirror(ABC):
    """Where one running cell is shown."""

    @abstractmethod
    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` items of the loop `what` are done."""

    @abstractmethod
    def compressed(self, record: Mapping[str, Any]) -> None:
        """The compression has been recorded."""

    @abstractmethod
    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """A metric has been recorded."""

    @abstractmethod
    def close(self, failure: str | None) -> None:
        """The cell has ended; with the reason, if it failed."""


class Tracker(ABC):
    """Makes mirrors. Constructing it connects to nothing."""

    @abstractmethod
    def open(self, cell: Cell, group: str) -> Mirror:
        """A mirror for a cell of the sweep `group`."""


@final
@dataclass(frozen=True)
class Silent(Tracker):
    """Shows nothing: there are the files."""

    def open(self, cell: Cell, group: str) -> Mirror:
        """See `Tracker`."""
        return SilentMirror()


@final
class SilentMirror(Mirror):
    """Nowhere."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def compressed(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """Nothing."""

    def close(self, failure: str | None) -> None:
        """Nothing."""


@final
@dataclass(frozen=True)
class WandB(Tracker):
    """Weights & Biases.

    Attributes:
        mode: `offline` writes below outputs/wandb and needs no login (`wandb sync` sends it later);
            `online` sends at once.
        project: on the server.
        entity: user or team; None: the login's own.
    """

    mode: Literal["offline", "online"] = "offline"
    project: str = "compression-sweep"
    entity: str | None = None
    _failures: list[str] = field(init=False, repr=False, compare=False, default_factory=list)

    def open(self, cell: Cell, group: str) -> Mirror:
        """See `Tracker`. Once W&B could not be reached, the cells that follow do not wait for it.

        The whole configuration is sent first. Offline, wandb holds it back for a while: a process
        that is killed may leave a file without it, and the cell's own cell.yaml has it.
        """
        if self._failures:
            return SilentMirror()
        folder = Path(cell.settings.outputs) / "wandb"
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            os.environ.setdefault(name, str(folder / name.split("_")[1].lower()))
        staged = folder / "data" / f"{os.getpid()}"  # copies of tables, which wandb leaves behind
        os.environ["WANDB_DATA_DIR"] = str(staged)
        try:
            return WandBMirror(self._start(cell, group, folder), staged)
        except Exception as error:  # noqa: BLE001 - whatever a mirror does, the cell goes on
            reason = " ".join(str(error).split())
            self._failures.append(reason)
            log.warning("  not shown in W&B, and the cells that follow neither: %s", reason)
            return SilentMirror()

    def _start(self, cell: Cell, group: str, folder: Path) -> Any:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # The run ends with the cell; its console, code and machine are not W&B's business.
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            init_timeout=PATIENCE,
        )
        return wandb.init(
            id=cell.id,
            name=cell.label,
            project=self.project,
            entity=self.entity,
            group=group,
            job_type=cell.config["options"]["method"],
            config={**cell.config, "cell": cell.id, "identity": dict(cell.identity)},
            dir=folder,
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            reinit="finish_previous",
            settings=settings,
        )


@final
class WandBMirror(Mirror):
    """A W&B run.

    Args:
        run: what `wandb.init` returned.
        staged: folder of what wandb needs only while it runs.
    """

    def __init__(self, run: Any, staged: Path) -> None:
        self._run = run
        self._staged = staged

    def progress(self, what: str, done: int, total: int) -> None:
        """A curve per loop: its share that is done."""
        self._safely(lambda: self._run.log({f"progress/{what}": done / total}))

    def compressed(self, record: Mapping[str, Any]) -> None:
        """The achieved sparsity into the summary."""
        self._safely(lambda: self._run.summary.update({"sparsity": record["sparsity"]}))

    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """All values into the summary; a table of the first generations."""
        values = {f"{metric}/{name}": value["value"] for name, value in record["values"].items()}
        self._safely(lambda: self._run.summary.update(values))
        for corpus, rows in examples.items():
            if rows and "answer" in rows[0]:
                self._safely(lambda c=corpus, r=rows: self._table(metric, c, r))

    def close(self, failure: str | None) -> None:
        """The run ends; as failed, if the cell did."""
        if failure is not None:
            self._safely(lambda: self._run.summary.update({"failure": failure}))
        self._safely(lambda: self._run.finish(exit_code=0 if failure is None else 1))
        shutil.rmtree(self._staged, ignore_errors=True)

    def _table(self, metric: str, corpus: str, rows: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        columns = ["prompt", "gold", "dense_answer", "answer", "em", "f1", "rouge1"]
        data = [[row[column] for column in columns] for row in rows[:SAMPLES]]
        self._run.log({f"{metric}/generations_{corpus}": wandb.Table(columns=columns, data=data)})

    def _safely(self, act: Any) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a mirror does, the cell goes on
            log.warning("  W&B: %s", " ".join(str(error).split()))
