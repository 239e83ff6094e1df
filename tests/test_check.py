"""Settings are held against the model and against each other before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sweep.cell import make
from sweep.check import check, check_unread
from sweep.data.embedded import Prose
from sweep.data.hub import Documents
from sweep.model.contents import fingerprint
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop

Frozen = Callable[..., dict[str, Any]]


@pytest.fixture
def checked(frozen: Frozen) -> Callable[..., None]:
    def checked(*overrides: str) -> None:
        cell, workshop = make(frozen(*overrides), fingerprint), Workshop(Progress())
        check_unread([cell], workshop)
        check([cell], workshop)

    return checked


@pytest.fixture
def saved(build: Callable[..., Any], files: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A random model of a family, saved with the embedded model's tokenizer."""

    def saved(family: str, **changes: Any) -> Path:
        folder = tmp_path / family
        build(family, **{"vocab_size": 1024, **changes}).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((files["model"] / name).read_bytes())
        return folder

    return saved


def local(folder: Path, files: dict[str, Path]) -> list[str]:
    tokens = f"path={files['tokens']}"
    return [
        *("model=local", f"model.path={folder}", "seqlen=32", "calib=tokens", f"calib.{tokens}"),
        *("calib.key=calibration", "metric=[perplexity]", "metric.perplexity.source=tokens"),
        *(f"metric.perplexity.{tokens}", "metric.perplexity.key=evaluation"),
    ]


def test_tokens_of_another_vocabulary_are_refused_in_a_metric_too(
    checked: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "tokens.safetensors"
    save_file({"ids": torch.full((4, 16), 40_000)}, path)
    with pytest.raises(Refusal, match=r"metric\.perplexity\.path=.*: holds the token 4000"):
        checked(
            "metric=[perplexity]",
            "metric.perplexity.source=tokens",
            f"metric.perplexity.path={path}",
        )


def test_a_tokenizer_that_ends_every_text_is_refused_and_one_that_begins_it_is_not(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    folder = saved("llama", max_position_embeddings=64)
    file = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)

    def adds(single: str) -> None:
        tokens = [("</s>", tokenizer.token_to_id("</s>"))]
        tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
        tokenizer.save(file)

    adds("</s> $A")
    checked(*local(folder, files))
    adds("$A </s>")
    with pytest.raises(Refusal, match=r"model\.path=.*: its tokenizer puts '</s>' behind every te"):
        checked(*local(folder, files))


def test_windows_longer_than_the_models_positions_are_refused_in_a_metric_too(
    checked: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "tokens.safetensors"
    save_file({"ids": torch.full((2, 600), 7)}, path)
    with pytest.raises(Refusal, match=r"metric\.perplexity\.seqlen=600: more than the model's 512"):
        checked(
            "metric=[perplexity]",
            "metric.perplexity.source=tokens",
            f"metric.perplexity.path={path}",
        )


@pytest.mark.parametrize("method", ["magnitude", "dense"])
@pytest.mark.parametrize("corpora", ["hub", "embedded"])
def test_a_corpus_that_no_method_reads_costs_nothing(
    checked: Callable[..., None],
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    corpora: str,
) -> None:
    """Nor is the length refused that it would share with all windows, if there were any."""
    for source in (Documents, Prose):
        monkeypatch.setattr(source, "rows", lambda *_: pytest.fail("the corpus was read"))
    own = [word for word in local(files["model"], files) if "calib" not in word]
    checked(*own, "calib=c4", "seqlen=2048", f"method={method}", f"corpora={corpora}")


def test_a_file_in_a_mixture_that_no_method_reads_is_looked_at(
    checked: Callable[..., None],
) -> None:
    parts = "+calib.parts.local.weight=1", "+calib.parts.local.path=/no.txt"
    with pytest.raises(Refusal, match=r"calib\.parts\.local\.path=/no\.txt: no such file"):
        checked("method=magnitude", "calib=mix", *parts)


def test_files_are_looked_at_before_a_corpus_is_made(
    checked: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Prose, "rows", lambda *_: pytest.fail("a corpus was made"))
    path = tmp_path / "rows.jsonl"
    path.write_text("{")
    with pytest.raises(Refusal, match=r"calib\.path=.*line 1: no JSON"):
        checked("metric=[perplexity]", "calib=local", f"calib.path={path}")
    own = ("metric.tasks.source=local", f"metric.tasks.path={path}")
    with pytest.raises(Refusal, match=r"metric\.tasks\.path=.*line 1: no JSON"):
        checked("metric=[perplexity,tasks]", *own)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (
                "metric=[perplexity]",
                "metric.perplexity.source=local",
                "metric.perplexity.path=no.txt",
            ),
            r"^metric\.perplexity\.path=no\.txt: no such file$",
        ),
        (
            ("metric=[tasks]", "metric.tasks.source=local", "metric.tasks.path=no.jsonl"),
            r"^metric\.tasks\.path=no\.jsonl: no such file$",
        ),
        (
            ("metric=[divergence]", "metric.divergence.source=hub", "metric.divergence.repo=me/no"),
            r"^metric\.divergence\.repo=me/no: is not in .*; python -m sweep\.fetch",
        ),
        (
            ("metric=[perplexity]", "calib=hub", "calib.repo=d/q.jsonl"),
            r"^calib\.repo=d/q\.jsonl: is not in .*; a file is calib=local calib\.path=d/q\.jsonl",
        ),
        (
            ("metric=[perplexity]", "model=hub", "model.repo=m/ok"),
            r"^model\.repo=m/ok: is not in .*; model=local model\.path=m/ok takes a folder$",
        ),
        (
            ("metric=[perplexity]", "model=hub", "model.repo=m/none"),
            r"^model\.repo=m/none: is not in .* fetches it where there is a network$",
        ),
        (
            ("metric=[perplexity]", "metric.perplexity.source=wikitext2"),
            r"^metric\.perplexity\.source=wikitext2: Salesforce/wikitext is not in ",
        ),
        (
            ("metric=[perplexity]", "calib=local", "calib.path=no.txt"),
            r"^calib\.path=no\.txt: no such file$",
        ),
    ],
)
def test_what_is_wrong_with_data_is_told_by_the_setting_as_it_is_typed(
    checked: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    import datasets
    from huggingface_hub import constants

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "q.jsonl").write_text("{}")
    (tmp_path / "m" / "ok").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # where these repositories' names are paths
    for config in (datasets.config, constants):
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(Refusal, match=said):
        checked(*words)


