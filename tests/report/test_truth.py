"""Which metric ranks the cells as their answers do, and when that can be said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.report import figures, table, truth

Write = Callable[..., Path]


def test_a_metric_that_orders_the_cells_as_the_task_does_tells_the_truth(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for i in range(8):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9)
    found = truth.links(rows().entries)
    link = next(link for link in found if (link.metric, link.task) == ("perplexity", "em"))
    assert (link.cells, link.configurations) == (8, 8)  # dense is not among them
    assert link.spearman is not None
    assert link.spearman.value == pytest.approx(1.0, abs=0.02)  # lower perplexity, more answers
    said = truth.sentences(found)
    assert any("perplexity ranks 8 compressed cells most like em does" in line for line in said)
    assert any("8 configurations are few" in line for line in said)
    assert any("no random sample" in line for line in said)


def test_few_cells_allow_one_to_say_nothing_and_it_says_so(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for calib in ("c4", "alpaca"):
        write_cell(calib=calib, quality=0.5 if calib == "c4" else 0.8)
    said = truth.sentences(truth.links(rows().entries))
    assert any("2 compressed cells are too few" in line for line in said)
    assert "Nothing can be said" in truth.sentences([])[0]


def test_seeds_of_one_configuration_are_one_witness(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(5):
        for seed in (0, 1, 2):
            write_cell("wanda", f"{10 * (i + 1)}%", seed=seed, quality=1 - i / 9 - seed / 50)
    found = truth.links(rows().entries)
    assert {(link.cells, link.configurations) for link in found} == {(15, 5)}
    said = " ".join(truth.sentences(found))
    assert "15 compressed cells (5 configurations) are too few" in said
    assert "worse" not in said
    write_cell("wanda", "80%", quality=0.3)
    said = " ".join(truth.sentences(truth.links(rows().entries)))
    assert "ranks 16 compressed cells (6 configurations) most like em does" in said


def test_what_is_the_same_in_all_cells_ranks_nothing(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(6):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=0.5)
    assert any("same in all cells" in line for line in truth.sentences(truth.links(rows().entries)))


def test_kendall_stands_beside_spearman_in_the_figure_and_in_the_sentences(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i, quality in enumerate((0.9, 0.8, 0.85, 0.6, 0.5, 0.3, 0.35)):
        write_cell(sparsity=f"{10 * (i + 1)}%", quality=quality)
    links = truth.links(rows().entries)
    link = next(link for link in links if (link.metric, link.task) == ("perplexity", "em"))
    assert link.spearman is not None
    assert link.kendall is not None
    (sketch,) = figures.truth(links)
    texts = [text.get_text() for text in sketch.figure.axes[0].texts]
    (first, *_) = texts
    rho, tau = (f"{one.value:.2f}" for one in (link.spearman, link.kendall))
    assert first.replace("−", "-").startswith(f"ρ {rho}")
    assert f"τ {tau}" in first.replace("−", "-")
    assert "Spearman" in sketch.title
    assert "Kendall" in sketch.title
    assert re.search(rf"perplexity with em ρ {rho}, τ {tau}\b", sketch.alternative)
    said = next(one for one in truth.sentences(links) if "like em does" in one)
    assert re.search(rf"\(Spearman {rho} .*?, Kendall {tau} ", said)


def test_metrics_that_no_cells_have_in_common_are_each_taken_over_their_own(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(6):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9)
        path = write_cell("sparsegpt", f"{10 * (i + 1)}%", quality=1 - i / 9)
        file = path / "metrics" / "perplexity.json"
        file.write_text(file.read_text().replace('"perplexity"', '"kl"'))
    found = {link.metric: link for link in truth.links(rows().entries) if link.task == "em"}
    assert {name: link.cells for name, link in found.items()} == {"perplexity": 6, "kl": 6}
    assert not set(found["kl"].over) & set(found["perplexity"].over)


def test_no_metric_is_said_to_rank_cells_that_it_does_not(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i, quality in enumerate((0.5, 0.9, 0.3, 0.8, 0.4, 0.7)):
        path = write_cell("wanda", f"{10 * (i + 1)}%", quality=quality)
        file = path / "metrics" / "perplexity.json"
        value = f'"value": {(3, 1, 2, 6, 5, 4)[i]}.0, "low"'
        text = re.sub(r'"value": [\d.]+,\s+"low"', value, file.read_text(), count=1)
        file.write_text(text)
    said = truth.sentences(truth.links(rows().entries))
    assert any(
        "no metric can be said to rank 6 compressed cells as em does" in line for line in said
    )
