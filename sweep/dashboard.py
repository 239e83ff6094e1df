"""`python -m sweep.dashboard [outputs]`: a report in Weights & Biases for each sweep.

Method by calibration set as a heat map of every metric, curves over sparsity with their intervals,
perplexity against divergence, and the answers. It shows what `python -m sweep.track` has sent;
making it again replaces it. wandb-workspaces is an optional extra: pip install
'compression-sweep[dashboard]'.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from sweep import garbage
from sweep.explain import in_one_line
from sweep.options import Options
from sweep.refusal import Stop
from sweep.track import server
from sweep.track.__main__ import asked_for, folders, ready
from sweep.track.found import Found, Place
from sweep.track.shown import RESULTS, Shown

COMMAND = "sweep.dashboard"

_ONE_METRIC = [{"filter": "datum['${field:metric}'] == '${string:metric}'"}]

BAND = "band: from the lowest to the highest end of the seeds' 95 % intervals over examples"


def _title(*what: str) -> dict[str, Any]:
    """A chart's metric; below it what is drawn of it, and which corpora are stand-ins."""
    return {"text": "${string:metric}", "subtitle": [*what, "${string:note}"]}


HEATMAP: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "title": _title("mean over seeds"),
    "data": {"name": "wandb"},
    "transform": [
        *_ONE_METRIC,
        {"calculate": "datum['${field:method}'] + ' ' + datum['${field:settings}']", "as": "how"},
    ],
    "facet": {
        "column": {"field": "${field:pattern}", "type": "nominal", "title": "sparsity"},
        "row": {"field": "${field:model}", "type": "nominal", "title": "model"},
    },
    "spec": {
        "width": {"step": 54},
        "height": {"step": 28},
        "encoding": {
            "x": {"field": "${field:calib}", "type": "nominal", "title": "calibrated on"},
            "y": {"field": "how", "type": "nominal", "title": "method"},
        },
        "layer": [
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {
                    "color": {
                        "field": "${field:value}",
                        "aggregate": "mean",  # over seeds
                        "type": "quantitative",
                        "title": "",
                        "scale": {"scheme": "lightgreyteal"},  # numbers stay readable on it
                    }
                },
            },
            {
                "mark": "text",
                "encoding": {
                    "text": {
                        "field": "${field:value}",
                        "aggregate": "mean",
                        "type": "quantitative",
                        "format": ".4~g",
                    }
                },
            },
        ],
    },
}
"""Method by calibration set, one beside the other for each sparsity."""

CURVES: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "title": _title("line: mean over seeds", BAND),
    "data": {"name": "wandb"},
    "transform": [
        *_ONE_METRIC,
        {"filter": "datum['${field:pattern}'] != 'dense'"},
        {
            "calculate": "join([datum['${field:model}'], datum['${field:method}'], "
            "datum['${field:calib}'], datum['${field:settings}'], "
            "indexof(datum['${field:pattern}'], ':') < 0 ? '' : datum['${field:pattern}']], ' ')",
            "as": "curve",
        },
    ],
    "encoding": {
        "x": {"field": "${field:sparsity}", "type": "quantitative", "title": "sparsity"},
        "color": {"field": "curve", "type": "nominal", "title": ""},
    },
    "layer": [
        {
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": {
                "y": {"field": "${field:low}", "aggregate": "min", "type": "quantitative"},
                "y2": {"field": "${field:high}", "aggregate": "max"},
            },
        },
        {
            "mark": {"type": "line", "point": True, "tooltip": True},
            "encoding": {
                "y": {
                    "field": "${field:value}",
                    "aggregate": "mean",
                    "type": "quantitative",
                    "title": "${string:metric}",
                    "scale": {"zero": False},
                }
            },
        },
    ],
}
"""A metric over sparsity: a curve for each model, method, calibration set and settings, in a band
that holds the 95 % intervals of all its seeds; an n:m pattern is a point of its own."""

LAST = "Of the cells' own runs: a cell has there what the last sweep asked for that measured it."

FIELDS = tuple(name for name in RESULTS if name not in ("seed", "cell"))


