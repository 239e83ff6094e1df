"""One grid point: its parts, and its identity, by which it is never computed twice.

The identity is a hash of everything that can change the cell's compressed weights: the model's
files that are read, and of a model on the hub the commit for which its revision stands now, method,
sparsity, calibration with the revision of its rows, seed, dtype and the version of the numerics.
Metrics, tracker, launcher and output folder are not in it. Settings that a method does not read are
left out, so cells that mean the same are one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sweep.build import build
from sweep.calib.calibration import Calibration
from sweep.data.source import Origin
from sweep.data.template import CHATS, REVISED, TODAY
from sweep.files import EVERYTHING
from sweep.method.method import Indifferent, Method
from sweep.metric.metric import Metric
from sweep.model.checkpoint import Checkpoint
from sweep.model.contents import asks_for_the_date, code_fingerprint
from sweep.refusal import Refusal, under
from sweep.sparsity.pattern import Pattern

NUMERICS = 4
"""Version of the weights: raised whenever a change of the code may change a cell's weights."""

EXPERTS = 2
"""The same of mixtures of experts alone, beside `NUMERICS`: since 2 an expert's gate and projection
up are two matrices, each with a threshold of its own."""

MEASURES = 2
"""Version of the metrics: raised whenever a change of the code may change what they find. Since 2
an empty answer is wrong where the normalisation leaves nothing of gold."""


READING = {
    "sweep.data.hub.Instructions": 2,
    "sweep.data.hub.Dataset": 3,
    "sweep.data.local.Local": 3,
    "sweep.metric.lm_eval.LmEval": 2,
}
"""The same of the rows that such a source gives, beside both: since 2 without instructions that
nobody has answered, and without what the system says after the exchange of a conversation; since 3
with what a developer says, as the system, and without conversations that are null. And of those
that lm-evaluation-harness leaves: since 2 with answer and gold where choices are contexts, and with
intervals of F1, of Matthews' coefficient and of groups."""

PADDED = 2
"""The same of windows that are padded, beside `NUMERICS`: since 2 they are run by length, so that
sums are taken in another order."""

LATER = {"propagate": "compressed"}
"""Settings of methods that came later, with what was meant before: at that they are left out of the
identity, so that earlier cells are what they were."""


@dataclass(frozen=True)
class Parts:
    """What a cell is made of, built and checked, nothing loaded.

    Attributes:
        checkpoint, method, pattern, metrics: as configured.
        calibration: what the method is calibrated with; None if it reads no data.
        unread: the calibration set that was named all the same, if it reads none.
    """

    checkpoint: Checkpoint
    method: Method
    pattern: Pattern
    calibration: Calibration | None
    unread: Calibration | None
    metrics: Mapping[str, Metric[Any]]

    def calibrated_on(self) -> tuple[Origin, ...]:
        """Where the calibration rows are from; nowhere, where none are read.

        Raises:
            Refusal: as all below, with the setting named from the top.
        """
        if self.calibration is None:
            return ()
        with under("calib"):
            return self.calibration.origins()

    def measured_on(self, metric: str) -> tuple[Origin, ...]:
        """The same of the rows of a metric."""
        with under(f"metric.{metric}"):
            return self.metrics[metric].origins()


@dataclass(frozen=True)
class Settings:
    """Those values of a cell that belong to no group.

    Attributes:
        outputs: absolute path of the folder below which everything is written.
        seed: of the calibration sample.
        batch_size: sequences in one forward pass.
        keep: whether the compressed model is left in the cell's folder.
        name: of the sweep.
        report: what is made at a sweep's end: the page with its figures too, or tables only.
    """

    outputs: str
    seed: int
    batch_size: int
    keep: Literal["none", "model"]
    name: str | None
    report: Literal["page", "table"]

    def __post_init__(self) -> None:
        """Raises: Refusal: a value out of range."""
        if self.batch_size < 1:
            raise Refusal("batch_size", self.batch_size, "must be at least 1")
        if self.seed < 0:
            raise Refusal("seed", self.seed, "must not be negative")
        if self.name == EVERYTHING:
            raise Refusal("name", self.name, "is that of the report of all cells; take another")
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name):
            reason = "must be letters, digits, underscores, and after the first dots and hyphens"
            raise Refusal("name", self.name, reason)


