"""The template `chat`: the one that comes with the tokenizer of an instruction-tuned model."""

from __future__ import annotations

import shutil
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.calib.packing import pack
from sweep.cell import make
from sweep.check import check
from sweep.data.row import Instruction, Text
from sweep.data.template import DIRECTIVES, TODAY, Answer, answer, prompt, tokenizing
from sweep.files import Kept
from sweep.metric.generate import generate
from sweep.metric.questions import read_questions
from sweep.metric.subject import Subject
from sweep.metric.text import responses
from sweep.model.embedded import WEIGHTS
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} [assistant]\n{% endif %}"
)
ROW = Instruction("Say it.", "fox", "fox")
ASKED = "<s>[user] Say it.\n\nfox [assistant]\n"


@pytest.fixture
def chatty() -> Any:
    """The embedded model's tokenizer with a first token of its own and a chat template."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    first = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[first]
    )
    assert tokenizer("fox")["input_ids"][0] == tokenizer.bos_token_id
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture
def plain() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(WEIGHTS)


def test_an_instruction_is_one_turn_of_a_user_and_the_assistants_is_open(chatty: Any) -> None:
    assert prompt(ROW, "chat", chatty) == ASKED
    bare = Instruction("Say hello.", " ", "Hello.")
    assert prompt(bare, "chat", chatty) == "<s>[user] Say hello. [assistant]\n"


def test_calibration_rows_are_the_prompt_and_the_answer_with_one_first_token(chatty: Any) -> None:
    whole = chatty(f"{ASKED}fox", add_special_tokens=False)["input_ids"]
    windows = pack([ROW], chatty, "pad", 1, 64, seed=0, template="chat")
    assert windows.ids[0][windows.mask[0]].tolist() == [*whole, chatty.eos_token_id]
    assert whole.count(chatty.bos_token_id) == 1
    other = pack([ROW], chatty, "pad", 1, 64, seed=0, template="unnatural")
    assert other.ids.tolist() != windows.ids.tolist()
    assert other.digests == windows.digests


QWEN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
GEMMA = (
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
REOPENS = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("turns", "template", "asked", "said", "closed"),
    [
        (QWEN, "chat", "t\n<think>\n\n</think>\n\n", "a fox<|im_end|>", True),
        (QWEN, "chat_thinking", "t\n", "<think>\n\n</think>\n\na fox<|im_end|>", True),
        (GEMMA, "chat", "<start_of_turn>model\n", "a fox<end_of_turn>", True),
        (LLAMA, "chat", " [/INST]", " a fox <|end|>", True),
        (REOPENS, "chat", "<assistant><think>\n", "a fox<end>", True),
        (CHAT, "chat", " [assistant]\n", "a fox", False),
    ],
)
def test_an_answer_ends_as_the_template_ends_an_assistants_turn(
    chatty: Any, turns: str, template: Any, asked: str, said: str, closed: bool
) -> None:
    """As the templates of Qwen3, Gemma, LLaMA 2 and of models that open a thought write it."""
    chatty.chat_template = turns
    row = Instruction("Say it.", "", "a fox")
    said = said.replace("<|end|>", chatty.eos_token)
    assert prompt(row, template, chatty).endswith(asked)
    assert answer(row, template, chatty) == Answer(said if turns != CHAT else "a fox", closed)
    empty = answer(Instruction("Say it.", "", ""), template, chatty)
    assert empty.text == (said.replace("a fox", "") if turns not in (REOPENS,) else "")


def test_turns_that_the_template_ends_get_no_end_of_sequence_as_well(
    chatty: Any, rows: Any
) -> None:
    chatty.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    chatty.chat_template = QWEN
    end = chatty.convert_tokens_to_ids("<|im_end|>")
    windows = pack([ROW], chatty, "pad", 1, 128, seed=0, template="chat")
    assert windows.ids[0][windows.mask[0]].tolist()[-1] == end
    joined = pack([ROW] * 9, chatty, "concat", 2, 64, seed=0, template="chat")
    assert chatty.eos_token_id not in joined.ids
    scored = responses(rows([ROW]), chatty, "chat", None, None)
    ids = scored.ids[0]
    answered = ids.roll(-1)[scored.scored[0]].tolist()
    assert chatty.decode(answered) == "fox<|im_end|>"
    assert answered[-1] == end


def test_documents_know_no_template(chatty: Any) -> None:
    texts = [Text("The fox ran to the river."), Text("It slept.")]
    one, other = (pack(texts, chatty, "pad", 2, 16, 0, template) for template in ("chat", "alpaca"))
    assert torch.equal(one.ids, other.ids)
    assert one.ids[0, 0] == chatty.bos_token_id


def test_only_the_answer_behind_the_chat_prompt_is_scored(chatty: Any, rows: Any) -> None:
    scored = responses(rows([ROW]), chatty, "chat", None, None)
    ids = scored.ids[0].tolist()
    assert ids[:-1] == chatty(f"{ASKED}fox", add_special_tokens=False)["input_ids"]
    first = scored.scored[0].tolist().index(True)
    assert ids[: first + 1] == chatty(ASKED, add_special_tokens=False)["input_ids"]


def test_questions_are_put_to_the_model_as_its_template_has_them(chatty: Any, rows: Any) -> None:
    (asked,) = read_questions(
        {"rows": rows([ROW])},
        chatty,
        n_samples=None,
        seqlen=64,
        template="chat",
        max_new_tokens=4,
        stop=(),
    ).values()
    assert asked.prompts == (ASKED,)
    ids = chatty(ASKED, add_special_tokens=False)["input_ids"]
    assert asked.longest == len(ids) + 4
    assert asked.record()["template"] == "chat"


@pytest.mark.parametrize(("template", "firsts"), [("alpaca", 2), ("chat", 1)])
def test_an_answer_is_generated_behind_the_prompts_own_first_token_only(
    chatty: Any, build: Any, template: Any, firsts: int, tmp_path: Path
) -> None:
    model = build("llama", vocab_size=len(chatty), max_position_embeddings=64)
    fed: list[Any] = []
    model.register_forward_pre_hook(
        lambda module, args, options: fed.append(options["input_ids"]), with_kwargs=True
    )
    subject = Subject(
        model,
        chatty,
        batch_size=2,
        progress=lambda loop, *_: loop,
        memory=Kept(tmp_path),
    )
    generate(
        subject, [ASKED], max_new_tokens=1, stop=(), name="answers", options=tokenizing(template)
    )
    assert fed[0][0].tolist().count(chatty.bos_token_id) == firsts


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "template=chat: the model's tokenizer has no chat template, as base models' have n"),
        ("{{ raise_exception('no turns') }}", "template of the model's tokenizer fails (no turns)"),
        ("{% if", "template=chat: the chat template of the model's tokenizer fails ("),
    ],
)
def test_a_tokenizer_without_a_template_that_works_is_refused_before_a_row_is_read(
    plain: Any, template: str | None, said: str
) -> None:
    plain.chat_template = template

    def unread() -> Any:
        raise AssertionError("a row was read")
        yield

    with pytest.raises(Refusal) as caught:
        pack(unread(), plain, "concat", 1, 8, seed=0, template="chat")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calib=alpaca", "calib.template=chat"), "calib.template=chat: the model's tokenizer has"),
        (("metric=[tasks]", "metric.tasks.template=chat"), "metric.tasks.template=chat: the model"),
        (
            ("metric=[divergence]", "metric.divergence.template=chat"),
            "metric.divergence.template=chat: the model's tokenizer has no chat template",
        ),
        (
            ("calib=mix", "+calib.parts.alpaca.template=chat"),
            "calib.parts.alpaca.template=chat: the model's tokenizer has no chat template",
        ),
    ],
)
def test_a_base_model_given_a_chat_template_is_refused_by_its_place(
    frozen: Any, words: tuple[str, ...], said: str
) -> None:
    cell = make(
        frozen("method=wanda", "metric=[perplexity]", *words), lambda folder: Path(folder).name
    )
    with pytest.raises(Refusal) as caught:
        check([cell], Workshop(Progress()))
    assert str(caught.value).startswith(said)


def test_with_and_without_the_template_are_two_cells(frozen: Any) -> None:
    ids = [
        make(frozen("method=wanda", "calib=alpaca", f"calib.template={template}"), str).id
        for template in ("alpaca", "unnatural", "chat", "chat_thinking")
    ]
    assert all(one != other for one, other in pairwise(sorted(ids)))


DATED = (
    "  {% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}\n"
    "Today Date: {{ day }}\n{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
)


def test_a_template_that_asks_for_the_date_is_told_the_same_on_every_day(
    chatty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import chat_template_utils

    class ThatDay(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> ThatDay:
            return cls(TODAY.year, TODAY.month, TODAY.day)

    every = DATED.replace("%d %b %Y", "|".join(f"%{one}" for one in DIRECTIVES))
    for turns in (DATED, every):
        chatty.chat_template = turns
        chat = prompt(ROW, "chat", chatty)
        with monkeypatch.context() as patched:
            patched.setattr(chat_template_utils, "datetime", ThatDay)
            said = [{"role": "user", "content": "Say it.\n\nfox"}]
            assert chat == chatty.apply_chat_template(said, tokenize=False)
    chatty.chat_template = DATED
    assert prompt(ROW, "chat", chatty) == "Today Date: 26 Jul 2024\n[user] Say it.\n\nfox"


def test_the_date_is_in_the_identity_of_those_cells_only_in_whose_prompts_it_is(
    frozen: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    rows = files["instructions"]
    words = ("method=wanda", "calib=local", f"calib.path={rows}", "metric=[tasks]")
    words += ("metric.tasks.source=local", f"metric.tasks.path={rows}")
    words += ("model=local", f"model.path={tmp_path / 'model'}")

    def meant(turns: str, template: str) -> tuple[str, str]:
        (tmp_path / "model" / "chat_template.jinja").write_text(turns)
        asked = (f"calib.template={template}", f"metric.tasks.template={template}")
        cell = make(frozen(*words, *asked), lambda folder: "one")
        return cell.identity["calib"]["template"], cell.metric_id("tasks")

    shutil.copytree(WEIGHTS, tmp_path / "model")
    assert meant(CHAT, "chat")[0] == "chat-2"
    assert meant(DATED, "chat")[0] == "chat-2 on 2024-07-26"
    assert meant(DATED, "chat_thinking")[0] == "chat_thinking on 2024-07-26"
    assert meant(DATED, "alpaca") == meant(CHAT, "alpaca")
    assert meant(DATED, "chat")[1] != meant(CHAT, "chat")[1]
