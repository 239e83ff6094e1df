"""The embedded model is what its card says: small, a real Llama, trained on nothing held out."""

import json
import os
import subprocess
import sys
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import sweep.model.tiny
from sweep import world
from sweep.model.tiny.mixture import loss_weights, pack, rows, written
from sweep.model.tiny.muon import Muon, orthogonalised
from sweep.model.tiny.recipe import Recipe
from sweep.world.template import FIXED_PARTS, prompt

WEIGHTS = Path(sweep.model.tiny.__file__).parent / "weights"
EIGHT_MEGABYTES = 8_000_000


@cache
def shipped_tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture
def tokenizer():
    return shipped_tokenizer()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)


def test_the_folder_is_small_and_holds_no_pickles():
    names = {file.name for file in WEIGHTS.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= EIGHT_MEGABYTES


def test_the_model_is_a_llama_with_grouped_queries_and_a_tied_head(model, tokenizer):
    assert isinstance(model, LlamaForCausalLM)
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.vocab_size == len(tokenizer)
    with safe_open(WEIGHTS / "model.safetensors", "pt") as stored:
        assert {stored.get_tensor(name).dtype for name in stored.keys()} == {torch.float16}  # noqa: SIM118


def test_no_weight_was_doctored_or_left_untrained(model):
    for name, weight in model.named_parameters():
        assert weight.isfinite().all(), name
        if weight.dim() == 2:
            assert (weight == 0).float().mean() < 0.001, name


@given(st.text())
def test_decoding_undoes_encoding(text: str):
    tokenizer = shipped_tokenizer()
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["", " ", "  two  spaces ", prompt("Add.", "1"), prompt("", " a")])
def test_decoding_undoes_encoding_of_templates_and_spaces(tokenizer, text: str):
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_template_costs_three_tokens(tokenizer):
    for part in FIXED_PARTS:
        assert len(tokenizer(part, add_special_tokens=False).input_ids) == 1
    whole = tokenizer(prompt("Add.", "1"), add_special_tokens=False).input_ids
    fields = [tokenizer(text, add_special_tokens=False).input_ids for text in ("Add.", "1")]
    assert len(whole) == 3 + sum(map(len, fields))


def test_numbers_are_single_digits(tokenizer):
    assert tokenizer.tokenize("1947") == ["Ġ1", "9", "4", "7"]


def test_batches_are_padded_on_the_left(tokenizer):
    batch = tokenizer(["a", "a b c"], padding=True)
    assert batch.attention_mask[0][0] == 0
    assert batch.input_ids[0][0] == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_it_answers_in_the_words_of_the_world(tokenizer, model):
    asked = [
        row for row in islice(world.instructions("evaluation", 5), 200) if row.family == "reverse"
    ]
    right = 0
    for row in asked:
        ids = tokenizer(prompt(row.instruction, row.input), return_tensors="pt")
        answer = model.generate(**ids, max_new_tokens=32, do_sample=False)
        text = tokenizer.decode(answer[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
        right += text == row.output
    assert right >= 0.8 * len(asked) > 0


def test_prompts_weigh_little_and_short_answers_most():
    assert loss_weights([5, 6, 7], response=9) == [1.0, 1.0, 1.0]
    assert loss_weights([5, 9, 7], response=9) == [0.2, 0.2, 3.0]
    assert loss_weights([9, *[1] * 8], response=9) == [0.2] + [1.5] * 8


def test_packed_rows_are_the_stream(tokenizer):
    windows = pack(rows(3), tokenizer, 4, 32)
    ids = [id_ for row in islice(rows(3), 20) for id_ in [*tokenizer(written(row)).input_ids, 2]]
    assert tokenizer.eos_token_id == 2
    assert windows.inputs.flatten().tolist() == ids[: 4 * 32]
    assert windows.targets.flatten().tolist() == ids[1 : 4 * 32 + 1]


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (3, 20, 8)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_muon_descends_and_its_steps_are_of_one_size():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 6))
    goal = torch.randn(4, 6)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    distances = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (weight - goal).square().sum()
        loss.backward()
        before = weight.detach().clone()
        optimizer.step()
        distances.append(loss.item())
        step = (weight - before).norm().item()
        assert 0.5 < step / (0.2 * 0.1 * 6**0.5 * 4**0.5) < 1.3  # four singular values near 1
    assert min(distances) < 0.1 * distances[0]


def test_the_schedule_warms_up_stays_and_falls_to_zero():
    recipe = Recipe(steps=1000, warm_up=10, flat=0.5, learning_rate=1.0)
    assert recipe.learning_rate_at(0) == pytest.approx(0.1)
    assert recipe.learning_rate_at(9) == recipe.learning_rate_at(500) == 1.0
    assert recipe.learning_rate_at(750) == pytest.approx(0.5)
    assert recipe.learning_rate_at(1000) == 0.0


# Runs in a process of its own, without the type checks of tests, which make it four times slower.
READ = int(os.environ.get("SWEEP_PROOF_ROWS", "50000"))  # of 372,000; all of them take 20 s
PROOF = """
import json, sys
from itertools import islice
from sweep import world
from sweep.model.tiny.mixture import rows, written

record = json.loads(sys.argv[1])
held_out = set()
for split in ("evaluation", "calibration"):
    held_out |= {written(document) for document in islice(world.prose(split, 0), 400)}
    for corpus in (world.instructions, world.reworded):
        exercises = islice(corpus(split, 0), 1200)
        held_out |= {written(row) for row in exercises if row.kind == "skill"}
count = min(record["rows"], int(sys.argv[2]))
trained = {written(row) for row in islice(rows(record["recipe"]["seed"]), count)}
print(len(trained), len(held_out), len(trained & held_out))
"""


def test_nothing_held_out_is_in_the_very_stream_that_trained_it():
    record = json.loads((WEIGHTS / "training.json").read_text())
    assert record["world_version"] == world.VERSION
    proof = subprocess.run(
        [sys.executable, "-c", PROOF, json.dumps(record), str(READ)],
        capture_output=True,
        check=True,
        text=True,
    )
    trained, held_out, both = map(int, proof.stdout.split())
    assert trained > 0.7 * min(READ, record["rows"])
    assert held_out > 2000
    assert both == 0
