"""`model=hub` against a hub on the loopback address, with the libraries that ask the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from sweep.cell import Cell, make
from sweep.model.contents import fingerprint
from sweep.model.embedded import WEIGHTS
from sweep.model.hub import Hub, _snapshot
from sweep.refusal import Refusal
from tests.loopback_hub import LoopbackHub

WORDS = (
    "method=magnitude",
    "corpora=embedded",
    "seqlen=256",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=2",
    "tracker=none",
    "report=table",
)


@dataclass
class User:
    """Who runs commands with a cache of their own."""

    hub: LoopbackHub
    folder: Path

    def run(
        self, *words: str, module: str = "sweep", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        own = {"HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.folder / "hf")}
        return subprocess.run(
            [sys.executable, "-m", module, *WORDS, f"outputs={self.folder / 'outputs'}", *words],
            env={**os.environ, **own, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with LoopbackHub({"made/tiny": WEIGHTS}).listening() as hub:
        yield User(hub, tmp_path)


def test_what_was_fetched_is_compressed_without_the_hub(user: User) -> None:
    fetched = user.run("model=hub", "model.repo=made/tiny", module="sweep.fetch")
    assert fetched.returncode == 0, fetched.stderr
    commit = user.hub.commit("made/tiny")
    assert f"snapshots/{commit}\n" in fetched.stdout
    assert any("model.safetensors" in request for request in user.hub.asked)
    user.hub.asked.clear()
    done = user.run("model=hub", "model.repo=made/tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert not user.hub.asked
    (cell,) = (user.folder / "outputs" / "cells").glob("tiny-magnitude-50-*")
    assert f"revision: {commit}\n" in (cell / "cell.yaml").read_text()
    result = json.loads((cell / "metrics" / "perplexity.json").read_text())
    assert result["model_source"] == "hub"
    assert result["model_revision"] == commit
    again = user.run("model=hub", "model.repo=made/tiny", f"model.revision={commit}")
    assert ", 0 to run" in again.stderr  # the same model by another name


def test_a_model_by_name_is_fetched_once_and_pickles_where_its_option_says_so(
    user: User, tmp_path: Path
) -> None:
    folder = tmp_path / "opt"
    folder.mkdir()
    for file in WEIGHTS.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(WEIGHTS / "model.safetensors"), folder / "pytorch_model.bin")
    for name in ("tf_model.h5", "consolidated.safetensors"):
        (folder / name).write_bytes(b"the same weights once more")
    user.hub.repos["facebook/opt-125m"] = folder
    done = user.run("model=opt_125m")
    assert done.returncode == 0, done.stderr
    fetched = {request.rpartition("/")[2] for request in user.hub.asked if "/resolve/" in request}
    assert "pytorch_model.bin" in fetched
    assert not fetched & {"tf_model.h5", "consolidated.safetensors"}
    (cell,) = (user.folder / "outputs" / "cells").glob("opt-125m-magnitude-50-*")
    config = (cell / "cell.yaml").read_text()
    assert f"revision: {user.hub.commit('facebook/opt-125m')}\n" in config
    assert "pickles: true\n" in config


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=hub",), "model.repo"),
        (
            ("model=hub", "model.repo=made/none"),
            "none: the hub has no such repository, or only for",
        ),
        (("model=llama2_7b",), "model.repo=meta-llama/Llama-2-7b-hf: the hub has no such repo"),
        (
            ("model=hub", "model.repo=made/tiny", "model.revision=v9"),
            "model.revision=v9: made/tiny h",
        ),
        (
            ("model=hub", "model.repo=made/gated"),
            "made/gated: is gated; ask for access on its page",
        ),
        (("model=hub", "model.repo=made/empty"), "model.repo=made/empty: holds no weights"),
    ],
)
def test_what_is_not_to_be_had_is_one_line(
    user: User, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    user.hub.repos["made/gated"] = WEIGHTS
    user.hub.gated.add("made/gated")
    user.hub.repos["made/empty"] = tmp_path / "empty"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((WEIGHTS / "config.json").read_text())
    done = user.run(*words)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("sweep: model")
    assert done.stderr.count("\n") == 1


def test_without_a_hub_the_command_that_fetches_is_named(user: User) -> None:
    done = user.run("model=hub", "model.repo=made/tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr == (
        f"sweep: model.repo=made/tiny: is not in {user.folder / 'hf'}, and HF_HUB_OFFLINE is set; "
        f"{FETCH}\n"
    )


def test_a_hub_that_does_not_answer_is_told_as_such(user: User) -> None:
    """Not that the libraries were told to do without it, which is this project's own doing."""
    away = "http://127.0.0.1:9"
    done = user.run("model=hub", "model.repo=made/tiny", HF_ENDPOINT=away)
    assert done.stderr == (
        f"sweep: model.repo=made/tiny: is not in {user.folder / 'hf'}, and {away} does not answer; "
        f"{FETCH}\n"
    )


FETCH = "python -m sweep.fetch with these words fetches it where there is a network"
COMMIT = "4" * 40


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        ((), "config.json"),
        (("config.json",), "weights"),
        (
            ("config.json", "tokenizer.json", "model.safetensors.index.json", "one.safetensors"),
            "1 of 2 files of weights",
        ),
        (("config.json", "model.safetensors"), "a tokenizer"),
    ],
)
def test_a_cache_that_is_half_full_says_what_it_lacks_and_what_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], lacks: str
) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--made--half"
    folder = repo / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    parts = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    for name in there:
        (folder / name).write_text(json.dumps(parts))
    _snapshot.cache_clear()
    with pytest.raises(Refusal) as caught:
        Hub("made/half").folder()
    assert str(caught.value) == (
        f"repo=made/half: its copy in {tmp_path} lacks {lacks}, and HF_HUB_OFFLINE is set; {FETCH}"
    )


def test_the_commit_is_part_of_a_cells_identity_and_other_tools_files_are_not(
    frozen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--made--tiny" / "snapshots"

    def made(commit: str) -> Cell:
        _snapshot.cache_clear()
        words = ("model=hub", "model.repo=made/tiny", f"model.revision={commit}")
        config = frozen(*words, "corpora=embedded", "seqlen=256", "method=magnitude")
        return make(config, fingerprint)

    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(WEIGHTS, repo / commit)
    one, other = made("a" * 40), made("b" * 40)
    assert one.identity["revision"] == "a" * 40
    assert one.id != other.id
    for name in ("preprocessor_config.json", "pytorch_model.bin", "modeling_own.py"):
        (repo / ("a" * 40) / name).write_text("of another tool")
    assert made("a" * 40).id == one.id