@dataclass(frozen=True)
class Cell:
    """One grid point.

    Attributes:
        config: its frozen configuration.
        settings, parts: what the configuration describes.
        identity: what is hashed.
        id: the hash, 64 hexadecimal digits.
        label: for people: `tiny-sparsegpt-50-c4`.
        about: what a row of a table says of it: `model` (the option, the folder of a local one, or
            the repository of one on the hub), `weights` (equal for cells of the same model in the
            same dtype, with the same attention), `method`, `compresses`, `sparsity` (the pattern's
            label), `ratio` (share of zeros asked for), `calib`, `seed`; None where it has none.
        without: content hashes of the calibration rows that are left to its metrics.
    """

    config: Mapping[str, Any]
    settings: Settings
    parts: Parts
    identity: Mapping[str, Any]
    id: str
    label: str
    about: Mapping[str, Any]
    without: frozenset[str] = frozenset()
    _metric_ids: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def name(self) -> str:
        """Label and the first eight digits of the id: the name of the cell's folder."""
        return f"{self.label}-{self.id[:8]}"

    def described(self) -> dict[str, Any]:
        """What a status needs to know: `id`, `name`, `metrics` (ids of settings), `keep`."""
        return {
            "id": self.id,
            "name": self.name,
            "metrics": {name: self.metric_id(name) for name in self.parts.metrics},
            "keep": self.settings.keep,
        }

    def metric_id(self, metric: str) -> str:
        """Hash of a metric's settings and data: a result with another one is not this result."""
        if metric not in self._metric_ids:
            measured = self.parts.metrics[metric]
            folder = self.parts.checkpoint.folder()
            settings = _meant_by(self.config["metric"][metric], measured)
            settings = _without_paths(settings, folder)
            settings = {k: v for k, v in settings.items() if k not in measured.incidental}
            fixed = sorted(_fixed(self.parts.measured_on(metric)), key=lambda one: one["corpus"])
            content = {"measures": MEASURES, "settings": settings, "data": fixed}
            self._metric_ids[metric] = digest(content)
        return self._metric_ids[metric]


def make(config: Mapping[str, Any], fingerprint: Callable[[Path], str]) -> Cell:
    """The cell of a frozen configuration.

    Args:
        config: as `sweep.config.freeze` gives it; with `without`, if its metrics need some of the
            calibration rows (`sweep.check`).
        fingerprint: content hash of a model's folder.

    Raises:
        Refusal: any value that cannot work.
    """
    settings = _settings(config)
    parts = _parts(config)
    with under("model"):
        folder = parts.checkpoint.folder()
        config = {**config, "model": parts.checkpoint.pinned(config["model"])}
    identity: dict[str, Any] = {
        "numerics": NUMERICS,
        "model": fingerprint(folder),
        "dtype": parts.checkpoint.dtype,
        "method": {"_target_": config["method"]["_target_"]},
    }
    if revision := config["model"].get("revision"):
        identity["revision"] = revision
    chosen: dict[str, str] = {}
    if parts.checkpoint.attention != "auto":
        chosen["attention"] = parts.checkpoint.attention
    if parts.checkpoint.trust_remote_code:
        chosen["code"] = code_fingerprint(folder)
    identity |= chosen
    options = config["options"]
    model = parts.checkpoint.name() or options["model"]
    label = [model, options["method"]]
    about: dict[str, Any] = {
        "model": model,
        "weights": digest([identity["model"], identity["dtype"], *chosen.values()])[:8],
        "method": options["method"],
        "compresses": parts.method.compresses,
    }
    about |= dict.fromkeys(("sparsity", "ratio", "calib", "seed"))
    if parts.method.compresses:
        identity["method"] = _meant_by(config["method"], parts.method)
        if isinstance(parts.method, Indifferent):
            same = parts.method.indifferent(parts.pattern)
            identity["method"] |= same
        identity["method"] = {k: v for k, v in identity["method"].items() if LATER.get(k) != v}
        identity["sparsity"] = _meant_by(config["sparsity"], parts.pattern)
        if "experts" in (folder / "config.json").read_text(encoding="utf-8"):
            identity["experts"] = EXPERTS
        told = {"blocks": parts.checkpoint.blocks, "dense": parts.checkpoint.dense}
        identity |= {name: value for name, value in told.items() if value is not None}
        label.append(parts.pattern.label)
        about |= {"sparsity": parts.pattern.label, "ratio": parts.pattern.sparsity}
    if parts.calibration is not None:
        data = _fixed(parts.calibrated_on())
        calib = _meant_by(config["calib"], parts.calibration)
        identity |= {"calib": _without_paths(calib, folder), "data": data}
        about["calib"] = parts.calibration.name() or options["calib"]
        label.append(about["calib"])
        if parts.calibration.draws():
            identity["seed"] = about["seed"] = settings.seed
            label += [f"seed{settings.seed}"] if settings.seed else []
        if config.get("without"):
            identity["without"] = sorted(config["without"])
    return Cell(
        config=config,
        settings=settings,
        parts=parts,
        identity=identity,
        id=digest(identity),
        label=re.sub(r"[^\w.-]", "", "-".join(label).replace(":", "of").replace("/", "-")),
        about=about,
        without=frozenset(identity.get("without", ())),
    )


