"""Where the options are, and how a composed configuration is frozen.

A frozen configuration is plain data: every interpolation resolved, every corpus named in it spelt
out. What runs later is what was composed now, whatever happens to the YAML files in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.refusal import Refusal, check_letters, likely

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PACKAGE = Path(__file__).parent

CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
"""The folder of options: inside an installed package, beside it in a checkout."""

GROUPS = ("model", "method", "sparsity", "calib")
SWEEPS = ("tracker", "outputs", "name", "report")
"""Keys that belong to the sweep; the others are a cell's."""

OTHERS = ("metric", *SWEEPS, "seed", "batch_size", "keep", "seqlen")
BESIDE = ("path", "key", "field", "columns", "repo", "config", "split", "first", "revision")
"""Settings that stand beside a `source` and belong to it."""


def freeze(config: DictConfig, choices: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A composed configuration as plain data, with the names of the chosen options.

    Args:
        config: the configuration; Hydra's own part, if it is there, is left out.
        choices: the option of every group, `hydra.runtime.choices`.
        words: with which it was composed; they are kept for people, and change no identity.

    Raises:
        Refusal: a value that must be set, or a corpus that does not exist.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

    own = config
    if "hydra" in config:
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = str(error.full_key)
        raise Refusal(name, "???", f"must be set: add {name}=… to the command") from error
    except InterpolationResolutionError as error:
        raise Refusal(str(error.full_key), "", str(error).splitlines()[0]) from error
    assert isinstance(plain, dict)
    frozen: dict[str, Any] = {str(key): value for key, value in plain.items()}
    corpora = frozen.pop("corpora")
    frozen.pop("prompts", None)  # other settings point to them
    for key in frozen:
        if key not in (*GROUPS, *OTHERS):
            reason = f"no such key; the top level has: {', '.join((*GROUPS, *OTHERS))}"
            raise Refusal(key, frozen[key], reason)
    frozen["calib"] = _calibration(frozen["calib"], corpora, frozen["seqlen"])
    if not isinstance(frozen.get("metric"), Mapping):
        raise Refusal("metric", frozen.get("metric"), "must be metrics: metric=[perplexity,tasks]")
    frozen["metric"] = {
        name: _metric(node, f"metric.{name}", corpora, frozen["seqlen"])
        for name, node in frozen["metric"].items()
    }
    frozen["outputs"] = str(Path(str(frozen["outputs"])).expanduser().absolute())
    frozen["options"] = {group: choices.get(group) for group in GROUPS}
    frozen["words"] = list(words)
    _check_letters(frozen)
    return frozen


def _check_letters(node: Any, name: str = "") -> None:
    """Raises: Refusal: a value that no file of results could hold."""
    if isinstance(node, Mapping):
        for key, inner in node.items():
            _check_letters(inner, f"{name}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for inner in node:
            _check_letters(inner, name)
    elif isinstance(node, str):
        check_letters(name, node)


def _metric(
    node: Mapping[str, Any], where: str, corpora: Mapping[str, Any], seqlen: int
) -> dict[str, Any]:
    """A metric with its corpora spelt out: `source` becomes a mapping from name to node."""
    if not isinstance(node, Mapping):
        raise Refusal(where, node, "holds the metric's settings; set one of them by its name")
    beside = _beside(node)
    own = {key: value for key, value in node.items() if key not in BESIDE}
    own = _listed(own, where)
    if "source" not in own:
        return own
    names = own["source"] if isinstance(own["source"], list) else [own["source"]]
    if not names:
        raise Refusal(f"{where}.source", "[]", f"name at least one of {', '.join(corpora)}")
    if len(names) > 1 and beside:
        key = next(iter(beside))
        raise Refusal(f"{where}.{key}", beside[key], "belongs to one source, and there are several")
    found = {name: _corpus(name, beside, where, corpora) for name in names}
    called = {name: str(node.get("corpus", name)) for name, node in found.items()}
    own["source"] = {called[name]: node for name, node in found.items()}
    if isinstance(own.get("template"), list | Mapping):
        own["template"] = _templates(own["template"], called, f"{where}.template")
    tokenised = all(_packing(source, where) is None for source in own["source"].values())
    if own.get("seqlen", 0) is None and not tokenised:
        own["seqlen"] = seqlen
    return own


def _templates(given: list[Any] | Mapping[str, Any], called: Mapping[str, str], where: str) -> Any:
    """Templates by corpus, of a list in the order of the sources, or of a mapping by their names.
    The same for all is as if it had been said once.

    Args:
        given: the templates.
        called: the corpora by the names of the sources, in their order.
        where: the setting's place.
    """
    if isinstance(given, Mapping):
        said, pairs = ",".join(f"{key}:{value}" for key, value in given.items()), dict(given)
        said = f"{{{said}}}"
    else:
        said, pairs = f"[{','.join(map(str, given))}]", dict(zip(called, given, strict=False))
    if pairs.keys() != called.keys() or len(given) != len(called):
        reason = f"must be one name, or one for each of source=[{','.join(called)}]"
        raise Refusal(where, said, reason)
    found = {called[name]: template for name, template in pairs.items()}
    first, *others = found.values()
    return found if any(other != first for other in others) else first


def _listed(node: Mapping[str, Any], where: str) -> dict[str, Any]:
    """With one word, where several may be, as a list of it: `tasks=hellaswag`."""
    fields = _class(node, where).__dataclass_fields__ if "_target_" in node else {}
    several = {key for key, field in fields.items() if str(field.type).startswith("tuple[str")}
    return {k: [v] if k in several and isinstance(v, str) else v for k, v in node.items()}


def _calibration(
    node: Mapping[str, Any], corpora: Mapping[str, Any], seqlen: int
) -> dict[str, Any]:
    """A calibration set with its corpus, or the corpora of its parts, spelt out."""
    own = {key: value for key, value in node.items() if key not in BESIDE}
    packing = None
    if "source" in own:
        own["source"] = _corpus(own["source"], _beside(node), "calib", corpora)
        packing = _packing(own["source"], "calib.source")
        if own.get("packing", 0) is None:
            own["packing"] = packing
    if "parts" in own:
        usual = own.pop("packing", None)
        own["parts"] = {
            name: _part(part, name, corpora, usual)
            for name, part in own["parts"].items()
            if part is not None and part.get("weight") != 0
        }
        _share_out(own["parts"])
    if own.get("seqlen", 0) is None and ("source" not in own or packing is not None):
        own["seqlen"] = seqlen
    return own


def _share_out(parts: Mapping[str, dict[str, Any]]) -> None:
    """Weights relative to the smallest of them: 2 and 2 are 1 and 1, the same mixture."""
    weights: list[Any] = [part.get("weight") for part in parts.values()]
    if not all(isinstance(weight, int | float) and 0 < weight < inf for weight in weights):
        return  # what cannot be a weight is refused by the mixture, as it was typed
    for part in parts.values():
        share = round(part["weight"] / min(weights), 10)
        part["weight"] = int(share) if share.is_integer() else share


def _part(
    part: Mapping[str, Any], name: str, corpora: Mapping[str, Any], packing: str | None
) -> dict[str, Any]:
    where = f"calib.parts.{name}"
    part = {key: value for key, value in part.items() if value is not None}
    chosen = part.get("source", name)
    if chosen not in corpora and (CONF / "calib" / f"{chosen}.yaml").is_file():
        reason = (
            f"is a calibration set and no corpus; parts of a mixture are corpora, whose rows are "
            f"known before a model is loaded: {', '.join(corpora)}; calib={chosen} is a point of "
            "its own in a grid"
        )
        raise Refusal(f"{where}.source", chosen, reason)
    source = _corpus(chosen, _beside(part), where, corpora)
    usual = _packing(source, where)
    own = {key: value for key, value in part.items() if key not in (*BESIDE, "source", "packing")}
    share = {"_target_": "sweep.calib.mix.Share"}
    usually = _class(share, where).__dataclass_fields__["template"].default
    if own.get("template") == usually:
        del own["template"]  # what is said and what is usual are one cell
    return own | {
        **share,
        "source": source,
        "packing": part.get("packing") or (None if usual is None else packing or usual),
    }


def _beside(node: Mapping[str, Any]) -> dict[str, Any]:
    """What is set beside a source; of several in one, those that are."""
    found: dict[str, Any] = {}
    for key in BESIDE:
        value = node.get(key)
        if isinstance(value, Mapping):
            value = {name: inner for name, inner in value.items() if inner is not None} or None
        if value is not None:
            found[key] = value
    return found


def _corpus(
    name: Any, beside: Mapping[str, Any], where: str, corpora: Mapping[str, Any]
) -> dict[str, Any]:
    """A corpus spelt out; a data set of one's own choice is called as its repository."""
    if name not in corpora:
        raise Refusal(f"{where}.source", name, f"no such corpus; {likely(name, corpora)}")
    fields = _class(corpora[name], f"corpora.{name}").__dataclass_fields__
    for key, value in beside.items():
        takes = [other for other, node in corpora.items() if _takes(node, key)]
        belongs = f"belongs to source={' or '.join(takes)}"
        if "repo" in corpora[name] and key in fields:
            reason = f"{belongs}; of {name} for all: corpora.{name}.{key}"
            raise Refusal(f"{where}.{key}", value, reason)
        if key not in fields:
            reason = f"the corpus {name} takes no {key}; it {belongs}"
            raise Refusal(f"{where}.{key}", value, reason)
    found = {**corpora[name], **beside}
    for key in ("path", "repo"):
        if key in fields and key not in found:
            raise Refusal(f"{where}.{key}", "null", f"must be set for source={name}")
    if "corpus" in fields and "repo" in beside:
        called = found["repo"]  # whole: me/c4 is not c4
        found["corpus"] = f"{called}-{found['config']}" if found.get("config") else called
    return found


def _takes(node: Mapping[str, Any], key: str) -> bool:
    """Whether a corpus takes a setting beside the source that names it."""
    return "repo" not in node and key in _class(node, "corpora").__dataclass_fields__


def _packing(source: Mapping[str, Any], where: str) -> str | None:
    """How a corpus's rows are usually packed; None: they are windows already."""
    usual: str | None = source.get("packing", _class(source, where).packing)
    return usual


def _class(node: Mapping[str, Any], where: str) -> Any:
    """The class of a corpus."""
    from sweep.build import locate

    return locate(node["_target_"], where)
