"""What the files of a sweep's cells say. Tables, figures and pages read these and nothing else.

No model library is loaded and no configuration composed: a report of five hundred cells that ran on
a cluster is made in seconds on a laptop that has a copy of the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.attempt import latest
from sweep.disk import write
from sweep.files import EVERYTHING, Folder
from sweep.refusal import Refusal

if TYPE_CHECKING:
    from sweep.cell import Cell

log = logging.getLogger("sweep")


@dataclass(frozen=True)
class Entry:
    """A cell as it stands on disk.

    Attributes:
        id, name, about: as of `Cell`.
        asked: the metrics that are asked for, with the ids of their settings: a result of other
            settings or data is not a result of this sweep. What the cells were measured with in
            several ways has a key for each, `tasks@1f2e`, and names of values that end so: what has
            different names is not compared.
        settings: that may change its weights, by dotted name.
        folder: its files.
    """

    id: str
    name: str
    about: Mapping[str, Any]
    asked: Mapping[str, str]
    settings: Mapping[str, Any]
    folder: Folder

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results that are there, as they are asked for."""
        found = {name: self.folder.metric(_metric(name), id) for name, id in self.asked.items()}
        return {name: result for name, result in found.items() if result is not None}

    @cached_property
    def described(self) -> bool:
        """Whether its folder says what it is."""
        return self.folder.cell() is not None

    @cached_property
    def compression(self) -> dict[str, Any] | None:
        """What became of its layers."""
        return self.folder.compression()

    @cached_property
    def values(self) -> dict[str, dict[str, Any]]:
        """Every value of every metric, by name; one of a column comes before others of its name.

        Each says of which result it is, as `metric`, and its `name` there.
        """
        found: dict[str, dict[str, Any]] = {}
        for columns in (True, False):
            for metric, result in self.results.items():
                suffix = metric.removeprefix(_metric(metric))
                for name, value in result["values"].items():
                    if name + suffix not in found and (name in result["columns"]) == columns:
                        found[name + suffix] = {**value, "metric": metric, "name": name}
        return found

    @property
    def columns(self) -> list[str]:
        """The values that a table shows."""
        return [
            name + metric.removeprefix(_metric(metric))
            for metric, result in self.results.items()
            for name in result["columns"]
        ]

    @property
    def status(self) -> str:
        """What is there decides; then whether somebody works on it; a failure only says why
        something is not there."""
        if len(self.results) == len(self.asked) and self.compression and self.described:
            return "done"
        attempt = latest(self.folder.path)
        if attempt is not None and attempt[1]:
            return "running"
        failure = self.folder.failure()
        return "missing" if failure is None else f"failed: {failure}"

    @property
    def sources(self) -> set[tuple[str, str]]:
        """Names of its corpora, each with where it comes from."""
        results = self.results.values()
        data = [one for result in results for one in result["data"]]
        data += [one for result in results for one in result.get("calibration_data", ())]
        return {(one["corpus"], one["source"]) for one in data}

    def corpus(self, name: str) -> str:
        """Of which corpus a value is; empty: of all that its metric was measured on."""
        value = self.values[name]
        corpora = [data["corpus"] for data in self.results[value["metric"]]["data"]]
        told = (value.get("mean") or {}).get("corpus")
        if told in corpora or len(corpora) == 1:
            return str(told if told in corpora else corpora[0])
        return max((c for c in corpora if value["name"].endswith(f"_{c}")), key=len, default="")

    def rows(self, metric: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The rows behind the values of a result, by corpus. Read anew: of many cells, they are
        more than should be held."""
        return self.folder.examples(_metric(metric), self.asked[metric])

    def file(self, metric: str) -> Path:
        """Where a result lies."""
        return self.folder.result_file(_metric(metric), self.asked[metric])

    def rows_file(self, metric: str, corpus: str) -> Path:
        """Where its rows on a corpus lie."""
        file = self.folder.rows_file(_metric(metric), self.asked[metric], corpus)
        return file or self.folder.path

    def answers(self) -> Iterable[tuple[str, Mapping[str, Sequence[Mapping[str, Any]]]]]:
        """Metrics that keep what the model has said, with their rows by corpus."""
        for metric, result in self.results.items():
            if "generations" in result["rows"].values():
                yield metric, self.rows(metric)


def of(cells: Iterable[Cell]) -> list[Entry]:
    """The cells of a plan."""
    return [
        Entry(
            id=cell.id,
            name=cell.name,
            about=_readable(cell.about),
            asked=cell.described()["metrics"],
            settings=_readable(_settings(cell.config, cell.identity)),
            folder=Folder(cell.settings.outputs, cell.name),
        )
        for cell in cells
    ]


def below(outputs: Path) -> list[Entry]:
    """Every cell that was begun below a folder of outputs, or that a sweep there still lacks.

    Raises:
        Refusal: there is none.
    """
    found: list[Entry] = []
    for file in sorted(outputs.glob("cells/*/cell.yaml")):
        folder = Folder(outputs, file.parent.name)
        if (said := folder.cell()) is not None:
            found.append(begun(folder, said))
    names = {entry.id for entry in found}
    for own in lists(outputs).values():
        lacking = [entry for entry in own if entry.id not in names]
        names |= {entry.id for entry in lacking}
        found += lacking
    if not found:
        raise Refusal("report", outputs, no_cells(outputs))
    return sorted(_told_apart(found), key=_place)


def no_cells(folder: Path) -> str:
    """What to say of a folder of outputs that is none; it may be one in it."""
    near = next((up for up in folder.absolute().parents[:2] if (up / "cells").is_dir()), None)
    hint = "a folder of outputs" if near is None else f"{near}, the folder of outputs"
    return f"holds no cells; give {hint}, or of a sweep's report in it"


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """The cells; values of a metric that was measured in several ways have names of their own.

    A cell has them in every way in which it was measured and any cell is asked for: what one sweep
    has asked of the dense model last must not hide what another compares with it.
    """
    ways: dict[str, dict[str, None]] = {}
    for entry in entries:
        for metric in entry.results:
            ways.setdefault(metric, {})[entry.asked[metric]] = None
    return [replace(entry, asked=_every_way(entry, ways)) for entry in entries]


def _every_way(entry: Entry, ways: Mapping[str, Mapping[str, None]]) -> dict[str, str]:
    """What a cell is asked for; and what others are, where it has that too."""
    found = [
        *entry.asked.items(),
        *(
            (metric, id)
            for metric, ids in ways.items()
            for id in ids
            if entry.asked.get(metric) != id and entry.folder.metric(metric, id) is not None
        ),
    ]
    return {
        metric if ways.get(metric, {}).keys() <= {id} else f"{metric}@{id[:4]}": id
        for metric, id in found
    }


def _metric(name: str) -> str:
    """Of a result, as it is asked for."""
    return name.partition("@")[0]


def _place(entry: Entry) -> tuple[Any, ...]:
    """Models together, dense first; then as people read: method, sparsity, calibration, seed."""
    about = entry.about
    numbers = [
        f"{v:012.4f}" if isinstance(v, int | float) else str(v) for v in entry.settings.values()
    ]
    return (
        *(about["model"], about["weights"], about["compresses"], about["method"]),
        *(about["ratio"] or 0.0, str(about["sparsity"]), str(about["calib"])),
        *(numbers, about["seed"] or 0, entry.name),
    )


def model_names(entries: Iterable[Entry]) -> dict[str, str]:
    """A name for every model, by `weights`; where two have the same, what tells them apart."""
    names = {str(entry.about["weights"]): str(entry.about["model"]) for entry in entries}
    several = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {w: f"{name} ({w})" if name in several else name for w, name in names.items()}


def begun(folder: Folder, said: Mapping[str, Any]) -> Entry:
    """A cell by what is in its cell.yaml."""
    return Entry(
        id=said["id"],
        name=folder.path.name,
        about=_readable(said["about"]),
        asked=said["metrics"],
        settings=_readable(_settings(said["config"], said["identity"])),
        folder=folder,
    )


def report_in(folder: Path) -> Path | None:
    """The folder as one of a report, two below that of outputs, from wherever it is named.

    None if it is none.

    Raises:
        Refusal: it is one, and the cells of which it is are not where they should be.
    """
    if not (folder / "sweep.json").is_file():
        return None
    for report in (Path(os.path.abspath(folder)), folder.resolve()):  # noqa: PTH100 - `..`, but no links
        if (report.parent.parent / "cells").is_dir():
            return report
    reason = f"is of cells that are not in {report.parent.parent / 'cells'}; give it in its place"
    raise Refusal("report", folder, f"{reason}, outputs/reports/{report.name}")


def listed(report: Path) -> list[Entry]:
    """The cells of the sweep whose report is in a folder, those not begun included.

    Args:
        report: the folder, two below that of outputs.

    Raises:
        Refusal: the list of them is damaged.
    """
    outputs = report.parent.parent
    file = report / "sweep.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [
            Entry(
                id=said["id"],
                name=said["name"],
                about=_readable(said["about"]),
                asked=dict(said["metrics"]),
                settings=_readable(said["settings"]),
                folder=Folder(outputs, said["name"]),
            )
            for said in content["cells"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"is damaged ({error}); delete it, and the sweep's command writes it again"
        raise Refusal("report", file, reason) from error


def lists(outputs: Path) -> dict[str, list[Entry]]:
    """The cells of every sweep below a folder of outputs, by the sweep's name.

    A list that is damaged is left out, which is said.
    """
    found: dict[str, list[Entry]] = {}
    for file in sorted(outputs.glob("reports/*/sweep.json")):
        if file.parent.name == EVERYTHING:  # is no sweep, and lacks nothing
            continue
        try:
            found[file.parent.name] = listed(file.parent)
        except Refusal as refusal:
            log.warning("%s: %s", file, refusal.reason)
    return found


def made(report: Path) -> Mapping[str, Any]:
    """What was last made of a sweep; empty if nothing was, or not to its end."""
    try:
        content = json.loads((report / "sweep.json").read_text(encoding="utf-8"))
        found = content["made"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    whole = isinstance(found, Mapping) and {"of", "formats", "files", "signs"} <= found.keys()
    return found if whole else {}


def write_list(report: Path, entries: Sequence[Entry], made: Mapping[str, Any]) -> None:
    """`sweep.json`, by which a sweep's report can be made again, and need not be twice; left alone
    where it says so already.

    Raises:
        OutOfSpace: the disk is full.
    """
    cells = [
        {
            "id": entry.id,
            "name": entry.name,
            "metrics": dict(entry.asked),
            "about": dict(entry.about),
            "settings": dict(entry.settings),
        }
        for entry in entries
    ]
    text = json.dumps({"made": dict(made), "cells": cells}, indent=1) + "\n"
    file = report / "sweep.json"
    if not file.is_file() or file.read_bytes() != text.encode():
        write(file, text)


def digest(entries: Iterable[Entry]) -> str:
    """Hash of everything that the files say: the same, and a report of it is the same."""
    hashed = hashlib.sha256()
    for entry in entries:
        said = [entry.id, entry.name, entry.about, entry.status, entry.results, entry.compression]
        hashed.update(json.dumps(said, sort_keys=True).encode())
    return hashed.hexdigest()


def _readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names without signs that steer a terminal or turn the direction of writing."""
    return {
        key: "".join(c if c.isprintable() else " " for c in value)
        if isinstance(value, str)
        else value
        for key, value in values.items()
    }


def _settings(config: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may change a cell's weights, named as on the command line."""
    read = ["model"]
    read += ["method"] if "sparsity" in identity else []
    read += ["calib"] if "calib" in identity else []
    found: dict[str, Any] = {}
    for group in read:
        _flatten(config[group], group, found)
    return found


def _flatten(node: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(node, Mapping):
        for key, inner in node.items():
            # `calib.path` is what the user set; the corpus that it belongs to was filled in
            _flatten(inner, name if key == "source" else f"{name}.{key}", into)
    elif not name.endswith("._target_"):
        into[name] = node