def digest(value: Any) -> str:
    """sha256 of plain data; floats count to ten digits, so that 0.1 + 0.2 is 0.3."""
    text = json.dumps(_rounded(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _fixed(origins: Iterable[Origin]) -> list[dict[str, str]]:
    """What fixes the rows: not where they lie, the same file is the same anywhere."""
    return [{"corpus": o.corpus, "source": o.source, "revision": o.revision} for o in origins]


def _without_paths(node: Any, folder: Path) -> Any:
    """Without what only leads to the rows: a commit is the same by its branch's name.

    A template counts as what it means now, to the model in the folder.
    """
    if isinstance(node, Mapping):
        leads = ("path", "revision")
        kept = {k: _without_paths(value, folder) for k, value in node.items() if k not in leads}
        if "template" in node:
            kept["template"] = _meant(node["template"], folder)
        if node.get("_target_") in READING:
            kept["reading"] = READING[node["_target_"]]
        if node.get("packing") == "pad":
            kept["padded"] = PADDED
        return kept
    return node


def _meant_by(node: Any, built: Any) -> Any:
    """A configuration with its numbers as the objects built of it have them: `1`, `1.0` and `"1"`
    mean the same where a setting is a number."""
    if isinstance(node, Mapping):
        inner = built.get if isinstance(built, Mapping) else partial(getattr, built)
        return {key: _meant_by(value, inner(key, value)) for key, value in node.items()}
    is_number = isinstance(built, int | float) and not isinstance(built, bool)
    return built if is_number and isinstance(node, int | float | str) else node


def _meant(template: Any, folder: Path) -> Any:
    """A template, or those of several corpora, as they are called in identities."""
    if isinstance(template, Mapping):
        return {corpus: _meant(one, folder) for corpus, one in template.items()}
    if template in CHATS and asks_for_the_date(folder):
        return f"{REVISED.get(template, template)} on {TODAY}"
    return REVISED.get(template, template) if isinstance(template, str) else template


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value


def _settings(config: Mapping[str, Any]) -> Settings:
    own = {key: config[key] for key in Settings.__dataclass_fields__}
    try:
        return build({"_target_": "sweep.cell.Settings", **own}, "", Settings)
    except Refusal as refusal:
        raise Refusal(refusal.setting.lstrip("."), refusal.value, refusal.reason) from refusal


def _parts(config: Mapping[str, Any]) -> Parts:
    """Every part, built, also those that are not read in the end: a mistake is a mistake."""
    method = build(config["method"], "method", Method)  # type: ignore[type-abstract]
    calibration = build(config["calib"], "calib", Calibration)  # type: ignore[type-abstract]
    return Parts(
        checkpoint=build(config["model"], "model", Checkpoint),  # type: ignore[type-abstract]
        method=method,
        pattern=build(config["sparsity"], "sparsity", Pattern),  # type: ignore[type-abstract]
        calibration=calibration if method.reads_data else None,
        unread=None if method.reads_data else calibration,
        metrics={
            name: build(node, f"metric.{name}", Metric)  # type: ignore[type-abstract]
            for name, node in config["metric"].items()
        },
    )
