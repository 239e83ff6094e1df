"""Every option of every group, and every study, composes, freezes and builds."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sweep.cell import _without_paths, make
from sweep.config import CONF
from sweep.data import repository
from sweep.model import hub
from sweep.model.embedded import WEIGHTS
from sweep.refusal import Refusal

Frozen = Callable[..., dict[str, Any]]


NEEDED = {
    "model=local": ["model.path={model}"],
    "model=hub": ["model.repo=a/model"],
    "calib=hub": ["calib.repo=me/own"],
    "calib=local": ["calib.path={text}"],
    "calib=tokens": ["calib.path={tokens}"],
    "sparsity=n_of_m": ["sparsity.n=1", "sparsity.m=4"],
}
"""What must be set beside an option, by option."""

OPTIONS = [
    f"{group}={file.stem}"
    for group in ("model", "method", "sparsity", "calib", "tracker", "corpora")
    for file in sorted((CONF / group).glob("*.yaml"))
]
METRICS = sorted(file.stem for file in (CONF / "metric").glob("*.yaml"))
STUDIES = sorted(file.stem for file in (CONF / "study").glob("*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(
    option: str, frozen: Frozen, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_snapshot", lambda repo, revision, pickles: files["model"])
    monkeypatch.setattr(repository, "_commit", lambda repo, revision: revision)
    needed = [text.format(**files) for text in NEEDED.get(option, [])]
    cell = make(frozen(option, *needed), lambda folder: str(folder))
    assert cell.name.endswith(cell.id[:8])


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_composes_and_builds_alone(metric: str, frozen: Frozen) -> None:
    must = {"lm_eval": ("metric.lm_eval.tasks=[arc_easy]",)}.get(metric, ())
    cell = make(frozen(f"metric=[{metric}]", *must), lambda folder: str(folder))
    assert list(cell.parts.metrics) == [metric]


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("model", ["model=tiny", None])
def test_every_point_of_every_study_composes_and_builds(
    study: str,
    model: str | None,
    frozen: Frozen,
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_snapshot", lambda repo, revision, pickles: files["model"])
    monkeypatch.setattr(repository, "_commit", lambda repo, revision: revision)
    given = [f"study={study}", *([model] if model else [])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", given, return_hydra_config=True)
    grids: Any = OmegaConf.to_container(config.hydra.sweeper)
    for grid in (grids["params"], *grids["also"], *grids["hub"]):
        axes = [
            [f"{name}={value}" for value in str(values).split(",")] for name, values in grid.items()
        ]
        for point in product(*([axis[0], axis[-1]] for axis in axes)):  # the ends of every axis
            make(frozen(*given, *point), lambda folder: str(folder))


@pytest.mark.parametrize(
    ("study", "words", "points"),
    [
        ("sparsity_frontier", [], 60),
        ("sparsity_frontier", ["method=wanda"], 20),
        ("sparsity_frontier", ["sparsity.ratio=0.5"], 6),
        ("sparsity_frontier", ["sparsity.ratio=0.45,0.5"], 12),
        ("sparsity_frontier", ["sparsity=2to4"], 6),
        ("calibration_source", ["calib=c4"], 12),
        ("calibration_source", ["calib=mix", "seed=0"], 12),
        ("calibration_source", ["model=tiny"], 84),
        ("calibration_source", ["calib=wikitext2"], 12),
        ("calibration_source", ["calib=c4,gsm8k"], 24),
        ("calibration_source", ["model=llama2_7b"], 120),
        ("calibration_source", ["model=llama2_7b", "calib=code"], 12),
        ("calibration_source", ["model=llama2_7b", "calib=c4,gsm8k"], 24),
        ("calibration_source", ["model=llama2_7b", "seed=0"], 40),
    ],
)
def test_words_choose_among_the_grids_of_a_study(
    study: str, words: list[str], points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = points_of([f"study={study}"], words, monkeypatch)
    assert len(launched) == points
    assert all(set(words) <= set(point) for point in launched if not any("," in w for w in words))


def points_of(
    study: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """The points that the sweeper hands to the launcher."""
    model = [word for word in words if word.startswith("model=")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*study, *model], return_hydra_config=True)
    sweeper = instantiate(config.hydra.sweeper)
    launched: list[list[str]] = []
    launcher = SimpleNamespace(launch=lambda found, initial_job_idx: launched.extend(found) or ())
    monkeypatch.setattr(sweeper, "launcher", launcher)
    monkeypatch.setattr(sweeper, "hydra_context", SimpleNamespace(config_loader=None))
    sweeper.sweep(words)
    return launched


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["model=tiny"], True),
        (["seed=0"], True),
        (["model=llama2_7b"], False),
        (["calib=gsm8k"], False),  # what is asked for by name is not left out
        (["calib=c4"], False),
    ],
)
def test_what_of_a_study_has_no_stand_in_is_left_out_and_named(
    words: list[str],
    left_out: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    launched = points_of(["study=calibration_source"], words, monkeypatch)
    sets = {word for point in launched for word in point if word.startswith("calib=")}
    assert ("calib=code" in sets) == (words == ["model=llama2_7b"])
    said = capsys.readouterr().err
    line = "calib=wikitext2,gsm8k,code, seed=0,1,2; of these corpora there are no stand-ins"
    assert (line in said) == left_out


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_as_many_cells_as_the_readme_says(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (CONF.parent / "README.md").read_text()
    found = re.search(rf"^\| `{study}` \|.*\| (\d+) \|$", readme, re.MULTILINE)
    assert found is not None
    cells = {"dense"}
    for point in points_of([f"study={study}"], ["model=tiny"], monkeypatch):
        reads_none = "method=magnitude" in point  # no calibration data
        words = [word for word in point if not (reads_none and word.startswith("calib="))]
        cells.add("dense" if "method=dense" in point else " ".join(sorted(words)))
    assert len(cells) == int(found[1])
    text = (CONF / "study" / f"{study}.yaml").read_text()
    assert re.search(rf"\b{found[1]} cells\b", text)


def test_the_study_of_the_paper_has_its_judge_in_a_study_beside_it(frozen: Frozen) -> None:
    with_judge, without = (
        frozen(f"study={name}", "model=tiny") for name in ("khanal_capone_judged", "khanal_capone")
    )
    assert list(with_judge["metric"]) == [*without["metric"], "judge"]
    assert {n: with_judge["metric"][n] for n in without["metric"]} == without["metric"]
    judge = with_judge["metric"]["judge"]
    assert None not in (judge["price_in"], judge["price_out"])  # or it asks only one's own endpoint
    cells = 6
    assert judge["max_calls"] == cells * len(judge["source"]) * judge["n_samples"]
    assert list(make(with_judge, str).parts.metrics)[-1] == "judge"
    assert (
        judge["template"] == without["metric"]["tasks"]["template"] == "alpaca"
    )  # all it has learned
    own = {"alpaca": "alpaca", "unnatural": "unnatural"}
    whole = frozen("study=khanal_capone_judged")
    assert all(whole["metric"][n]["template"] == own for n in ("tasks", "divergence", "judge"))


def test_one_template_for_each_source_is_another_result_only_where_they_differ(
    frozen: Frozen,
) -> None:
    def made(metric: str, *words: str) -> Any:
        settings = [f"metric.{metric}.{word}" for word in words]
        return make(frozen(f"metric=[{metric}]", *settings), str)

    both = "source=[alpaca,unnatural]"
    for metric in ("tasks", "divergence", "judge"):
        plain = made(metric, both, "template=alpaca").metric_id(metric)
        assert made(metric, both).metric_id(metric) == plain
        assert made(metric, both, "template=[alpaca,alpaca]").metric_id(metric) == plain
        apart = made(metric, both, "template=[alpaca,unnatural]").metric_id(metric)
        other = made(metric, both, "template=unnatural").metric_id(metric)
        turned = made(metric, both, "template=[unnatural,alpaca]").metric_id(metric)
        assert len({plain, apart, turned, other}) == 4
        named = made(metric, both, "template={unnatural:unnatural,alpaca:alpaca}")
        assert named.metric_id(metric) == apart
    chat = {"template": {"alpaca": "chat", "unnatural": "alpaca"}}  # as it is called alone
    assert _without_paths(chat, WEIGHTS)["template"] == {"alpaca": "chat-2", "unnatural": "alpaca"}


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("[alpaca]", "template=[alpaca]: must be one name, or one for each of source=[alpaca,unna"),
        ("[alpaca,chat,chat]", "template=[alpaca,chat,chat]: must be one name, or one for each"),
        ("[]", "template=[]: must be one name, or one for each of source=[alpaca,unnatural]"),
        ("{alpaca:chat}", "template={alpaca:chat}: must be one name, or one for each of source="),
        ("{alpaca:chat,c4:chat}", "template={alpaca:chat,c4:chat}: must be one name, or one for"),
        ("[alpaca,story]", "template.unnatural=story: must be 'alpaca', 'unnatural', 'chat' or"),
        ("[story,story]", "template=story: must be 'alpaca', 'unnatural', 'chat' or"),
        ("story", "template=story: must be 'alpaca', 'unnatural', 'chat' or 'chat_thinking'"),
    ],
)
@pytest.mark.parametrize("metric", ["tasks", "divergence", "judge"])
def test_templates_that_do_not_fit_the_sources_are_one_line(
    template: str, line: str, metric: str, frozen: Frozen
) -> None:
    words = [f"metric.{metric}.source=[alpaca,unnatural]", f"metric.{metric}.template={template}"]
    with pytest.raises(Refusal) as refused:
        make(frozen(f"metric=[{metric}]", *words), str)
    assert str(refused.value).startswith(f"metric.{metric}.{line}")
    assert "\n" not in str(refused.value)


def test_every_study_states_its_question_and_its_cost_and_has_its_own_name() -> None:
    for study in STUDIES:
        text = (CONF / "study" / f"{study}.yaml").read_text()
        assert f"\nname: {study}\n" in text
        comment = text.split("name:")[0]
        assert "?" in comment
        assert "H100" in comment


@pytest.mark.parametrize("source", ["c4", "alpaca", "unnatural", "wikitext2", "local", "tokens"])
def test_a_metrics_source_takes_the_same_names_as_calibration(
    source: str, frozen: Frozen, files: dict[str, Path]
) -> None:
    path = {"local": files["text"], "tokens": files["tokens"]}.get(source)
    beside = [f"metric.perplexity.path={path}"] if path else []
    config = frozen("metric=[perplexity]", f"metric.perplexity.source={source}", *beside)
    assert list(config["metric"]["perplexity"]["source"]) == [source]


def test_a_data_set_of_ones_own_is_called_as_its_repository(
    frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "_commit", lambda repo, revision: revision)
    calib = ("calib=hub", "calib.repo=me/chats", "calib.config=main", "calib.field=messages")
    beside = ("source=hub", "repo=me/sums", "revision=v2", "split=test", "columns.output=answer")
    words = (*calib, "metric=[tasks]", *(f"metric.tasks.{word}" for word in beside))
    cell = make(frozen(*words), lambda folder: str(folder))
    assert "-me-chats-main-" in cell.name
    assert cell.about["calib"] == "me/chats-main"
    ((name, source),) = cell.parts.metrics["tasks"].source.items()  # type: ignore[attr-defined]
    assert name == "me/sums"
    assert vars(source) == {
        "corpus": "me/sums",
        "repo": "me/sums",
        "revision": "v2",
        "config": None,
        "split": "test",
        "first": None,
        "field": None,
        "columns": {"output": "answer"},
    }


def test_a_calibration_set_is_called_as_the_corpus_that_it_reads(frozen: Frozen) -> None:
    cell = make(frozen("calib=c4", "calib.source=alpaca"), lambda folder: str(folder))
    assert cell.about["calib"] == "alpaca"
    assert "-alpaca-" in cell.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calib=hub",), "calib.repo=???: must be set"),
        (("metric.tasks.source=hub",), "metric.tasks.repo=null: must be set for source=hub"),
        (
            ("model=gpt2", "metric.tasks.source=alpaca", "metric.tasks.revision=v2"),
            "metric.tasks.revision=v2: belongs to source=hub; of alpaca for all: corpora.alpaca.r",
        ),
        (
            ("metric.tasks.source=alpaca", "metric.tasks.repo=a/b"),
            "metric.tasks.repo=a/b: the corpus alpaca takes no repo; it belongs to source=hub",
        ),
        (
            ("metric.tasks.source=[alpaca,hub]", "metric.tasks.repo=a/b"),
            "metric.tasks.repo=a/b: belongs to one source, and there are several",
        ),
        (
            ("metric.tasks.source=alpaca", "metric.tasks.field=body"),
            "metric.tasks.field=body: the corpus alpaca takes no field; it belongs to source=hub o",
        ),
    ],
)
def test_what_stands_beside_a_source_belongs_to_it(
    words: tuple[str, ...], said: str, frozen: Frozen
) -> None:
    with pytest.raises(Refusal) as caught:
        frozen("metric=[tasks]", *words)
    assert str(caught.value).startswith(said)


def test_a_frozen_configuration_is_plain_data_without_interpolations(frozen: Frozen) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(inner) for inner in value.values())
        if isinstance(value, list):
            return all(plain(inner) for inner in value)
        return value is None or (
            isinstance(value, str | int | float | bool) and "${" not in str(value)
        )

    assert plain(frozen())


def test_the_tiny_model_brings_its_stand_ins(frozen: Frozen) -> None:
    sources = frozen("metric=[tasks]")["metric"]["tasks"]["source"]
    assert {node["_target_"] for node in sources.values()} == {"sweep.data.embedded.Exercises"}


def test_another_model_means_the_real_corpora(frozen: Frozen, files: dict[str, Path]) -> None:
    config = frozen("model=local", f"model.path={files['model']}")
    assert config["calib"]["source"]["repo"] == "allenai/c4"
    assert config["seqlen"] == 2048


def test_hydra_finds_the_launcher_by_its_own_discovery() -> None:
    from hydra.core.plugins import Plugins
    from hydra.plugins.launcher import Launcher

    names = {plugin.__name__ for plugin in Plugins.instance().discover(Launcher)}
    assert "Here" in names
    assert not HydraConfig.initialized()


def test_a_part_of_a_mixture_takes_what_a_calibration_set_takes(
    frozen: Frozen, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "_commit", lambda repo, revision: revision)

    def cell(*words: str) -> Any:
        return make(frozen("calib=mix", *words), lambda folder: str(folder))

    def part(name: str, *words: str) -> Any:
        return cell(*(f"calib.parts.{name}.{w}" for w in words)).parts.calibration.parts[name]

    assert part("alpaca", "template=unnatural").template == "unnatural"
    assert cell("calib.parts.alpaca.template=unnatural").id != cell().id
    assert cell("calib.parts.alpaca.template=alpaca").id == cell().id
    hub = part("c4", "source=hub", "repo=me/c4", "split=dev", "columns.output=answer").source
    assert (hub.corpus, hub.split, hub.columns) == ("me/c4", "dev", {"output": "answer"})
    file = part("alpaca", "source=local", f"path={files['instructions']}", "template=chat")
    assert (file.source.path, file.template) == (str(files["instructions"]), "chat")
    with pytest.raises(Refusal, match=r"calib\.parts\.c4\.first=3: .*; of c4 for all: corpora\.c4"):
        cell("calib.parts.c4.first=3", "model=local", f"model.path={files['model']}")


def test_a_mixture_packs_its_parts_as_is_said_or_as_is_usual(
    frozen: Frozen, files: dict[str, Path]
) -> None:
    def packings(*overrides: str) -> dict[str, str | None]:
        given = ("calib=mix", "+calib.parts.wikitext2.weight=1", *overrides)
        parts = frozen("model=local", f"model.path={files['model']}", *given)["calib"]["parts"]
        return {name: part["packing"] for name, part in parts.items()}

    usual = {"c4": "sample", "alpaca": "concat", "wikitext2": "concat"}
    assert packings() == usual
    assert packings("calib.packing=pad") == dict.fromkeys(usual, "pad")
    assert packings("calib.parts.c4.packing=concat")["c4"] == "concat"
    tokens = ("+calib.parts.tokens.weight=1", f"+calib.parts.tokens.path={files['tokens']}")
    assert packings("calib.packing=pad", *tokens)["tokens"] is None
