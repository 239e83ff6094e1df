"""How an instruction becomes a prompt. The template belongs to a task score like its corpus."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Literal, NamedTuple

from sweep.data.row import Instruction
from sweep.refusal import Refusal
from sweep.world import template as alpaca_template

Template = Literal["alpaca", "unnatural", "chat", "chat_thinking"]
"""`chat`: the tokenizer's own, with which the model was tuned to follow instructions. Models that
think before they answer (Qwen3, SmolLM3) are told not to, by `enable_thinking`; by `chat_thinking`
they are let."""

Templates = Template | dict[str, Template]
"""One for all corpora of a metric, or one for each by its name."""

REVISED = {"chat": "chat-2"}
"""What stands in identities for templates that have once meant something else."""

CHATS: tuple[Template, ...] = ("chat", "chat_thinking")
"""Those that are the tokenizer's own."""

TODAY = date(2024, 7, 26)
"""What a chat template that asks for the date is told: some (Llama 3.2's) begin every chat with it,
and a prompt must be the same tomorrow. It is the one that Llama's takes where none is to be had."""

DIRECTIVES = ("-d", "-m", *"aAbBcCdDeFHIjmMpSTuUVwWxXyY")
"""Those of `strftime`, without their percent sign, that are known everywhere."""

_CALENDAR = "".join(f"|replace('%{one}', '{TODAY.strftime(f'%{one}')}')" for one in DIRECTIVES)

_DATED = "{% macro strftime_now(form) %}{{ form" + _CALENDAR + " }}{% endmacro %}\n"
"""What stands before such a template, in place of the function of that name: `transformers` hands
no function of ours on. The line's end goes with the macro, as its templates are read."""


class Answer(NamedTuple):
    """What follows a prompt where its answer is known.

    Attributes:
        text: the answer; of a chat with what ends the assistant's turn.
        closed: whether the text ends the turn itself; if not, an end-of-sequence token does.
    """

    text: str
    closed: bool


def _alpaca(row: Instruction) -> str:
    """Stanford Alpaca's, with and without input (github.com/tatsu-lab/stanford_alpaca)."""
    return alpaca_template.prompt(_told(row), row.input)


def _unnatural(row: Instruction) -> str:
    """The study's own for Unnatural Instructions (arXiv 2409.11233)."""
    return f"{_told(row)} ###{row.input} ###Response:"


def _told(row: Instruction) -> str:
    """The instruction; behind what the system says, where no turn of its own can hold that."""
    return f"{row.system}\n\n{row.instruction}" if row.system.strip() else row.instruction


_TEMPLATES: dict[Template, Callable[[Instruction], str]] = {
    "alpaca": _alpaca,
    "unnatural": _unnatural,
}


def prompt(row: Instruction, template: Template, tokenizer: Any = None) -> str:
    """The text after which the model is to answer.

    Args:
        row: the instruction.
        template: how it is put.
        tokenizer: the model's; the template `chat` is in it.

    Raises:
        Refusal: see `check_template`.
    """
    if template in _TEMPLATES:
        return _TEMPLATES[template](row)
    return _chat(_asked(row), template, tokenizer)


def answer(row: Instruction, template: Template, tokenizer: Any = None) -> Answer:
    """The row's answer as it follows `prompt`, ended as the template ends it.

    What ends a turn is found out from the template itself, which is given the whole exchange. White
    space at its end, which stands between two turns and is said by no model, is left out.

    Raises:
        Refusal: see `check_template`.
    """
    if template in _TEMPLATES:
        return Answer(row.output, closed=False)
    turns = [*_asked(row), {"role": "assistant", "content": row.output}]
    asked, whole = prompt(row, template, tokenizer), _chat(turns, template, tokenizer)
    said = row.output.strip()
    if not whole.startswith(asked):  # it opens a turn otherwise than it writes one down
        place = whole.rfind(said)
        whole = asked + whole[place:] if said and place >= 0 else asked + row.output
    found = whole[len(asked) :]
    place = found.rfind(said) if said else 0
    closed = bool(found[place + len(said) :].strip()) if place >= 0 else True
    return Answer(found.rstrip(), True) if closed else Answer(row.output, False)


def template_of(templates: Templates, corpus: str) -> Template:
    """The one by which a corpus is asked."""
    return templates[corpus] if isinstance(templates, dict) else templates


def check_template(template: Template, tokenizer: Any) -> None:
    """Raises: Refusal: the tokenizer, a base model's, has no chat template, or one that fails."""
    if template not in _TEMPLATES:
        answer(Instruction("Say hello.", "", "Hello."), template, tokenizer)


def on_one_day(tokenizer: Any) -> dict[str, str]:
    """Options of `apply_chat_template`: for a template that asks for the date, it is `TODAY`."""
    if "strftime_now" not in str(tokenizer.chat_template):
        return {}
    return {"chat_template": _DATED + tokenizer.get_chat_template()}


def tokenizing(template: Template) -> dict[str, bool]:
    """Options of a tokenizer's call: a chat template brings its first token itself."""
    return {} if template in _TEMPLATES else {"add_special_tokens": False}


def _asked(row: Instruction) -> list[dict[str, str]]:
    """A user's turn: the instruction and, after a blank line, its input. A system's comes first."""
    said = f"{row.instruction}\n\n{row.input}" if row.input.strip() else row.instruction
    system = [{"role": "system", "content": row.system}] if row.system.strip() else []
    return [*system, {"role": "user", "content": said}]


def _chat(turns: list[dict[str, str]], template: Template, tokenizer: Any) -> str:
    """The turns as the tokenizer's template writes them; behind a user's, the next is opened."""
    if not getattr(tokenizer, "chat_template", None):
        reason = (
            "the model's tokenizer has no chat template, as base models' have none; give alpaca or "
            "unnatural, or an instruction-tuned model"
        )
        raise Refusal("template", template, reason)
    try:
        found: str = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=turns[-1]["role"] == "user",
            enable_thinking=template == "chat_thinking",
            **on_one_day(tokenizer),
        )
    except Exception as error:  # a template is a program of its own, and fails as it likes
        first = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f"the chat template of the model's tokenizer fails ({first})"
        raise Refusal("template", template, reason) from error
    return found
