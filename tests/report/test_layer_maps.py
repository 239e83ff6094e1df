"""Layers' errors by depth and kind, and which cells are drawn of many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweep.report import layer_maps, layers, table

Write = Callable[..., Path]


def test_layers_are_named_by_depth_and_kind(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(layers=3)
    found = list(layers.layers(rows().entries))
    assert len(found) == 6
    assert (found[-1]["depth"], found[-1]["kind"]) == (2, "mlp.up_proj")
    assert layers._place("transformer.h.11.attn.c_proj") == (11, "attn.c_proj")
    assert layers._place("lm_head") == (0, "lm_head")


def _cells(*kinds: tuple[str, str, str], copies: int = 1) -> list[layer_maps.Candidate]:
    ratios = {"2:4": 0.5}
    return [
        layer_maps.Candidate(
            f"{method}-{calib}-{place}-{copy}",
            (method, calib),
            place,
            ratios.get(place) or float(place[:2]) / 100,
        )
        for method, calib, place in kinds
        for copy in range(copies)
    ]


def test_of_many_cells_each_method_and_calibration_set_is_drawn_at_the_same_sparsities() -> None:
    places = [*(f"{10 * i}%" for i in range(1, 9)), "2:4"]
    four = [(m, c) for m in ("wanda", "sparsegpt") for c in ("c4", "alpaca")]
    cells = _cells(*[(*pair, place) for pair in four for place in places])
    chosen = layer_maps.choice(cells)
    assert [one.place for one in chosen] == ["10%"] * 4 + ["50%"] * 4 + ["80%"] * 4
    assert [one.variant for one in chosen] == four * 3
    assert layer_maps.told(chosen, cells) == (
        "; 12 of 36 cells: wanda c4, wanda alpaca, sparsegpt c4, sparsegpt alpaca at 10%, 50%, 80%;"
        " the other 24 are in layers.csv"
    )


def test_a_sparsity_that_only_one_method_has_comes_after_those_that_all_have() -> None:
    common = [(m, "c4", place) for m in ("wanda", "sparsegpt") for place in ("50%", "60%")]
    alone = [("wanda", "c4", f"{i}%") for i in range(10, 40)]
    chosen = layer_maps.choice(_cells(*alone, *common))
    assert {(one.variant[0], one.place) for one in chosen} >= {(m, p) for m, _, p in common}
    assert len(chosen) == layer_maps.MAPS


def test_a_calibration_set_whose_settings_no_other_has_is_drawn_too_at_the_same_sparsity() -> None:
    """As mixtures with their weights."""
    plain = [
        (m, c, p) for m in ("wanda", "sparsegpt") for c in ("c4", "self") for p in ("50%", "60%")
    ]
    mixed = [
        (m, "mix", f"{p} weight={w}")
        for m in ("wanda", "sparsegpt")
        for p in ("50%", "60%")
        for w in (1, 3)
    ]
    cells = _cells(*plain, *mixed)
    chosen = layer_maps.choice(cells)
    assert {one.variant for one in chosen} == {one.variant for one in cells}
    assert {one.place for one in chosen if one.variant[1] == "mix"} == {
        "50% weight=1",
        "60% weight=1",
    }
    assert len([one for one in chosen if one.variant[1] != "mix"]) == 8


def test_of_more_methods_than_there_is_room_for_each_comes_before_a_second_calibration_set() -> (
    None
):
    kinds = [(f"m{i}", calib, "50%") for i in range(10) for calib in ("c4", "alpaca")]
    cells = _cells(*kinds, copies=2)
    chosen = layer_maps.choice(cells)
    assert {one.variant[0] for one in chosen} == {f"m{i}" for i in range(10)}
    assert [one.variant for one in chosen if one.variant[1] == "alpaca"] == [
        ("m0", "alpaca"),
        ("m1", "alpaca"),
    ]
    assert ", one seed of each; the other 28 are" in layer_maps.told(chosen, cells)


def test_few_cells_are_all_drawn_and_nothing_is_said_of_others() -> None:
    cells = _cells(("wanda", "c4", "50%"), copies=3)
    assert layer_maps.choice(cells) == cells
    assert layer_maps.told(cells, cells) == ""


def test_settings_are_places_and_said(write_cell: Write, rows: Callable[[], table.Rows]) -> None:
    for method in ("wanda", "sparsegpt"):
        for n_samples in (1, 2, 4, 8, 16, 32, 64):
            write_cell(method, n_samples=n_samples)
    found = rows()
    (sketch,) = layer_maps.maps(found, list(layers.layers(found.entries)))
    assert "12 of 14 cells: sparsegpt c4, wanda c4 at 50% n_samples=1, 50% n_sam" in sketch.title
    titles = [axes.get_title() for axes in sketch.figure.axes if axes.get_title()]
    assert len(titles) == len(set(titles)) == layer_maps.MAPS
    assert titles[0].startswith("sparsegpt c4 50% n_samples=1\ntiny-")
    assert all(f"{title.splitlines()[0]} (tiny-" in sketch.alternative for title in titles)
