"""Everything that can be known to go wrong is found before a model is loaded or a cell runs.

Settings are checked by the constructors already; here they are held against each other: pattern and
scope against the architecture, windows against the model's positions and vocabulary, calibration
rows against evaluation rows. Of two uses of one row the evaluation's stands: a calibration set is
drawn anew without it, and the cell is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sweep.calib.calibration import Calibration
from sweep.cell import Cell, Parts, digest, make
from sweep.data.source import Origin
from sweep.model import anatomy
from sweep.model.checkpoint import Checkpoint
from sweep.model.reading import check_placement, text_config
from sweep.refusal import Refusal, under
from sweep.workshop import Workshop

MISSED = 0.05
"""Share of the blocks' weights that may lie outside of linears (tables of relative positions)."""


ROUNDS = 20
"""How often a calibration set is drawn anew because evaluation rows came up in it."""


def check(cells: Sequence[Cell], workshop: Workshop, *, runs_here: bool = True) -> list[Cell]:
    """Hold all settings of the cells against each other, then read and tokenise their data.

    Returns:
        The cells, in their order; where rows of a corpus are among both its calibration rows and
        the rows of its metrics, another cell that is calibrated without them.

    Raises:
        Refusal: the first thing that cannot work.
    """
    for cell in cells:
        if runs_here:
            with under("model"):
                check_placement(cell.parts.checkpoint)
        _check_architecture(cell, workshop)
    for cell in cells:
        _read_files(cell, workshop)
    return [_kept_apart(cell, workshop) for cell in cells]


def check_unread(points: Sequence[Cell], workshop: Workshop) -> None:
    """Hold what a point's method does not read against the model all the same, where that is cheap.

    A mistake is a mistake. Files of the user's are read; corpora of the hub are not asked for, and
    none is made. A length that all windows share is no word about these.

    Args:
        points: of the grid, as they were asked for: several may be one cell.
        workshop: reads what must be known of the models.

    Raises:
        Refusal: the first thing that cannot work.
    """
    seen: set[str] = set()
    for point in points:
        parts, config = point.parts, point.config
        if parts.unread is None:
            continue
        key = digest([config[name] for name in ("model", "method", "sparsity", "calib", "seqlen")])
        if key in seen:
            continue
        seen.add(key)
        for place, source in parts.unread.sources().items():
            with under(f"calib.{place}".removesuffix(".source")):
                if source.is_file:
                    next(iter(source.rows("calibration", None)), None)
        length = parts.unread.length()
        if length != config["seqlen"]:
            with under("model"):
                model = workshop.config(parts.checkpoint)
            positions = getattr(text_config(model), "max_position_embeddings", None)
            _check_length("calib", length, positions)
        if not parts.method.compresses:
            _check_layers(point, workshop)


def _check_architecture(cell: Cell, workshop: Workshop) -> None:
    """What is known without data: scope, pattern, length of the windows."""
    parts = cell.parts
    with under("model"):
        config = workshop.config(parts.checkpoint)
        _check_endings(parts.checkpoint, workshop.tokenizer(parts.checkpoint))
        workshop.check_weights(parts.checkpoint)
    if parts.method.compresses:
        _check_layers(cell, workshop)
        _check_coverage(parts, workshop)
    positions = getattr(text_config(config), "max_position_embeddings", None)
    if parts.calibration is not None:
        _check_length("calib", parts.calibration.length(), positions)
    for name, metric in parts.metrics.items():
        _check_length(f"metric.{name}", getattr(metric, "seqlen", None), positions)


