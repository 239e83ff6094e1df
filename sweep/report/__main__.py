"""`python -m sweep.report outputs/…`: the table of a sweep, and its report on disk.

Reads files and nothing else, so it may run while the sweep does, on any machine that has them.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from sweep import garbage
from sweep.explain import in_one_line
from sweep.files import EVERYTHING
from sweep.options import Options
from sweep.refusal import OutOfSpace, Refusal
from sweep.report import entries, notes, seeds, table, typeset, write
from sweep.report.paired import Paired


def main(words: list[str]) -> int:
    """Print the table of each folder given and write its report; the exit code."""
    given = _parser().parse_args(words)
    logging.basicConfig(format="%(message)s")
    formats = [kind for kind in write.FORMATS if getattr(given, kind)] or ["html", "csv", "md"]
    columns = [name.strip() for name in given.columns.split(",") if name.strip()]
    try:
        for folder in given.folders or [Path("outputs")]:
            report, found = _entries(folder)
            asked = {"baseline": given.baseline, "columns": columns, "paired": Paired()}
            rows = table.rows(found, **asked)
            shown = seeds.over_seeds(rows, asked["paired"]) if given.mean else rows
            below = [*typeset.legend(shown), *notes.notes(found, rows.metrics)]
            sys.stdout.write("\n".join([typeset.text(shown), *below, ""]))
            made = write.write_report(report, found, formats=formats, mean=given.mean, **asked)
            sys.stdout.write("".join(f"{line}\n" for line in made.named))
    except (Refusal, OutOfSpace) as error:
        sys.stderr.write(f"sweep.report: {error}\n")
        return 1
    return 0


def _entries(folder: Path) -> tuple[Path, list[entries.Entry]]:
    """Where the report goes, and the cells: of a sweep, or all below a folder of outputs."""
    report = entries.report_in(folder)
    if report is None:
        return folder / "reports" / EVERYTHING, entries.below(folder)
    if report.name == EVERYTHING:  # the cells of now, and not of then
        return report, entries.below(report.parent.parent)
    return report, entries.listed(report)


def _parser() -> Options:
    parser = Options(
        "sweep.report",
        "The table of a sweep, and its report on disk; no format: all but LaTeX.",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="outputs",
        help="a folder of outputs, or outputs/reports/<sweep> for one sweep in it",
    )
    parser.add_argument("--html", action="store_true", help="the page, with figures: report.html")
    parser.add_argument("--csv", action="store_true", help="results.csv, nothing rounded")
    parser.add_argument("--md", action="store_true", help="results.md, with intervals")
    parser.add_argument(
        "--latex", dest="tex", action="store_true", help="results.tex, for booktabs"
    )
    parser.add_argument(
        "--baseline", default=table.DENSE, help="the method with which cells are compared"
    )
    parser.add_argument("--columns", default="", help="values to show: perplexity,em_alpaca,flips")
    parser.add_argument("--mean", action="store_true", help="over seeds: mean ± deviation")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends it without a word
    with garbage.alone(), in_one_line("sweep.report"):
        sys.exit(main(sys.argv[1:]))