def report(
    shown: Shown, cells: list[Shown], charts: Mapping[str, str], project: str, entity: str
) -> Any:
    """The report of a sweep, not saved.

    Args:
        shown, cells: the sweep, and its cells.
        charts: ids of the charts `heatmap` and `curves` on the server.
        project, entity: where the runs are.
    """
    import wandb_workspaces.reports.v2 as wr

    column = shown.tables["results"].columns.index("metric")
    metrics = list(dict.fromkeys(row[column] for row in shown.tables["results"].rows))
    tables = [name for cell in cells for name in cell.tables if "/generations_" in name]
    notes = list(shown.config["notes"])
    own = f"Tags in ['{shown.id}'] and JobType"
    whole = wr.Runset(entity, project, name="the sweep", filters=f"{own} == 'sweep'")
    each = wr.Runset(entity, project, name="its cells", filters=f"{own} != 'sweep'")

    def drawn(chart: str) -> list[Any]:
        return [
            wr.CustomChart(
                query={"summaryTable": {"tableKey": "results"}},
                chart_name=charts[chart],
                chart_fields={field: field for field in FIELDS},
                chart_strings={"metric": metric, "note": " ".join(notes)},
            )
            for metric in metrics
        ]

    against = [
        wr.ScatterPlot(
            title=f"{x} against {y}",
            x=wr.SummaryMetric(x),
            y=wr.SummaryMetric(y),
            log_y=True,
        )
        for x in metrics
        for y in metrics
        if x.startswith("perplexity/perplexity") and y.startswith("divergence/jsd")
    ]
    answers = [
        wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(w=24, h=12))
        for name in dict.fromkeys(tables)
    ]
    blocks = [
        *(wr.CalloutBlock(note) for note in notes),
        wr.H2("Method by calibration set"),
        wr.PanelGrid(runsets=[whole], panels=drawn("heatmap")),
        wr.H2("Over sparsity, with 95 % intervals"),
        wr.P(f"Line: mean over seeds; {BAND}."),
        wr.PanelGrid(runsets=[whole], panels=drawn("curves")),
    ]
    if against:
        blocks.append(wr.H2("Does perplexity see what the divergence sees?"))
        blocks += [wr.P(LAST), wr.PanelGrid(runsets=[each], panels=against)]
    if answers:
        blocks += [wr.H2("Answers"), wr.P(LAST), wr.PanelGrid(runsets=[each], panels=answers)]
    title = f"sweep {shown.name} ({shown.id})"  # by which it is found again
    return wr.Report(project, entity, title=title, blocks=blocks, width="fluid")


def make(shown: Shown, cells: list[Shown], project: str, entity: str) -> str:
    """Make the report of a sweep, or replace it; its address.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    charts = {
        name: server.chart(f"sweep-{name}-{_version(spec)}", f"sweep: {name}", spec, entity)
        for name, spec in (("heatmap", HEATMAP), ("curves", CURVES))
    }
    made = report(shown, cells, charts, project, entity)
    made.id = server.report_id(made.title, project, entity) or ""
    made.save()
    return str(made.url)


def _version(spec: Mapping[str, Any]) -> str:
    """A chart that was drawn differently is another chart."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]


def _sweeps(found: list[Found], only: str | None) -> list[tuple[Shown, Place, list[Shown]]]:
    """Every sweep, where it belongs, and its cells; the one that is asked for, if one is."""
    everything = [shown for one in found for shown in one.shown()]
    cells = [shown for shown, _ in everything if shown.kind != "sweep"]
    whole = [(shown, place) for shown, place in everything if shown.kind == "sweep"]
    names = dict.fromkeys(shown.name for shown, _ in whole)
    if only is not None and only not in names:
        sys.exit(f"{COMMAND}: --sweep {only}: there is none; there are: {', '.join(names)}")
    return [
        (shown, place, [cell for cell in cells if shown.id in cell.tags])
        for shown, place in whole
        if only in (None, shown.name)
    ]


def main(words: list[str]) -> int:
    """Make the reports of the sweeps below the folders given; the exit code."""
    parser = Options(
        COMMAND,
        "Make or replace the report of each sweep in Weights & Biases. It shows what "
        "`python -m sweep.track` has sent.",
    )
    parser.add_argument(
        "outputs",
        nargs="*",
        help="folders of outputs, or outputs/reports/<sweep> (default: outputs)",
    )
    parser.add_argument("--sweep", help="only this one")
    parser.add_argument("--project", help="default: as in the cells' tracker.project")
    parser.add_argument("--entity", help="user or team; default: tracker.entity, or the login's")
    given = parser.parse_args(words)
    found = folders(given.outputs, COMMAND)
    chosen = _sweeps(found, given.sweep)
    ready(found, COMMAND)
    try:
        import wandb_workspaces.reports.v2  # noqa: F401
    except ImportError:
        sys.exit(f"{COMMAND}: needs wandb-workspaces; pip install 'compression-sweep[dashboard]'")
    failed = False
    for shown, place, cells in chosen:
        project, entity = asked_for(place, given.project, given.entity)
        try:
            owner, has = server.there([shown.id], project, entity)
            if shown.id not in has:
                raise Stop("its runs are not there; python -m sweep.track sends them")
            sys.stdout.write(f"{shown.name}: {make(shown, cells, project, owner)}\n")
        except Exception as error:  # noqa: BLE001 - the client raises many kinds
            failed = True
            sys.stderr.write(f"{COMMAND}: {shown.name}: {server.in_words(error)}\n")
    return int(failed)


if __name__ == "__main__":
    with garbage.alone(), in_one_line(COMMAND):
        sys.exit(main(sys.argv[1:]))
