"""What the calibration set does, everything else being the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sweep.report import drawn, effect, figures, table
from sweep.report.paired import Paired

Write = Callable[..., Path]


def test_a_calibration_effect_is_taken_within_method_sparsity_and_seed(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for method in ("wanda", "sparsegpt"):
        for seed in (0, 1):
            write_cell(method, calib="c4", seed=seed, quality=0.5 + seed / 10)
            write_cell(method, calib="alpaca", seed=seed, quality=0.8 + seed / 10)
    write_cell("magnitude", "50%", None)
    found = effect.effects(rows(), Paired())
    em = [one for one in found if one.metric == "em"]
    assert {(one.method, one.one, one.other, len(one.by_seed)) for one in em} == {
        ("sparsegpt", "alpaca", "c4", 2),
        ("wanda", "alpaca", "c4", 2),
    }
    for one in em:
        assert one.low is not None
        assert one.high is not None
        assert 0 < one.low < one.difference < one.high


def test_sizes_of_a_calibration_set_are_a_curve_and_no_effects_of_each_pair(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for n_samples in (1, 4, 16):
        for calib in ("c4", "alpaca"):
            write_cell(calib=calib, n_samples=n_samples, quality=0.5 + n_samples / 50)
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert [(one.one, one.other) for one in found] == [
        (f"alpaca n_samples={n}", f"c4 n_samples={n}") for n in (1, 4, 16)
    ]


def test_an_effect_of_calibration_sets_has_one_reason(
    write_cell: Write, tmp_path: Path, rows: Callable[[], table.Rows]
) -> None:
    for calib in ("c4", "alpaca"):
        for n_samples in (16, 128):  # two sizes are no curve
            for packing in ("concat", "pad"):
                path = write_cell(calib=calib, n_samples=n_samples, also=packing)
                file = path / "cell.yaml"  # `also` only gave it another id
                setting = f"    n_samples: {n_samples}\n"
                text = file.read_text().replace(f"    also: {packing}\n", "    also: x\n")
                file.write_text(text.replace(setting, f"{setting}    packing: {packing}\n"))
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert len(found) == 4 + 2 * 4  # each set's namesake; of one name, one setting at a time
    for one in found:
        words = zip(one.one.split(), one.other.split(), strict=True)
        assert sum(a != b for a, b in words) == 1, one.name


def test_a_set_without_the_setting_is_compared_with_every_value_of_it(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(calib="alpaca")
    for n_samples in (1, 4, 16):
        write_cell(calib="c4", n_samples=n_samples)
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert {(one.one, one.other) for one in found} == {
        ("alpaca", f"c4 n_samples={n}") for n in (1, 4, 16)
    }


def test_effects_are_drawn_in_the_order_of_the_table_with_a_minus(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for label, quality in (("40%", 0.9), ("50%", 0.5), ("60%", 0.8)):
        write_cell(sparsity=label, calib="alpaca", quality=quality)
        write_cell(sparsity=label, calib="c4", quality=0.95)
    found = rows()
    effects = effect.effects(found, Paired())
    figure = drawn.saved(*figures.forest(found, effects))
    said = next(part for part in figure.alternative.split(". ") if part.startswith("em:"))
    assert re.findall(r"wanda (\d+%)", said) == ["40%", "50%", "60%"]
    signs = [number[0] for number in re.findall(r"[-−+][\d.]+", said)]
    assert signs == ["−"] * 3
    svg = figure.svg.decode()
    assert svg.index("wanda 60%") < svg.index("wanda 50%") < svg.index("wanda 40%")  # from below