def _check_endings(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Raises: Refusal: the tokenizer ends every text, also those that go on: a prompt, a window."""
    bare, whole = (tokenizer("a", add_special_tokens=also)["input_ids"] for also in (False, True))
    if whole[len(whole) - len(bare) :] != bare:
        end = tokenizer.convert_ids_to_tokens(whole[-1])
        raise checkpoint.wrong(
            f"its tokenizer puts {end!r} behind every text, so that answers would begin behind an "
            "end; give a copy whose tokenizer.json has it not in post_processor, by model=local"
        )


def _read_files(cell: Cell, workshop: Workshop) -> None:
    """Files of the user's come first: a mistake in one is answered before a corpus is made."""
    if all(origin.is_file for origin in cell.parts.calibrated_on()):
        workshop.windows(cell)
    for name in cell.parts.metrics:
        if all(origin.is_file for origin in cell.parts.measured_on(name)):
            workshop.material(cell, name)


def _kept_apart(cell: Cell, workshop: Workshop) -> Cell:
    """The cell, its data checked, calibrated without any row on which it is measured."""
    for _ in range(ROUNDS):
        met = _check_data(cell, workshop)
        if not met:
            return cell
        rows = frozenset().union(*met.values())
        config = {**cell.config, "without": sorted(cell.without | rows)}
        cell = make(config, workshop.fingerprint)
    name = next(iter(met))
    reason = (
        f"has ever more rows that metric.{name} needs; lower metric.{name}.n_samples, or give "
        "either another split or corpus"
    )
    raise Refusal("calib", cell.about["calib"], reason)


def _check_data(cell: Cell, workshop: Workshop) -> dict[str, frozenset[str]]:
    """Every row that will be used: length, vocabulary, and on which side it is.

    Returns:
        Hashes of the calibration rows of which a metric's rows hold something, by the metric's name
        where there are any.

    Raises:
        Refusal: also if a file of the user's is on both sides.
    """
    config = workshop.config(cell.parts.checkpoint)
    positions = getattr(text_config(config), "max_position_embeddings", None)
    calibration = cell.parts.calibration
    sampled = calibration is not None and calibration.sampled  # it has no model to say them yet
    windows = None if sampled else workshop.windows(cell)
    if windows is not None:
        _check_length("calib", windows.ids.shape[1], positions)
        place, origin = _tokenised(calibration)
        _check_tokens(place, origin, windows.ids, cell, workshop)
    met: dict[str, frozenset[str]] = {}
    for name in cell.parts.metrics:
        where = f"metric.{name}"
        for corpus, data in workshop.material(cell, name).items():
            _check_length(where, data.longest, positions)
            ids = _ids(data, cell, workshop)
            if ids is not None:
                _check_tokens(where, data.origin, ids, cell, workshop)
            if windows is None or calibration is None:
                continue
            files = {o.revision for o in cell.parts.calibrated_on() if o.is_file}
            one_file = data.origin.revision in files
            shared = data.contents.shared(windows.contents, one_file=one_file)
            if not shared:
                continue
            if files:
                chosen = ".source" if "source" in cell.config["metric"][name] else ".tasks"
                raise Refusal(
                    f"{where}{chosen}",
                    corpus,
                    f"{len(shared)} of its {len(data.digests)} rows are calibration rows too; "
                    "evaluate on others, or calibrate on others",
                )
            if rows := windows.contents.met(data.contents):
                met[name] = met.get(name, frozenset()) | rows
    return met


def _check_layers(cell: Cell, workshop: Workshop) -> None:
    """Raises: Refusal: a scope that matches nothing, or a layer that the pattern does not fit."""
    parts = cell.parts
    linears = workshop.linears(parts.checkpoint)
    with under("method"):
        chosen = anatomy.select(list(linears), parts.method.scope)
        if parts.method.reads_data:
            _check_called(chosen, parts.method.scope, workshop.skeleton(parts.checkpoint))
    with under("sparsity"):
        parts.pattern.check({name: linears[name].in_features for name in chosen})


def _check_called(chosen: Sequence[str], scope: str, bones: nn.Module) -> None:
    """Raises: Refusal: a linear whose inputs nobody can see."""
    uncalled = anatomy.uncalled(bones)
    hidden = [name for name in chosen if name in uncalled]
    if hidden:
        reason = (
            f"holds {hidden[0]}, with which {type(bones).__name__} multiplies without calling it, "
            "so its inputs are not seen; model.dense=dt_proj keeps it dense"
        )
        raise Refusal("scope", scope, reason)


def _check_coverage(parts: Parts, workshop: Workshop) -> None:
    """Raises: Refusal: `all` would not be all: experts whose weights are one tensor, say."""
    scope = parts.method.scope
    if anatomy.SCOPES.get(scope) != "" and scope != "mlp":
        return
    missed = workshop.outside(parts.checkpoint)
    if missed > MISSED:
        name = type(workshop.skeleton(parts.checkpoint)).__name__
        reason = (
            f"{100 * missed:.0f} % of the weights in the blocks of {name} are not "
            "in a linear layer and would stay dense; say which part you mean: attention, or a "
            "regular expression over the names of linears"
        )
        raise Refusal("method.scope", scope, reason)


def _check_length(where: str, length: int | None, positions: int | None) -> None:
    if length is not None and positions is not None and length > positions:
        reason = f"more than the model's {positions} positions; lower it, or seqlen for all"
        raise Refusal(f"{where}.seqlen", length, reason)


def _tokenised(calibration: Calibration | None) -> tuple[str, Origin]:
    """Place and origin of the windows that came tokenised; else of the first corpus."""
    sources = {} if calibration is None else calibration.sources()
    place, source = min(sources.items(), key=lambda item: item[1].packing is not None)
    return f"calib.{place}".removesuffix(".source"), source.origin()


def _ids(data: Any, cell: Cell, workshop: Workshop) -> torch.Tensor | None:
    """The tokens of a metric's data; of questions, those of their prompts; None: all are known."""
    if hasattr(data, "ids"):
        found: torch.Tensor = data.ids
        return found
    if not workshop.unembedded(cell.parts.checkpoint):
        return None
    tokenizer = workshop.tokenizer(cell.parts.checkpoint)
    prompts = tokenizer(list(data.prompts), verbose=False)["input_ids"]
    return torch.tensor([token for ids in prompts for token in ids])


def _check_tokens(
    where: str, origin: Origin, ids: torch.Tensor, cell: Cell, workshop: Workshop
) -> None:
    """Raises: Refusal: a token for which the model has no embedding; says whose fault it is."""
    checkpoint = cell.parts.checkpoint
    bones: Any = workshop.skeleton(checkpoint)
    entries = bones.get_input_embeddings().weight.shape[0]
    highest = int(ids.max())
    if highest < entries and int(ids.min()) >= 0:
        return
    tokenizer = workshop.tokenizer(checkpoint)
    if entries <= highest < len(tokenizer):
        word = tokenizer.convert_ids_to_tokens(highest)
        reason = (
            f"its tokenizer makes the token {highest} ({word!r}) of {origin.corpus}, and its "
            f"embedding has {entries} entries; give the tokenizer that belongs to it, or resize "
            "its embedding"
        )
        raise checkpoint.wrong(reason).under("model")
    reason = f"holds the token {highest}, and the model knows {entries}: made for another model"
    if origin.is_file:
        raise Refusal(f"{where}.path", origin.location, reason)
    raise Refusal(f"{where}.source", origin.corpus, reason)
