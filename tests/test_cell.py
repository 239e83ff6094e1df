"""Identity: what can change a cell's weights is in it, what cannot is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.cell import READING, Cell, digest, make
from sweep.model.contents import fingerprint
from sweep.refusal import Refusal

Frozen = Callable[..., dict[str, Any]]


@pytest.fixture
def cell(frozen: Frozen):  # type: ignore[no-untyped-def]
    def cell(*overrides: str) -> Cell:
        return make(frozen(*overrides), fingerprint)

    return cell


CHANGES = [
    ("method=wanda",),
    ("sparsity.ratio=0.6",),
    ("sparsity=2to4",),
    ("calib=alpaca",),
    ("calib.n_samples=64",),
    ("calib.seqlen=128",),
    ("calib.packing=pad",),
    ("seed=1",),
    ("model.dtype=bfloat16",),
    ("model.attention=eager",),
    ("method.scope=mlp",),
    ("method.damping=0.02",),
]


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_whatever_changes_the_weights_changes_the_id(change: tuple[str, ...], cell) -> None:  # type: ignore[no-untyped-def]
    assert cell(*change).id != cell().id


@pytest.mark.parametrize(
    "change",
    [
        ("metric=[perplexity]",),
        ("metric.tasks.n_samples=7",),
        ("tracker=none",),
        ("outputs=/tmp/elsewhere",),
        ("name=other",),
        ("batch_size=4",),
        ("keep=model",),
        ("model.device=cpu",),
    ],
    ids=" ".join,
)
def test_whatever_leaves_the_weights_leaves_the_id(change: tuple[str, ...], cell) -> None:  # type: ignore[no-untyped-def]
    assert cell(*change).id == cell().id


def test_a_mixture_of_experts_is_compressed_another_way_since_its_gates_are_apart(
    cell,  # type: ignore[no-untyped-def]
    build: Callable[..., Any],
    tmp_path: Path,
) -> None:
    for family in ("llama", "mixtral"):
        build(family).save_pretrained(tmp_path / family)
        words = ("model=local", f"model.path={tmp_path / family}", "seqlen=32", "method=magnitude")
        words += ("metric=[perplexity]",)
        assert cell(*words).identity.get("experts") == {"llama": None, "mixtral": 2}[family]
        assert "experts" not in cell(*words, "method=dense").identity


def test_padded_windows_are_run_another_way_since_they_go_by_length(cell) -> None:  # type: ignore[no-untyped-def]
    padded = cell("calib.packing=pad").identity["calib"]
    assert (padded["packing"], padded["padded"]) == ("pad", 2)
    assert "padded" not in cell().identity["calib"]
    mixed = cell("calib=mix", "calib.parts.alpaca.packing=pad").identity["calib"]["parts"]
    assert [part.get("padded") for part in mixed.values()] == [
        2 if name == "alpaca" else None for name in mixed
    ]


def test_magnitude_reads_no_calibration_data_so_it_is_one_cell(cell) -> None:  # type: ignore[no-untyped-def]
    one, other = (
        cell("method=magnitude", "calib=c4"),
        cell("method=magnitude", "calib=alpaca", "seed=3"),
    )
    assert one.id == other.id
    assert one.name == other.name


def test_what_small_groups_leave_no_choice_of_makes_no_other_cell(cell) -> None:  # type: ignore[no-untyped-def]
    magnitude = ("method=magnitude", "sparsity=2to4")
    one, *others = (cell(*magnitude, f"method.per={per}") for per in ("layer", "row", "global"))
    assert [other.id for other in others] == [one.id] * 2
    free = {cell("method=magnitude", f"method.per={per}").id for per in ("layer", "row", "global")}
    assert len(free) == 3


def test_a_mixture_is_known_by_its_shares(cell) -> None:  # type: ignore[no-untyped-def]
    def mixed(c4: float, alpaca: float) -> Cell:
        weights = (f"calib.parts.c4.weight={c4}", f"calib.parts.alpaca.weight={alpaca}")
        return cell("calib=mix", *weights)  # type: ignore[no-any-return]

    assert mixed(1, 1).id == mixed(2, 2).id == mixed(0.5, 0.5).id == cell("calib=mix").id
    assert mixed(3, 1).id == mixed(0.3, 0.1).id != mixed(1, 3).id
    with pytest.raises(Refusal, match=r"calib\.parts\.c4\.weight=-1: must be greater than 0"):
        mixed(-1, 1)


def test_a_seed_that_nothing_is_drawn_with_makes_no_other_cell(
    cell,  # type: ignore[no-untyped-def]
    files: dict[str, Path],
) -> None:
    tokens = ("calib=tokens", f"calib.path={files['tokens']}", "calib.key=calibration")
    assert cell(*tokens).id == cell(*tokens, "seed=1").id
    assert cell(*tokens, "seed=1").label == "tiny-sparsegpt-50-tokens"
    some = (*tokens, "calib.n_samples=3")
    assert cell(*some).id != cell(*some, "seed=1").id


def test_dense_is_one_cell_whatever_the_sparsity(cell) -> None:  # type: ignore[no-untyped-def]
    assert cell("method=dense", "sparsity.ratio=0.7").id == cell("method=dense", "sparsity=2to4").id


def test_ratios_that_print_alike_are_one_cell(cell) -> None:  # type: ignore[no-untyped-def]
    one, other = cell("sparsity.ratio=0.3"), cell("sparsity.ratio=0.30000000000000004")
    assert one.name == other.name


def test_the_same_model_in_another_folder_is_the_same_cell(
    cell,  # type: ignore[no-untyped-def]
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copied"
    shutil.copytree(files["model"], copy)
    here = ["model=local", f"model.path={files['model']}", "seqlen=128", "calib=local"]
    there = ["model=local", f"model.path={copy}", "seqlen=128", "calib=local"]
    data = f"calib.path={files['text']}"
    assert cell(*here, data).id == cell(*there, data).id


def test_a_changed_calibration_file_is_another_cell(
    cell,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("one text")
    before = cell("calib=local", f"calib.path={file}").id
    file.write_text("another text")
    assert cell("calib=local", f"calib.path={file}").id != before


def test_the_label_says_what_the_cell_is(cell) -> None:  # type: ignore[no-untyped-def]
    assert cell("sparsity=2to4", "method=wanda", "calib=alpaca", "seed=2").label == (
        "tiny-wanda-2of4-alpaca-seed2"
    )
    assert cell("method=magnitude").label == "tiny-magnitude-50"


def test_a_result_belongs_to_the_version_of_the_metrics(
    cell,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = cell()
    before = one.metric_id("tasks")
    monkeypatch.setattr("sweep.cell.MEASURES", 99)
    assert cell().metric_id("tasks") != before
    assert cell().id == one.id


def test_rows_that_are_read_another_way_are_other_data_and_those_of_no_reader_are_not(
    cell,  # type: ignore[no-untyped-def]
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = files["instructions"]
    own = ("calib=local", f"calib.path={file}", "metric=[perplexity,tasks]")
    own += ("metric.tasks.source=local", f"metric.tasks.path={file}")
    one, usual = cell(*own), cell()
    assert one.identity["calib"]["source"]["reading"] == 3
    assert "reading" not in usual.identity["calib"]["source"]
    tasks, perplexity = one.metric_id("tasks"), one.metric_id("perplexity")
    monkeypatch.setitem(READING, "sweep.data.local.Local", 4)
    again = cell(*own)
    assert again.id != one.id
    assert again.metric_id("tasks") != tasks
    assert again.metric_id("perplexity") == perplexity
    assert cell().id == usual.id


def test_a_result_belongs_to_its_metrics_settings(cell) -> None:  # type: ignore[no-untyped-def]
    one, other = cell(), cell("metric.tasks.n_samples=7")
    assert one.metric_id("tasks") != other.metric_id("tasks")
    assert one.metric_id("perplexity") == other.metric_id("perplexity")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1: must not be negative"),
        ("batch_size=0", "batch_size=0: must be at least 1"),
        ("keep=all", "keep=all: must be 'none' or 'model'"),
        ("name=a/b", "name=a/b: must be letters"),
        ("name=..", r"name=\.\.: must be letters"),
    ],
)
def test_a_setting_out_of_range_is_refused(override: str, message: str, cell) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refusal, match=message):
        cell(override)


@given(st.floats(min_value=0, max_value=1), st.integers(0, 5))
def test_a_digest_ignores_what_lies_behind_the_tenth_digit(value: float, step: int) -> None:
    near = round(value, 10)
    assert digest({"x": near}) == digest({"x": near + step * 1e-14})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("method=magnitude", "sparsity.ratio=0"), ("method=magnitude", "sparsity.ratio=0.0")),
        (("sparsity.ratio=0.5",), ('sparsity.ratio="0.5"',)),
        (("method.damping=1",), ("method.damping=1.0",)),
        (("calib=self", "calib.temperature=1"), ("calib=self",)),
        (("calib.n_samples=4",), ("calib.n_samples=4.0",)),
    ],
    ids=lambda words: words[-1],
)
def test_a_number_is_the_same_however_it_is_typed(
    cell,  # type: ignore[no-untyped-def]
    one: tuple[str, ...],
    other: tuple[str, ...],
) -> None:
    assert cell(*one).id == cell(*other).id


def test_a_metric_is_the_same_however_its_numbers_and_the_order_of_its_sources_are_typed(
    cell,  # type: ignore[no-untyped-def]
) -> None:
    typed = (
        ("metric.tasks.n_samples=4", "metric.tasks.source=[alpaca,unnatural]"),
        ("metric.tasks.n_samples=4.0", "metric.tasks.source=[unnatural,alpaca]"),
    )
    one, other = (cell(*words).metric_id("tasks") for words in typed)
    assert one == other


def test_where_a_model_lies_is_no_part_of_what_it_is(cell, files: dict[str, Path]) -> None:  # type: ignore[no-untyped-def]
    local = ("model=local", f"model.path={files['model']}", "corpora=embedded", "seqlen=256")
    assert cell(*local, "model.device_map=auto").id == cell(*local, "model.device=cpu").id
    one, other = (cell(*local, f"model.attention={name}") for name in ("auto", "eager"))
    assert one.about["weights"] != other.about["weights"]


def test_what_the_user_says_of_a_model_is_in_the_identity_only_where_it_is_said(
    cell,  # type: ignore[no-untyped-def]
    files: dict[str, Path],
) -> None:
    """And not in that of the dense cell, which is the same for all."""
    model = ("model=local", f"model.path={files['model']}", "corpora=embedded", "seqlen=256")
    plain = cell(*model)
    assert not {"blocks", "dense"} & plain.identity.keys()
    said = {"blocks": "model.layers", "dense": "down_proj"}
    others = {cell(*model, f"model.{name}={value}").id for name, value in said.items()}
    assert len({plain.id, *others}) == 3
    dense = [cell(*model, "method=dense", *more).id for more in ((), ("model.dense=down_proj",))]
    assert dense[0] == dense[1]
