"""Sweeps on disk, written by hand: what cells, metrics and answers say, without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.files import Folder
from sweep.numerics.bootstrap import interval

Write = Callable[..., Path]

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title = \'taken\'">',
    "</style></script><h1>out</h1>",
    "{{ 7 * 7 }} {% raw %} $x_{ | a\tb\nc \\textbf{x} & % # ~ ^ é 漢 \u202eback",
)
"""What a model, a data set or a name may hold."""


def value(rows: Sequence[dict[str, Any]], field: str, better: str, **mean: Any) -> dict[str, Any]:
    weights = np.array([float(row.get(mean.get("weight") or "", 1.0)) for row in rows])
    numbers = np.array([float(row[field]) for row in rows])
    change = np.exp if mean.get("exp") else float
    found = float((weights * numbers).sum() / weights.sum())
    low, high = interval(weights * numbers, weights)
    how = {"corpus": mean["corpus"], "field": field, "weight": mean.get("weight")}
    return {
        "value": float(change(found)),
        "low": float(change(low)),
        "high": float(change(high)),
        "unit": "1",
        "n": len(rows),
        "of": "examples",
        "better": better,
        "mean": {**how, "exp": bool(mean.get("exp"))},
    }


@pytest.fixture
def write_cell(tmp_path: Path) -> Write:
    """Writes a cell below `outputs` of the test's folder."""
    return writes(tmp_path / "outputs")


def writes(below: Path) -> Write:
    """What writes a cell below a folder of outputs; it returns the cell's folder.

    `quality` in 0..1 is how good its losses and answers are; `answers` replaces the texts; `more`
    are further columns, with the numbers of `em`.
    """

    def write_cell(
        method: str = "wanda",
        sparsity: str = "50%",
        calib: str | None = "c4",
        seed: int | None = 0,
        *,
        quality: float = 0.8,
        model: str = "tiny",
        outputs: Path | None = None,
        examples: int = 30,
        answers: Sequence[str] = (),
        failed: str = "",
        layers: int = 2,
        weights: str = "",
        n_samples: int | None = None,
        more: Sequence[str] = (),
        **settings: Any,
    ) -> Path:
        outputs = below if outputs is None else outputs
        compresses = method != "dense"
        about = {
            "model": model,
            "weights": hashlib.sha256((model + weights).encode()).hexdigest()[:8],
            "method": method,
            "compresses": compresses,
            "sparsity": sparsity if compresses else None,
            "ratio": (0.5 if ":" in sparsity else float(sparsity[:-1]) / 100)
            if compresses
            else None,
            "calib": calib if compresses else None,
            "seed": seed if compresses and calib else None,
        }
        id = hashlib.sha256(repr((about, settings, n_samples)).encode()).hexdigest()
        name = f"{'-'.join(str(v) for v in about.values() if v is not None)}-{id[:8]}"
        name = "".join(c for c in name if c.isalnum() or c in "-.")
        folder = Folder(outputs, name)
        config = {"model": {"dtype": "float32"}, "method": settings}
        config["calib"] = {} if n_samples is None else {"n_samples": n_samples}
        identity = {"sparsity": {}, "calib": {}} if compresses else {}
        folder.write_cell(id, identity, {"perplexity": "p", "tasks": "t"}, config, about)
        if failed:
            folder.write_failure(f"{failed}\n\ntrace\n")
            return folder.path
        rng = np.random.default_rng(7)  # the same examples are hard for every cell
        hard = rng.uniform(size=examples)
        losses = [
            {"sequence": i, "tokens": 10 + i % 3, "loss": float(1 + h * (1.2 - quality))}
            for i, h in enumerate(hard)
        ]
        texts = [
            {
                "prompt": f"question {i}",
                "gold": f"gold {i}",
                "answer": answers[i % len(answers)] if answers else f"answer {i} {h < quality}",
                "dense_answer": f"answer {i} True",
                "em": float(h < quality),
                "dense_em": 1.0,
                "f1": float(h < quality) / 2 + 0.5,
                "dense_f1": 1.0,
            }
            for i, h in enumerate(hard)
        ]
        data = {"corpus": "c4", "source": "embedded", "rows": examples, "sha256": str(examples)}
        common = {
            "data": [data],
            "calibration_data": [],
            "environment": {"torch": "2", "threads": 2},
        }
        folder.write_metric(
            "perplexity",
            {
                "settings_id": "p",
                "values": {
                    "perplexity": value(
                        losses, "loss", "lower", corpus="c4", weight="tokens", exp=True
                    )
                },
                "columns": ["perplexity"],
                **common,
            },
            {"c4": losses},
        )
        em = value(texts, "em", "higher", corpus="alpaca")
        folder.write_metric(
            "tasks",
            {
                "settings_id": "t",
                "values": {
                    "em": em,
                    "f1": value(texts, "f1", "higher", corpus="alpaca"),
                    **dict.fromkeys(more, em),
                },
                "columns": ["em", "f1", *more],
                **common,
            },
            {"alpaca": texts},
        )
        share = about["ratio"] or 0.0
        folder.write_compression(
            {
                "sparsity": share,
                "layers": [
                    {
                        "name": f"model.layers.{i}.{kind}",
                        "shape": [4, 4],
                        "sparsity": share,
                        "output_error": None if calib is None else share * (i + 1) / 4,
                    }
                    for i in range(layers if compresses else 0)
                    for kind in ("self_attn.q_proj", "mlp.up_proj")
                ],
            }
        )
        return folder.path

    return write_cell
