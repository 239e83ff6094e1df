"""The card of a compressed model: what it is, what was measured of it, how it is made again.

It is made from the cell's files alone, so it can be made anew whenever a result is added, and says
only what was measured on these very weights.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep import size
from sweep.build import locate
from sweep.files import Folder
from sweep.refusal import Refusal

_THE_SWEEPS = ("outputs", "tracker", "name", "report", "keep", "hydra", "hydra/launcher")
"""Words of a command that say where and how it runs, and nothing of the model."""

_VERSIONS = (
    "sweep",
    "commit",
    "python",
    "torch",
    "transformers",
    "tokenizers",
    "device",
    "threads",
    "products",
)

UNFIT = (
    "Zeros save neither memory nor time by themselves: loaded like this, the model is as large and "
    "as fast as the dense one. That takes a kernel that skips them (for 2:4, some GPUs have one), "
    "and of unstructured zeros hardly any does."
)


JOINT = (
    "The experts of this model are stored as tensors of three dimensions, for which there is no "
    "bitmask form: they stay dense in it, zeros and all."
)

LOADING = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # this folder, or its name on a hub
tokenizer = AutoTokenizer.from_pretrained(".")
```"""


def write(folder: Folder, dense: Folder | None, weights: str) -> None:
    """Write the card of a cell's kept model, or write it anew.

    Args:
        folder: the cell's, with a kept model.
        dense: of the dense cell of the same model, if that is there.
        weights: hash of the kept weights.
    """
    folder.write_card(text(folder, dense, weights, folder.model))


def text(
    folder: Folder, dense: Folder | None, weights: str, model: Path, *, loading: str = LOADING
) -> str:
    """The card: metadata as YAML, then Markdown.

    Args:
        folder: the cell's.
        dense: of the dense cell of the same model, if that is there.
        weights: hash of the weights that the card is of.
        model: holds them, in safetensors, dense.
        loading: how they are loaded, in Markdown.

    Raises:
        Refusal: the cell's files do not say what it is.
    """
    from huggingface_hub import ModelCard

    said, compression = folder.cell(), folder.compression()
    if said is None or compression is None:
        lacks = "cell.yaml" if said is None else "compression.json"
        raise Refusal("", "", f"{folder.path}: lacks {lacks}; the same command again makes it")
    results = {
        name: result
        for name, result in folder.latest_metrics().items()
        if result["weights_sha256"] == weights
    }
    parts = [
        _title(said, compression),
        loading,
        _sizes(model, compression),
        _calibration(compression),
        *(_measured(name, result, dense) for name, result in results.items()),
        _again(said, compression, weights, results),
    ]
    body = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{_metadata(said, compression, weights)}\n---\n\n{body}\n"))


def weights_of(folder: Folder, cell: str) -> str | None:
    """The hash that stands in the card of a kept model; None: it has none of this cell.

    Args:
        folder: the cell's.
        cell: its id.
    """
    from huggingface_hub import ModelCard

    if not folder.card.is_file():
        return None
    try:
        said = ModelCard.load(folder.card).data.to_dict()["sweep"]
        return str(said["weights_sha256"]) if said["cell"] == cell else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def command(
    said: Mapping[str, Any], data: Iterable[Mapping[str, Any]] = (), *, shared: bool = False
) -> str | None:
    """The command that makes the cell and keeps its model; None: the cell does not say.

    What a branch stood for is in it by its commit: the command means the same for ever.

    Args:
        said: what is in its cell.yaml.
        data: what its results say of their corpora.
        shared: for others to read: paths are shown by their last part.
    """
    words = said["config"].get("words")
    if words is None:
        return None
    own = [word for word in words if _key(word) not in _THE_SWEEPS]
    own = [_shared(word) for word in own] if shared else own
    pins = _pins(said["config"], data)
    own = [word for word in own if word.partition("=")[0] not in pins]
    own += [f"{setting}={commit}" for setting, commit in pins.items()]
    end = ["-m"] if any(word.startswith("study=") for word in own) else []
    return shlex.join(["python", "-m", "sweep", *own, "keep=model", *end])


