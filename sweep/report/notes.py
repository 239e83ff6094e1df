"""What belongs below a table: on which texts its numbers are, and which of them are stand-ins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.files import LOST
from sweep.refusal import by_reason
from sweep.report.entries import Entry


def notes(entries: Sequence[Entry], columns: Collection[str]) -> list[str]:
    """What belongs below a table: what its columns were measured on, which of these texts and of
    those that calibrated its cells are stand-ins, and why cells have failed."""
    failed = [(e.name, e.status) for e in entries if e.status.startswith("failed")]
    return [
        *measured_on(entries, columns),
        *stand_ins(sources(entries, columns)),
        *by_reason(failed),
    ]


def measured_on(entries: Iterable[Entry], columns: Collection[str] | None = None) -> list[str]:
    """One line per metric and set of data: of which texts the numbers are.

    Args:
        entries: the cells.
        columns: the values that are shown; None: all.
    """
    found: dict[str, None] = {}
    for entry in entries:
        for name, data in _shown(entry, columns):
            line = f"{name}: {_amount(data)} of {data['corpus']} ({data['source']})"
            found[line + _lost(data)] = None
    return list(found)


def sources(entries: Iterable[Entry], columns: Collection[str]) -> set[tuple[str, str]]:
    """Names of the corpora behind the columns, those of the calibration included; each with where
    it comes from."""
    found: set[tuple[str, str]] = set()
    for entry in entries:
        shown = [data for _, data in _shown(entry, columns)]
        for result in entry.results.values():
            shown += result.get("calibration_data", ())
        found |= {(data["corpus"], data["source"]) for data in shown}
    return found


def _shown(
    entry: Entry, columns: Collection[str] | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The data of every metric, of those that columns are of."""
    of = {
        (entry.values[name]["metric"], entry.corpus(name))
        for name in columns or ()
        if name in entry.values
    }
    for metric, result in entry.results.items():
        for data in result["data"]:
            if columns is None or {(metric, data["corpus"]), (metric, "")} & of:
                yield metric, data


def stand_ins(sources: Iterable[tuple[str, str]]) -> list[str]:
    """One line that says which of these corpora are stand-ins; none if all are real.

    Args:
        sources: names of corpora, each with where it comes from.
    """
    names = sorted({name for name, source in sources if source == "embedded"})
    if not names:
        return []
    are = "is a stand-in" if len(names) == 1 else "are stand-ins"
    return [f"source: embedded ({', '.join(names)} {are} made by a micro-world, not real corpora)"]


def mark(entries: Iterable[Entry]) -> str:
    """The same in a few words, with the models that were measured on them; nothing if all are
    real. It is written into figures, which may leave their report."""
    names: set[str] = set()
    models: dict[str, None] = {}
    for entry in entries:
        own = {name for name, source in entry.sources if source == "embedded"}
        names |= own
        models |= dict.fromkeys([str(entry.about["model"])] if own else [])
    if not names:
        return ""
    return f"embedded stand-ins: {', '.join(sorted(names))}; model {', '.join(models)}"


def _amount(data: Mapping[str, Any]) -> str:
    if "scored" not in data:
        return f"{data['rows']} questions"
    most = "" if data["scored"] == "windows" else "at most "
    amount = f"{data['sequences']} {data['scored']} of {most}{data['seqlen']} tokens"
    return f"{amount}, {data['scored_tokens']} of them scored,"


def _lost(data: Mapping[str, Any]) -> str:
    """What of the data is not in the numbers, or not whole."""
    return "".join(f"; {data[key]} {said}" for key, said in LOST.items() if data.get(key))
