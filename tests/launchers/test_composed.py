"""Points composed the fast way are what Hydra makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.initialize import initialize_config_dir
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from sweep.config import CONF, freeze
from sweep.refusal import Refusal
from sweep_jobs.composed import Composer

COMMAND = ("outputs=/tmp/x", "tracker=none", "metric=[perplexity,tasks]", "calib.n_samples=7")
POINTS = (
    ("method=wanda", "sparsity.ratio=0.3", "seed=1"),
    ("method=sparsegpt", "method.damping=0.02", "calib=alpaca"),
    ("method=sparsegpt", "calib=c4"),
    ("sparsity=2to4", "metric.tasks.stop=[a,b]", "metric.perplexity.source=[c4,alpaca]"),
    ("sparsity=2to4", "metric.tasks.stop=[]"),
    ("seqlen=128", "calib.seqlen=64"),
    ("seqlen=64",),
    ("name=mine", "metric.perplexity.seqlen=${seqlen}"),
    ("calib=mix", "calib.parts={c4:{weight:3}}"),
    ("calib=mix", "+calib.parts.unnatural.weight=2"),
    ("calib=mix", "~calib.parts.alpaca", "calib.parts.c4.weight=1"),
    ("metric.tasks.n_samples=null", "keep=model"),
    ("metric=[divergence]",),
)


@pytest.fixture
def hydra() -> Iterator[tuple[HydraContext, DictConfig]]:
    """Hydra as a launcher finds it, with the configuration of a command."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", list(COMMAND), run_mode=RunMode.MULTIRUN)
        yield HydraContext(config_loader=loader, callbacks=None), config


def frozen(
    context: HydraContext, config: DictConfig, points: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    composer = Composer(context, config)
    return [composer.frozen(point) for point in points]


def slowly(context: HydraContext, config: DictConfig, point: Sequence[str]) -> dict[str, Any]:
    composed = context.config_loader.load_sweep_config(config, list(point))
    return freeze(composed, composed.hydra.runtime.choices, point)


def test_every_point_is_what_hydra_composes(hydra: tuple[HydraContext, DictConfig]) -> None:
    points = [point for point in (*POINTS, *reversed(POINTS)) if "~calib.parts.alpaca" not in point]
    assert frozen(*hydra, points) == [slowly(*hydra, point) for point in points]


def test_what_a_point_sets_is_unset_for_the_next(hydra: tuple[HydraContext, DictConfig]) -> None:
    alone = frozen(*hydra, [("seqlen=64",)])
    after = frozen(*hydra, [("seqlen=128", "calib.seqlen=32", "seed=9"), ("seqlen=64",)])
    assert after[1:] == alone


@pytest.mark.parametrize("point", [("sparsity.ratoi=1",), ("method=foo",), ("foo=1",)])
def test_what_is_not_there_is_an_error(
    point: tuple[str, ...], hydra: tuple[HydraContext, DictConfig]
) -> None:
    with pytest.raises((HydraException, Refusal)):
        frozen(*hydra, [("seed=1",), point])


def test_an_option_of_the_users_own_is_composed_too(
    hydra: tuple[HydraContext, DictConfig], tmp_path: Path
) -> None:
    context, _ = hydra
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: mine.Mine\nscope: mlp\n")
    words = [*COMMAND, f"hydra.searchpath=[file://{tmp_path}]"]
    config = context.config_loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
    (found,) = frozen(context, config, [("method=mine", "method.scope=all")])
    assert found["method"] == {"_target_": "mine.Mine", "scope": "all"}