def test_experts_that_are_kept_in_a_way_of_their_own_are_not_passed_over_in_silence(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    folder = saved("llama4_text", head_dim=4, num_local_experts=4, intermediate_size_mlp=24)
    with pytest.raises(Refusal, match=r"method\.scope=all: \d\d % of the weights .* stay dense"):
        checked(*local(folder, files))
    with pytest.raises(Refusal, match=r"method\.scope=mlp: "):
        checked(*local(folder, files), "method.scope=mlp")
    checked(*local(folder, files), "method.scope=attention")
    checked(*local(saved("mixtral"), files))


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("mamba", {"state_size": 4, "time_step_rank": 4}),
        ("falcon_mamba", {"state_size": 4, "time_step_rank": 4}),
        ("jamba", {"mamba_d_state": 4, "mamba_dt_rank": 4, "num_experts": 2}),
    ],
)
def test_a_matrix_whose_inputs_cannot_be_seen_is_refused_before_a_model_is_loaded(
    checked: Callable[..., None],
    saved: Callable[..., Path],
    files: dict[str, Path],
    family: str,
    sizes: dict[str, int],
) -> None:
    words = local(saved(family, hidden_size=128, intermediate_size=256, **sizes), files)
    with pytest.raises(Refusal, match=r"^method\.scope=all: holds .*\.dt_proj, .*model\.dense=dt_"):
        checked(*words)
    checked(*words, "model.dense=dt_proj")
    checked(*words, "method=magnitude")  # looks at weights only


def test_a_model_without_linears_is_refused_and_not_a_defect(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    folder = saved("gpt2", num_hidden_layers=0)
    with pytest.raises(Refusal, match=r"model\.path=.*gpt2: GPT2LMHeadModel: has no linear layer"):
        checked(*local(folder, files))


def test_a_vocabulary_larger_than_the_embedding_is_the_models_fault(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    folder = saved(
        "llama", vocab_size=300, max_position_embeddings=512
    )  # the tokenizer has 1,024 words
    text = f"metric.perplexity.path={files['text']}"
    words = [*local(folder, files)[:3], "metric=[perplexity]", "method=magnitude", text]
    said = (
        r"model\.path=.*: its tokenizer makes the token \d+ \('.*'\) of local, and its embedding "
    )
    with pytest.raises(Refusal, match=said + "has 300 entries"):
        checked(*words, "metric.perplexity.source=local")
    asked = [
        *("metric=[tasks]", "metric.tasks.source=local", "metric.tasks.max_new_tokens=4"),
        f"metric.tasks.path={files['instructions']}",
    ]
    with pytest.raises(Refusal, match=said):
        checked(*local(folder, files)[:3], "method=magnitude", *asked)


def test_positions_of_a_model_that_also_sees_are_those_of_its_text(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    text = {"vocab_size": 1024, "hidden_size": 16, "head_dim": 4, "num_hidden_layers": 2}
    text |= {"intermediate_size": 24, "num_attention_heads": 4, "max_position_embeddings": 32}
    folder = saved("gemma3", text_config=text)
    checked(*local(folder, files))
    with pytest.raises(Refusal, match=r"metric\.perplexity\.seqlen=.*more than the model's 32 pos"):
        checked(*local(folder, files), "metric.perplexity.seqlen=64")


def test_an_attention_that_is_not_there_is_refused(
    checked: Callable[..., None], saved: Callable[..., Path], files: dict[str, Path]
) -> None:
    words = local(saved("llama"), files)
    checked(*words, "model.attention=eager")
    with pytest.raises(
        Refusal, match=r"model\.attention=flash_attention_2: cannot be used \(.*auto"
    ):
        checked(*words, "model.attention=flash_attention_2")
    with pytest.raises(Refusal, match=r"model\.attention=quick: "):
        checked(*words, "model.attention=quick")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model.device_map=everywhere",), r"model\.device_map=everywhere: use auto, balanced"),
        (
            ("model.device_map=auto", "model.device=cpu"),
            r"model\.device=cpu: .* leave device at auto",
        ),
        (("model.device_map={}",), r"model\.device_map=\{\}: names no module"),
    ],
)
def test_a_device_map_that_cannot_be_meant_is_refused(
    checked: Callable[..., None], files: dict[str, Path], words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refusal, match=said):
        checked(*local(files["model"], files), *words)


def test_a_device_map_without_accelerate_is_refused(
    checked: Callable[..., None], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.model.placement.find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"model\.device_map=auto: needs accelerate; pip install"):
        checked(*local(files["model"], files), "model.device_map=auto")
