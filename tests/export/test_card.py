"""A kept model's card: true, whole, and as of now."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from sweep import card
from sweep.cell import make
from sweep.files import Folder
from sweep.grid import sweep
from sweep.model.contents import fingerprint, license_of
from sweep.model.embedded import WEIGHTS

Frozen = Callable[..., dict[str, Any]]


def cell_id(folder: Path) -> str:
    """Of the cell of a folder."""
    found = json.loads((folder / "metrics" / "perplexity.json").read_text())["cell"]
    return str(found)


def table(text: str, name: str) -> list[str]:
    """The cells of the row of a value."""
    found = re.search(rf"^\| {name} \|.*$", text, re.MULTILINE)
    assert found is not None, name
    return [part.strip() for part in found[0].strip("|").split("|")]


def test_the_metadata_say_what_the_hub_shows_and_what_the_model_is(swept: Any) -> None:
    folder = swept.cell("wanda-50")
    compression = json.loads((folder / "compression.json").read_text())
    data = ModelCard.load(folder / "model" / "README.md").data.to_dict()
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-generation"
    assert "wanda" in data["tags"]
    assert data["sweep"] == {
        "cell": cell_id(folder),
        "weights_sha256": compression["weights_sha256"],
        "method": "wanda",
        "pattern": "50%",
        "sparsity": compression["sparsity"],
    }


def test_the_values_are_the_results_with_their_intervals_and_the_dense_ones(swept: Any) -> None:
    folder = swept.cell("wanda-50")
    text = (folder / "model" / "README.md").read_text()
    value = json.loads((folder / "metrics" / "perplexity.json").read_text())["values"]["perplexity"]
    dense = json.loads((swept.cell("dense") / "metrics" / "perplexity.json").read_text())
    row = table(text.split("## Perplexity")[1].split("\n", 3)[3], "perplexity")
    assert row == [
        "perplexity",
        f"{value['value']:.6g}",
        f"{value['low']:.6g} to {value['high']:.6g}",
        f"{dense['values']['perplexity']['value']:.6g}",
        f"{value['n']} tokens",
    ]
    assert "4 windows of 256 tokens, 1,024 tokens in all" in text
    assert "a stand-in that comes with the package" in text


@pytest.mark.parametrize("part", ["wanda-50", "wanda-2of4"])
def test_the_command_on_the_card_makes_the_same_cell(
    part: str, swept: Any, frozen: Frozen, tmp_path: Path
) -> None:
    text = (swept.cell(part) / "model" / "README.md").read_text()
    (line,) = re.findall(r"^python -m sweep (.*)$", text, re.MULTILINE)
    words = shlex.split(line)
    assert not any(str(swept.outputs) in word for word in words)  # nobody's own folders
    config = frozen(*words)
    assert config["keep"] == "model"
    assert make(config, fingerprint).name == swept.cell(part).name


def test_a_path_is_whole_for_its_owner_and_its_last_part_for_others() -> None:
    words = [
        "model=local",
        "model.path=/home/me/it",
        "calib=local",
        "calib.path=/home/me/rows.jsonl",
    ]
    said = {"config": {"words": words}}
    assert "model.path=/home/me/it" in (card.command(said) or "")
    shared = card.command(said, shared=True) or ""
    assert shared.endswith("model.path=it calib=local calib.path=rows.jsonl keep=model")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("model.path='/tmp/my model (v2)'", "model.path='my model (v2)'"),
        ("metric.tasks.path=[/a/b.jsonl,/a/c.jsonl]", "metric.tasks.path=[b.jsonl,c.jsonl]"),
        ("+x={a:{path:'/home/me/d,1',n:2}}", "+x={a:{path:'d,1',n:2}}"),
        ("model.path=/home/me/a\\ b", "model.path=a\\ b"),
        ("model.path=.", "model.path=."),
        ("calib.path=null", "calib.path=null"),
        ("calib.fields.output='a / path'", "calib.fields.output='a / path'"),
    ],
)
def test_of_a_path_that_hydra_wants_quoted_or_in_a_list_the_last_part_is_so_too(
    word: str, shown: str
) -> None:
    command = card.command({"config": {"words": [word]}}, shared=True)
    assert shlex.split(command or "")[3:] == [shown, "keep=model"]


def test_what_the_dense_model_has_said_itself_is_called_so_and_no_file() -> None:
    data = {"source": "model", "location": "sampled from the dense model"}
    assert card._where(data) == "sampled from the dense model"


def test_the_command_names_the_commits_that_branches_stood_for() -> None:
    of_conf = {"_target_": "sweep.data.hub.Instructions", "repo": "a/a"}
    of_ones_own = {"_target_": "sweep.data.hub.Dataset", "repo": "me/own"}
    config = {
        "words": ["model=hub", "model.repo=a/b", "model.revision=main", "calib=unnatural"],
        "model": {"repo": "a/b", "revision": "c" * 40},
        "calib": {"source": {**of_conf, "corpus": "unnatural", "revision": "main"}},
        "metric": {
            "tasks": {"source": {"gsm8k": {**of_conf, "corpus": "gsm8k", "revision": "e" * 40}}},
            "divergence": {"source": {"own": {**of_ones_own, "corpus": "own"}}},
        },
    }
    data = [
        {"corpus": "unnatural", "source": "hub", "revision": "d" * 40},
        {"corpus": "gsm8k", "source": "hub", "revision": "e" * 40},
        {"corpus": "own", "source": "hub", "revision": "f" * 40},
    ]
    assert card.command({"config": config}, data) == (
        f"python -m sweep model=hub model.repo=a/b calib=unnatural model.revision={'c' * 40} "
        f"corpora.unnatural.revision={'d' * 40} metric.divergence.revision={'f' * 40} keep=model"
    )


def test_a_cell_of_a_study_is_made_again_as_a_grid() -> None:
    said = {"config": {"words": ["study=demo", "method=wanda", "hydra/launcher=slurm", "name=x"]}}
    assert card.command(said) == "python -m sweep study=demo method=wanda keep=model -m"


def test_the_dense_cells_command_makes_the_dense_cell(swept: Any, frozen: Frozen) -> None:
    typed = card.command(Folder(swept.outputs, swept.cell("dense").name).cell())
    assert typed is not None
    assert make(frozen(*shlex.split(typed)[3:]), fingerprint).name == swept.cell("dense").name


def test_a_metric_that_is_added_later_is_on_the_card(frozen: Frozen, tmp_path: Path) -> None:
    first = ("metric=[perplexity]", "metric.perplexity.n_samples=2", "keep=model")
    sweep([frozen("method=magnitude", *first)])
    (cell,) = (tmp_path / "outputs" / "cells").glob("*magnitude*")
    assert "## Divergence" not in (cell / "model" / "README.md").read_text()
    second = ("metric=[divergence]", "metric.divergence.n_samples=4")
    sweep([frozen("method=magnitude", *second)])
    text = (cell / "model" / "README.md").read_text()
    assert "## Divergence" in text
    assert "## Perplexity" in text


def test_what_was_measured_on_other_weights_is_not_on_the_card(swept: Any) -> None:
    folder = Folder(swept.outputs, swept.cell("wanda-50").name)
    weights = card.weights_of(folder, cell_id(swept.cell("wanda-50")))
    assert "## Perplexity" in card.text(folder, None, weights or "", folder.model)
    assert "## Perplexity" not in card.text(folder, None, "of others", folder.model)


def test_the_card_counts_the_calibration_rows_that_were_left_to_metrics(
    swept: Any, tmp_path: Path
) -> None:
    whole = swept.cell("wanda-50")
    for name in ("cell.yaml", "compression.json"):
        (tmp_path / name).write_text((whole / name).read_text())
    folder = Folder.at(tmp_path)
    record = folder.compression()
    assert record is not None
    for count, line in (
        (0, ""),
        (1234, "- 1,234 rows of its corpora were left out: metrics are m"),
    ):
        record["calibration"]["rows_left_to_metrics"] = count
        folder.write_compression(record)
        text = card.text(folder, None, "", whole / "model")
        assert ("were left out" in text) == bool(count)
        assert line in text


def test_a_card_without_the_hash_or_none_at_all_tells_no_weights(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "x-12345678")
    assert card.weights_of(folder, "12345678") is None
    folder.model.mkdir(parents=True)
    folder.card.write_text("# Mine\n")
    assert card.weights_of(folder, "12345678") is None
    for cell, weights in (("12345678", "abc"), ("87654321", None)):
        folder.card.write_text(f"---\nsweep:\n  cell: '{cell}'\n  weights_sha256: abc\n---\n")
        assert card.weights_of(folder, "12345678") == weights


def test_the_licence_is_that_of_the_dense_models_card(frozen: Frozen, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(WEIGHTS, model)
    head = {"license": "other", "license_name": "community", "license_link": "https://a.test/l"}
    lines = "".join(f"{name}: {value}\n" for name, value in head.items())
    (model / "README.md").write_text(f"---\n{lines}tags: [x]\n---\n\n# A model\n")
    words = ("model=local", f"model.path={model}", "corpora=embedded", "seqlen=128")
    few = ("metric=[perplexity]", "metric.perplexity.n_samples=2", "keep=model")
    sweep([frozen(*words, "method=magnitude", *few)])
    (cell,) = (tmp_path / "outputs" / "cells").glob("*magnitude*")
    found = ModelCard.load(cell / "model" / "README.md")
    assert found.data.to_dict().items() >= head.items()
    assert "The licence is the dense model's: community (https://a.test/l)." in found.text


@pytest.mark.parametrize(
    "text", ["# No front\n", "---\nlicense: [\n---\n", "---\na: 1\n---\n", None]
)
def test_a_model_whose_card_names_no_licence_has_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert license_of(tmp_path) == {}
