"""What lies below a folder of outputs that Weights & Biases can show: cells, and their sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sweep.disk import json_text, read_json, write
from sweep.files import EVERYTHING, Folder
from sweep.report.entries import Entry, begun, listed, lists, report_in
from sweep.track.journal import Journal
from sweep.track.shown import Shown, names_of, of_cell, of_sweep

Cell = tuple[Mapping[str, Any], Folder]
"""What is in a cell.yaml, and the folder in which that lies."""


class Place(NamedTuple):
    """Where on the server a run belongs; no entity: the login's own."""

    project: str = "compression-sweep"
    entity: str | None = None


def keep_place(place: Place, name: str, outputs: Path) -> None:
    """Where a sweep was told to go: its cells may have been done before, and told something else.

    Raises:
        OutOfSpace: the disk takes no more.
    """
    write(_place_file(outputs, name), json_text(place._asdict()))


def _place_file(outputs: Path, name: str) -> Path:
    return outputs / "reports" / name / "wandb-place.json"


@dataclass(frozen=True)
class Found:
    """What is below a folder of outputs.

    Attributes:
        outputs: the folder.
        cells: of which there is a cell.yaml.
        lists: the cells of each sweep, by its name, with the results that it asks for. A cell.yaml
            says what was asked for last, which may have been another sweep.
        only: the sweep that was asked for; None: all.
    """

    outputs: Path
    cells: Sequence[Cell]
    lists: Mapping[str, Sequence[Entry]]
    only: str | None = None

    @classmethod
    def below(cls, folder: Path) -> Found:
        """Read a folder of outputs, or of one sweep's report in it.

        Raises:
            Refusal: the list of a sweep's cells is damaged.
        """
        report, only = report_in(folder), None
        outputs = folder if report is None else report.parent.parent
        if report is None or report.name == EVERYTHING:
            known = lists(outputs)
        else:
            only, known = report.name, {report.name: listed(report)}
        chosen = None if only is None else {entry.name for entry in known[only]}
        names = sorted(file.parent.name for file in outputs.glob("cells/*/cell.yaml"))
        folders = [Folder(outputs, name) for name in names if chosen is None or name in chosen]
        said = [(cell, folder) for folder in folders if (cell := folder.cell()) is not None]
        return cls(outputs, said, known, only)

    @cached_property
    def sweeps(self) -> Mapping[str, Sequence[str]]:
        """Names of the sweeps that list a cell, by the cell's name."""
        found: dict[str, list[str]] = {}
        for name, entries in self.lists.items():
            for entry in entries:
                found.setdefault(entry.name, []).append(name)
        return found

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where sweeps were told to go, by their names."""
        files = {name: _place_file(self.outputs, name) for name in self.lists}
        kept = {name: read_json(file, {"project": str}) for name, file in files.items()}
        return {n: Place(one["project"], one.get("entity")) for n, one in kept.items() if one}

    def shown(self) -> Iterator[tuple[Shown, Place]]:
        """Every cell, then every sweep; where each belongs, as it was told, or what it is with."""
        for cell in self.cells:
            said, folder = cell
            yield of_cell(folder, said, self.sweeps.get(folder.path.name, ())), self._place([cell])
        for name, entries in self._members().items():
            yield (
                of_sweep(name, self.outputs, entries),
                self.places.get(name) or self._place(self._begun(entries)),
            )

    def sweep(self, name: str) -> Shown | None:
        """One sweep; None if it has no cells."""
        entries = self._members().get(name)
        return None if entries is None else of_sweep(name, self.outputs, entries)

    def _members(self) -> dict[str, Sequence[Entry]]:
        """The cells of every sweep: as its list has them; if there is none, by their journals."""
        found = {name: entries for name, entries in self.lists.items() if self._begun(entries)}
        running: dict[str, list[Entry]] = {}
        for said, folder in self.cells:
            listing = self.sweeps.get(folder.path.name, ())
            for name in names_of(Journal(folder.progress), said["config"], listing)[:1]:
                has_list = (self.outputs / "reports" / name / "sweep.json").is_file()
                if not has_list and self.only in (None, name):
                    running.setdefault(name, []).append(begun(folder, said))
        return {**found, **running}

    def _begun(self, entries: Sequence[Entry]) -> Sequence[Cell]:
        names = {entry.name for entry in entries}
        return [cell for cell in self.cells if cell[1].path.name in names]

    def _place(self, cells: Sequence[Cell]) -> Place:
        """As the last of the cells was told that was told anything; else a sweep that lists one of
        them; else any cell."""
        listing = (self.sweeps.get(folder.path.name, ()) for _, folder in reversed(cells))
        sweeps = (self.places.get(name) for names in listing for name in reversed(names))
        found = chain(map(_told, reversed(cells)), sweeps, map(_told, reversed(self.cells)))
        return next((place for place in found if place is not None), Place())


def _told(cell: Cell) -> Place | None:
    """Where a cell was told to go, if it was."""
    node = cell[0]["config"].get("tracker") or {}
    return Place(node["project"], node.get("entity")) if node.get("project") else None
