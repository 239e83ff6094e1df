"""What is done to the words of the command line before Hydra sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.refusal import Refusal
from sweep.words import arranged


def test_the_flag_of_a_grid_goes_last_and_may_stand_anywhere() -> None:
    assert arranged(["-m", "seed=1", "calib=c4"]) == ["seed=1", "calib=c4", "-m"]
    assert arranged(["seed=1", "--multirun", "x=2"]) == ["seed=1", "x=2", "--multirun"]


def test_a_study_may_have_a_plus() -> None:
    assert arranged(["+study=demo", "+calib.parts.x.weight=1"]) == [
        "study=demo",
        "+calib.parts.x.weight=1",
    ]


def test_the_home_folder_may_be_a_tilde() -> None:
    home = str(Path.home())
    assert arranged(["outputs=~", "model.path=~/m"]) == [f"outputs={home}", f"model.path={home}/m"]
    assert arranged(["x=a~", "x=~other/y"]) == ["x=a~", "x=~other/y"]


def test_a_value_beside_a_grid_of_options_is_a_grid_too() -> None:
    beside = ["calib=local,tokens", "calib.path=x.txt", "calib.key=range(3)", "model.dtype=float16"]
    changed = ["calib=local,tokens", "calib.path=choice(x.txt)", *beside[2:]]
    assert arranged([*beside, "-m"]) == [*changed, "-m"]
    assert arranged(beside) == beside
    metrics = ["metric=[perplexity,tasks]", "metric.tasks.n_samples=3", "-m"]
    assert arranged(metrics) == metrics


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("=3", "^=3: has no name"),
        ("hydra.sweeper.params=3", "^hydra.sweeper.params=3: is a study's"),
    ],
)
def test_a_slip_is_no_defect(word: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        arranged([word, "-m"])


@pytest.mark.parametrize(
    "word", ["calib=null", "method=", "metric=[]", "outputs=null", "outputs=", "outputs=[a]"]
)
def test_what_hydra_would_stumble_over_is_refused_by_name(word: str) -> None:
    name = word.split("=")[0]
    with pytest.raises(Refusal, match=f"^{name}=.*: must be "):
        arranged([word])