def _pins(config: Mapping[str, Any], data: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Commits of the model and of those corpora whose configuration names a branch or a tag."""
    model = config.get("model", {})
    pins = {"model.revision": str(model["revision"])} if "repo" in model else {}
    commits = {one["corpus"]: one["revision"] for one in data if one["source"] == "hub"}
    for setting, corpus, named in _revisions(config):
        commit = commits.get(corpus, named)
        if commit != named:
            pins[setting] = commit
    return pins


def _revisions(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every corpus of the hub with the revision that it names, and the setting that does.

    That is of a corpus of `conf/` its entry there, and else stands beside the source.
    """
    calibration, metrics = config.get("calib", {}), config.get("metric", {})
    parts = calibration.get("parts", {})
    sources = [("calib", calibration.get("source"))]
    sources += [(f"calib.parts.{name}", part["source"]) for name, part in parts.items()]
    sources += [
        (f"metric.{name}", source)
        for name, node in metrics.items()
        for source in node.get("source", {}).values()
    ]
    for place, source in sources:
        if source is not None and "repo" in source:
            own = "split" in locate(source["_target_"], place).__dataclass_fields__
            where = place if own else f"corpora.{source['corpus']}"
            yield f"{where}.revision", source["corpus"], source.get("revision", "main")


def _shared(word: str) -> str:
    """A word as others may read it: of paths on somebody's disk, their last parts."""
    name, _, value = word.partition("=")
    if "path" not in word or not value:
        return word
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(word)
    shown = replace(override, _value=_shown(name, override._value))
    return word if shown == override else f"{name}={shown.get_value_element_as_str()}"


def _shown(name: str, value: Any) -> Any:
    """What a setting is, as Hydra parses it, with paths cut to their last parts."""
    if isinstance(value, Mapping):
        return {key: _shown(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(name, inner) for inner in value]
    if not name.endswith("path"):
        return value
    if isinstance(value, str):
        return Path(value).name or value
    return replace(value, text=_shown(name, value.text)) if hasattr(value, "quote") else value


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition(".")[0]


def _metadata(said: Mapping[str, Any], compression: Mapping[str, Any], weights: str) -> str:
    from huggingface_hub import ModelCardData

    model = said["config"]["model"]
    calibration = compression["calibration"] or {"data": []}
    pruned = said["about"]["compresses"]
    data = ModelCardData(
        base_model=model.get("repo"),
        **compression.get("license", {}),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["compression-sweep", *(["pruning", compression["method"]] if pruned else [])],
        datasets=[one["location"] for one in calibration["data"] if one["source"] == "hub"] or None,
        sweep={
            "cell": said["id"],
            "weights_sha256": weights,
            "method": compression["method"],
            "pattern": compression["pattern"],
            "sparsity": compression["sparsity"],
        },
    )
    return str(data.to_yaml()).strip()


def _title(said: Mapping[str, Any], compression: Mapping[str, Any]) -> str:
    about = said["about"]
    if not about["compresses"]:
        return f"# {about['model']}, dense\n\nThe dense model, as it was measured."
    names = [f"# {about['model']}, {compression['method']}, {compression['pattern']}", ""]
    return "\n".join(
        [
            *names,
            f"{100 * compression['sparsity']:.2f} % of the {compression['prunable_weights']:,} "
            f"weights in scope are zero ({compression['weights_in_blocks']:,} are in the blocks). "
            f"Compressed with {compression['method']}; embeddings, norms and head are dense. "
            f"The licence is the dense model's{_license(compression)}.",
        ]
    )


def _license(compression: Mapping[str, Any]) -> str:
    """What that is, where its card says so."""
    said = compression.get("license", {})
    name = said.get("license_name") or said.get("license")
    link = f" ({said['license_link']})" if "license_link" in said else ""
    return f": {name}{link}" if name else ""


def _sizes(model: Path, compression: Mapping[str, Any]) -> str:
    if not compression["layers"]:
        return ""
    found = size.of_model(model, compression["layers"])
    rows = [
        ("all tensors", found.dense, found.bitmask),
        ("the compressed linears", found.linears_dense, found.linears_bitmask),
    ]
    table = _table(
        ("bytes on disk", "dense", "as a bitmask and what is not zero", "ratio"),
        [(what, f"{a:,}", f"{b:,}", f"{b / a:.3f}") for what, a, b in rows],
    )
    joint = f"{JOINT}\n\n" if size.has_joint_experts(model) else ""
    return f"## Size\n\n{table}\n\n{joint}{UNFIT}"


def _calibration(compression: Mapping[str, Any]) -> str:
    found = compression["calibration"]
    if found is None:
        return ""
    lines = [
        f"- {one['corpus']}: {_where(one)}, revision `{one['revision']}`" for one in found["data"]
    ]
    seed = "" if found["seed"] is None else f", drawn with seed {found['seed']}"
    lines.append(
        f"- {found['windows']} windows of {found['seqlen']} tokens, {found['tokens']:,} tokens in "
        f"all, of {found['rows']} rows{seed}; sha256 `{found['sha256']}`"
    )
    if left := found.get("rows_left_to_metrics"):
        lines.append(f"- {left:,} rows of its corpora were left out: metrics are measured on them")
    return "\n".join(["## Calibration", "", *lines])


def _where(data: Mapping[str, Any]) -> str:
    """Where data are from; of a file on somebody's disk, its name is enough."""
    if data["source"] == "embedded":
        return "a stand-in that comes with the package, not the real corpus"
    if data["source"] in ("hub", "model"):
        return str(data["location"])
    if data["source"] == "lm_eval":
        shots = data["num_fewshot"]
        return f"task of lm-evaluation-harness, its version {data['version']}, {shots}-shot"
    return f"the file {Path(str(data['location'])).name}"


def _measured(name: str, result: Mapping[str, Any], dense: Folder | None) -> str:
    beside = None
    if dense is not None and result["data"]:  # a timing has its own beside it
        beside = dense.metric(name, result["settings_id"])
    table = _table(
        (name, "value", "95 % interval", "dense", "over"),
        list(_rows(result["values"], {} if beside is None else beside["values"])),
    )
    data = [
        f"- on {one['corpus']}: {_where(one)}, revision `{one['revision']}`"
        for one in result["data"]
    ]
    return "\n".join([f"## {name if '_' in name else name.capitalize()}", "", table, "", *data])


def _rows(values: Mapping[str, Any], dense: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        bounds = ("low", "high")
        known = all(value[bound] is not None for bound in bounds)
        interval = "to".join(f" {value[bound]:.6g} " for bound in bounds).strip() if known else ""
        unit = "" if value["unit"] == "1" else f" {value['unit']}"
        before = f"{dense[name]['value']:.6g}" if name in dense else ""
        yield name, f"{value['value']:.6g}{unit}", interval, before, f"{value['n']} {value['of']}"


def _again(
    said: Mapping[str, Any],
    compression: Mapping[str, Any],
    weights: str,
    results: Mapping[str, Mapping[str, Any]],
) -> str:
    calibration = compression["calibration"] or {"data": []}
    data = [*calibration["data"], *(one for result in results.values() for one in result["data"])]
    typed = command(said, data, shared=True)
    how = f"```\n{typed}\n```" if typed else "With the settings that are in the cell's `cell.yaml`."
    versions = [
        f"{name} {compression['environment'][name]}"
        for name in _VERSIONS
        if compression["environment"].get(name) is not None
    ]
    model = said["config"]["model"]
    source = []
    if "repo" in model:
        source = [f"- the dense model: {model['repo']} at `{model['revision']}`"]
    return "\n".join(
        [
            "## How to make it again",
            "",
            how,
            "",
            *source,
            f"- cell `{said['id']}`",
            f"- weights `{weights}` (sha256 over the compressed linears)",
            f"- with {', '.join(versions)}",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
