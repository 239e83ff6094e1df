"""The command as a user types it: good input, and one clear line for bad input."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sweep import __main__ as command
from sweep.config import CONF
from sweep.explain import in_one_line
from sweep.workshop import Workshop
from tests.commands import forked

Said = Callable[..., str]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """What the command says on stderr when it refuses; no model may be loaded for that."""

    def said(*words: str) -> str:
        monkeypatch.setattr(Workshop, "bench", lambda *_: pytest.fail("a model was loaded"))
        given = [f"outputs={tmp_path / 'outputs'}", "tracker=none", "report=table", *words]
        monkeypatch.setattr(sys, "argv", ["sweep", *given])
        with pytest.raises(SystemExit) as exit:
            command.main()
        assert exit.value.code not in (0, None)
        assert not (tmp_path / "outputs" / "cells").exists()
        return exit.value.code if isinstance(exit.value.code, str) else capsys.readouterr().err

    return said


WRONG: list[tuple[Sequence[str], str]] = [
    (["method=foo"], "method=foo: no such option; there are: dense, magnitude, sparsegpt, wanda"),
    (["method=wanda,foo", "-m"], "method=foo: no such option; there are: dense, magnitude,"),
    (
        ["metric=[perplexity,foo]"],
        "metric=foo: no such option; there are: divergence, judge, lm_eval,",
    ),
    (["model=llama"], "model=llama: no such option; did you mean llama"),
    (
        ["calib=wikitext"],
        "calib=wikitext: no such option; did you mean wikitext2? there are: wikitext2, ",
    ),
    (
        ["metric.perplexity.source=wikitext"],
        "metric.perplexity.source=wikitext: no such corpus; did you mean wikitext2? there are: w",
    ),
    (["calibration=c4"], "calibration=c4: no such"),
    (
        ["--multirn"],
        "--multirn: no such option; did you mean --multirun? settings are typed without",
    ),
    (["--method=wanda"], "--method=wanda: no such option; settings are typed without dashes: meth"),
    (["sparsity.ratio=0.9999999999999"], "sparsity.ratio=0.9999999999999: the share of zeros must"),
    (["metric.tasks.n_samples=null"], "metric.tasks.n_samples=null: alpaca is embedded and has no"),
    (["foo=1"], "foo=1: no such key; the top level has: outputs,"),
    (
        ["metric=[judge]", "metric.judge.api_key=sk-1"],
        "metric.judge.api_key=***: keys are read from the environment only: OPENAI_API_KEY",
    ),
    (
        ["metric=[judge]", "metric.judge.key=0123"],
        "metric.judge.key=***: keys are read from the environment only: OPENAI_API_KEY",
    ),
    (
        ["+tracker.api_key=s k(1"],
        "tracker.api_key=***: keys are read from the environment only: WANDB_API_KEY",
    ),
    (["--hf_token=sk-1"], "--hf_token=***: no such option"),
    (["metric=[judge]", "+metric.judge.criteria={api_key:sk-1}"], "criteria={api_key:***}"),
    (
        ["sparsity.ratoi=0.5"],
        "sparsity.ratoi=0.5: no such key; did you mean ratio? sparsity has: r",
    ),
    (["method.scop=all", "-m"], "method.scop=all: no such key; did you mean scope? method has: sc"),
    (["model.path=DIR"], "model.path=DIR: no such key; model=local has it; model has: dtype,"),
    (["calib.path=x"], "calib.path=x: no such key; calib=local, calib=tokens have it; calib has"),
    (["sparsity.n=2"], "sparsity.n=2: no such key; sparsity=2to4, sparsity=4to8, sparsity=n_of"),
    (
        ["metric=[perplexity]", "metric.tasks.n_samples=3"],
        "metric.tasks.n_samples=3: no such key; m",
    ),
    (
        ["calib=c4,local", "calib.path=x", "-m"],
        "calib.path=x: calib=c4 has no such key; calib=local",
    ),
    (["calib=tokens,local", "calib.path=/x", "-m"], "calib.path=/x: no such file"),
    (["=3"], "=3: has no name before its value"),
    (["hydra.sweeper.params=3", "-m"], "hydra.sweeper.params=3: is a study's"),
    (
        ["metric.tasks.n_samples=4,5", "-m"],
        "metric.tasks.n_samples=5: the same cell of the grid is",
    ),
    (
        ["metric.perplexity.source=c4,alpaca", "-m"],
        "source=alpaca: the same cell of the grid is ask",
    ),
    (["+method.extra=1"], "method.extra=1: SparseGPT has no such key; there are: scope,"),
    (["sparsity.ratio=1"], "sparsity.ratio=1.0: the share of zeros must be in [0, 1)"),
    (["sparsity.ratio=-0.1"], "sparsity.ratio=-0.1: the share of zeros must be in [0, 1)"),
    (["sparsity.ratio=half"], "sparsity.ratio=half: must be a valid number"),
    (["sparsity=2to4", "sparsity.ratio=0.6"], "sparsity.ratio=0.6: the pattern 2:4 has a ratio"),
    (["sparsity=n_of_m"], "sparsity.n=???: must be set"),
    (["sparsity=n_of_m", "sparsity.n=5", "sparsity.m=4"], "sparsity.n=5:"),
    (["sparsity=n_of_m", "sparsity.n=2", "sparsity.m=7"], "sparsity.m=7: does not divide the 192"),
    (["sparsity=n_of_m", "sparsity.n=2", "sparsity.m=5"], "model.layers.0.self_attn.q_proj"),
    (["sparsity=n_of_m", "sparsity.n=1", "sparsity.m=3"], "choose m among the divisors of 64, or"),
    (["method.scope=heads"], "method.scope=heads: matches no linear"),
    (["method.scope=[q_proj"], "method.scope=[q_proj"),
    (["model=local"], "model.path=???: must be set"),
    (["model=local", "model.path=/nowhere"], "model.path=/nowhere: no such folder"),
    (["calib=local"], "calib.path=???: must be set"),
    (["calib=local", "calib.path=/no.jsonl"], "calib.path=/no.jsonl: no such file"),
    (["calib.n_samples=0"], "calib.n_samples=0: must be greater than or equal to 1"),
    (["calib.packing=join"], "calib.packing=join: must be 'sample', 'concat' or 'pad'"),
    (["calib.seqlen=513"], "calib.seqlen=513: more than the model's 512 positions"),
    (["seqlen=1024"], "seqlen=1024: more than the model's 512 positions"),
    (["calib.packing=sample"], "calib.n_samples=128: only "),
    (
        ["calib=mix", "+calib.parts.self.weight=1"],
        "calib.parts.self.source=self: is a calibration s",
    ),
    (["metric.perplexity.source=pile"], "metric.perplexity.source=pile: no such corpus; there are"),
    (["metric.perplexity.source=local"], "metric.perplexity.path=null: must be set for"),
    (["metric.tasks.source=c4"], "metric.tasks.source=c4: must hold instructions"),
    (["metric.perplexity.path=/x"], "metric.perplexity.path=/x: the corpus c4 takes no path"),
    (["seed=-1"], "seed=-1: must not be negative"),
    (["study=demo"], "study=demo: is a grid: add -m"),
    (["study=demo,metric_validity", "-m"], "study=demo,metric_validity: one at a time"),
    (["calib=null"], "calib=null: must be one of its options"),
    (["outputs=null"], "outputs=null: must be a folder"),
    (["metric=[]"], "metric=[]: must be one of its options"),
    (["metric=[lm_eval]"], "metric.lm_eval.tasks=???: must be set: add metric.lm_eval.tasks"),
    (["metric.perplexity="], "metric.perplexity=: holds the metric's settings"),
    (["method.scope=(q_proj)"], "quote it: \"method.scope='(q_proj)'\""),
    (["name=.."], "name=..: must be letters"),
    (["keep=all"], "keep=all: must be 'none' or 'model'"),
    (
        ["tracker=wandb", "tracker.mode=live"],
        "tracker.mode=live: must be 'online', 'offline', 'disabled' or 'auto'",
    ),
    (["outputs=/tmp/x\udcff"], r"outputs=/tmp/x\udcff: holds a byte that is no letter in UTF-8; c"),
    (
        ["model=local", "model.path='/x\udcff'"],
        r"model.path='/x\udcff': holds a byte that is no let",
    ),
    (
        ["calib=local", "calib.path=/x\udcff"],
        r"calib.path=/x\udcff: holds a byte that is no letter",
    ),
    (["outputs=/proc/nowhere"], "outputs=/proc/nowhere: cannot be written to"),
    (["sparsity.ratio=[0.5"], "sparsity.ratio=[0.5: cannot be read as name=value"),
    (["sparsity.ratio=0.5,0.6"], "sparsity.ratio=0.5,0.6: is a grid: add -m"),
    (["method=wanda,sparsegpt"], "method=wanda,sparsegpt: is a grid: add -m"),
    (["calib=[c4,alpaca]"], "calib=[c4,alpaca]: takes one option; a grid is calib=c4,alpaca -m"),
    (["+seeed=3"], "seeed=3: no such key; the top level has: model, method,"),
    (["tracker=none", "tracker.modee=x"], "tracker.modee=x: no such key; tracker has: nothing"),
    (["hydra/launcher=foo"], "hydra/launcher=foo: no such option; there are: fetch, here,"),
    (["hydra/launcher=local"], "hydra/launcher=local: is for grids: add -m"),
    (["hydra/launcher=basic", "-m"], "hydra/launcher=basic: runs a grid without planning it"),
    (["calib.n_samples=10000000"], "calib.n_samples=10000000: windows of 256 tokens are"),
    (["calib.field=text"], "calib.field"),
    (["model.pickles=true"], "model.pickles=true: no such key; model=gemma3_4b, model=gpt2, mo"),
    (["method=magnitude", "calib=local", "calib.path=/no"], "calib.path=/no: no such file"),
    (["method=magnitude", "calib.seqlen=4096"], "calib.seqlen=4096: more than the model's 512"),
    (["method=dense", "method.scope=nonsense"], "method.scope=nonsense: matches no linear"),
    (["model.device=cuda"], "model.device=cuda: this machine has no CUDA device"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_is_answered_in_one_line(words: Sequence[str], message: str, said: Said) -> None:
    if "model.device=cuda" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
    line = said(*words)
    assert message in line
    assert "\n" not in line.strip()
    assert line.startswith("sweep: ")


@pytest.mark.parametrize("sentence", ["The fox number {} ran to the river and home.", "Fox {}?"])
def test_calibration_rows_that_are_also_evaluation_rows_are_refused(
    said: Said, tmp_path: Path, sentence: str
) -> None:
    """Short ones too: in one file nothing is the same by chance."""
    path = tmp_path / "rows.txt"
    path.write_text("\n\n".join(sentence.format(i) for i in range(400)))
    line = said(
        "calib=local",
        f"calib.path={path}",
        "calib.n_samples=2",
        "calib.seqlen=64",
        "metric=[perplexity]",
        "metric.perplexity.source=local",
        f"metric.perplexity.path={path}",
        "metric.perplexity.seqlen=64",
    )
    assert "metric.perplexity.source=local: " in line
    assert "rows are calibration rows too" in line


def test_tokens_of_another_vocabulary_are_refused(said: Said, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "tokens.safetensors"
    save_file({"ids": torch.full((4, 16), 40_000)}, path)
    line = said("calib=tokens", f"calib.path={path}")
    assert f"calib.path={path}: holds the token 40000, and the model knows" in line


def test_a_malformed_row_is_named_by_its_line(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\n{"text": \n')
    for method in ("sparsegpt", "magnitude", "dense"):  # whether or not the method reads it
        line = said(f"method={method}", "calib=local", f"calib.path={path}")
        assert f"calib.path={path}: line 2: no JSON" in line


@pytest.mark.parametrize(
    "words",
    [["calib=local", "calib.path=rows.jsonl"], ["calib.packing=sample", "calib.n_samples=2"]],
    ids=["a file", "a corpus"],
)
def test_a_refusal_of_data_is_one_line_too(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": \n')
    done = run(*words, "metric=[perplexity]", "tracker=none", cwd=tmp_path)
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert last.startswith("sweep: calib.")
    assert all(line.startswith("reading ") for line in before), done.stderr  # on a slow machine


def test_a_row_that_lacks_what_the_first_one_has_is_named(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "c"}\n')
    line = said("calib=local", f"calib.path={path}")
    assert f"calib.path={path}: line 2 lacks output" in line
    line = said("calib=local", f"calib.path={path}", "calib.field=body")
    assert "calib.field=body: line 1 of " in line
    assert "has the fields instruction, output; name one that every row has" in line


def test_outputs_are_named_as_they_were_typed(said: Said, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("")
    for typed in (tmp_path / "afile", tmp_path / "afile" / "below"):
        assert f"outputs={typed}: cannot be written to" in said(f"outputs={typed}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_cannot_be_printed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-E", "-m", "sweep.status", str(tmp_path)]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    expected = "sweep.status: what it prints cannot be written there (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_a_disk_that_is_full_is_not_taken_for_a_terminal_that_is() -> None:
    with pytest.raises(SystemExit) as ended, in_one_line():
        raise OSError(errno.ENOSPC, "No space left on device")  # of a file that was open already
    line = "sweep: No space left on device: free some space, or choose another outputs=DIR"
    assert ended.value.code == line


def test_pickled_weights_are_refused(said: Said, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    line = said("model=local", f"model.path={tmp_path}")
    assert "holds pickled weights only" in line
    assert "model.pickles=true" in line


def test_one_wrong_point_of_a_grid_and_nothing_runs(said: Said) -> None:
    assert "sparsity.ratio=1.5" in said("sparsity.ratio=0.5,1.5", "-m")


def test_overrides_may_follow_the_flag(said: Said) -> None:
    assert "sparsity.ratio=1.5" in said("-m", "sparsity.ratio=0.5,1.5")


def test_a_study_may_be_asked_for_with_a_plus(said: Said) -> None:
    assert "seed=-1" in said("+study=demo", "seed=-1", "-m")


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked(*words, cwd=cwd, environment={**os.environ, **environment})


def test_fetch_reads_what_a_grid_needs_and_runs_nothing(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    words = ["method=wanda", f"calib.path={files['text']}", "calib=local", "calib.n_samples=2"]
    words += ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", f"outputs={tmp_path}", "-m"]
    done = forked(*words, module="sweep.fetch")
    assert done.returncode == 0, done.stderr
    assert f"calib local: {files['text']} at sha256:" in done.stdout
    assert "metric.tasks unnatural: " in done.stdout
    assert "2 cells have what they need" in done.stdout
    assert not (tmp_path / "cells").exists()
    missing = ["calib=local", "calib.path=/no.txt", f"outputs={tmp_path}"]
    done = forked(*missing, module="sweep.fetch")
    assert done.returncode == 1
    assert done.stderr == "sweep: calib.path=/no.txt: no such file\n"


def test_help_lists_every_option_of_every_group(tmp_path: Path) -> None:
    shown = run("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for group in ("model", "method", "sparsity", "calib", "metric", "tracker", "study"):
        options = ", ".join(sorted(file.stem for file in (CONF / group).glob("*.yaml")))
        assert f"{group}: {options}\n" in shown.stdout
    launchers = ", ".join(sorted(file.stem for file in (CONF / "hydra/launcher").glob("*.yaml")))
    assert f"hydra/launcher: {launchers}" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_full_trace_comes_only_when_asked_for(tmp_path: Path) -> None:
    short = run("seed=-1", cwd=tmp_path)
    assert short.returncode == 1
    assert short.stderr == "sweep: seed=-1: must not be negative\n"
    long = run("seed=-1", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert long.returncode == 1
    assert "Traceback" in long.stderr


def test_everything_that_a_run_writes_goes_below_outputs(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    done = run(
        "method=wanda",
        "calib.n_samples=4",
        "metric=[perplexity]",
        "metric.perplexity.n_samples=2",
        f"outputs={tmp_path / 'out'}",
        cwd=work,
        HOME=str(home),
        XDG_CACHE_HOME=str(home / "cache"),
    )
    assert done.returncode == 0, done.stderr
    assert list(work.iterdir()) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {
        "cells", "cache", "logs", "reports", "wandb",
    }  # fmt: skip


def test_paths_are_meant_from_where_the_command_is_typed(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    (tmp_path / "text.txt").write_text(files["text"].read_text())
    local = ("metric.perplexity.source=local", "metric.perplexity.path=text.txt")
    words = ("method=dense", "metric=[perplexity]", *local, "tracker=none", "outputs=out")
    done = run(*words, "hydra.job.chdir=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("out/cells/*/metrics/perplexity.json"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "text.txt"]
    assert not list(tmp_path.glob("out/logs/out"))


def test_the_golden_results_come_out_of_the_public_command(real: Path, tmp_path: Path) -> None:
    import json

    tokens = real / "golden" / "tokens.safetensors"
    metrics = [
        f"metric.{metric}.{key}={value}"
        for metric in ("perplexity", "divergence")
        for key, value in {"source": "tokens", "path": tokens, "key": "evaluation"}.items()
    ]
    done = run(
        "model=local",
        f"model.path={real / 'stories260K'}",
        "method=magnitude,wanda,sparsegpt",
        "sparsity=unstructured,2to4",
        "calib=tokens",
        f"calib.path={tokens}",
        "calib.key=calibration_seed0",
        "metric=[perplexity,divergence]",
        *metrics,
        "keep=model",
        "tracker=none",
        f"outputs={tmp_path}",
        "-m",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for golden in json.loads((real / "golden" / "golden.json").read_text()):
        name = golden["name"].replace("-u50-seed0", "-50").replace("-2of4-seed0", "-2of4")
        (cell,) = tmp_path.glob(f"cells/stories260K-{name}*")
        found: dict[str, Any] = {}
        for metric in ("perplexity", "divergence"):
            found |= json.loads((cell / "metrics" / f"{metric}.json").read_text())["values"]
        wanted = {
            "perplexity": golden["perplexity"],
            "jsd": golden["jsd_nats_first_255"],
            "kl_dense_compressed": golden["kl_dense_compressed_nats_first_255"],
            "agreement": golden["top1_agreement_first_255"],
        }
        for key, value in wanted.items():
            assert found[key]["value"] == pytest.approx(value, rel=0.005), (name, key)
        if name != "dense":
            _check_masks(cell / "model", real / "golden" / f"{golden['name']}.safetensors")


def _check_masks(model: Path, golden: Path) -> None:
    from safetensors.torch import load_file

    ours, wanted = load_file(model / "model.safetensors"), load_file(golden)
    same = total = 0
    for name, weight in wanted.items():
        key = name if name in ours else f"{name}.weight"
        same += int(((ours[key] == 0) == (weight == 0)).sum())
        total += weight.numel()
    assert total > 200_000
    assert same / total >= 0.999


def test_a_folder_that_no_file_of_results_could_name_is_refused_where_it_is_the_place(
    tmp_path: Path,
) -> None:
    here = tmp_path / "x\udcff"
    here.mkdir()
    done = forked("metric=[perplexity]", cwd=here)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sweep: outputs={tmp_path}/x\\udcff/outputs: holds a byte that is no ")
    assert not (here / "outputs" / "cells").exists()
