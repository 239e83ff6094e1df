"""How an instruction becomes a prompt. The template belongs to a task score like its corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sweep.data.row import Instruction
from sweep.refusal import Refusal
from sweep.world import template as alpaca_template

Template = Literal["alpaca", "unnatural", "chat"]
"""`chat`: the tokenizer's own, with which the model was tuned to follow instructions."""


def _alpaca(row: Instruction) -> str:
    """Stanford Alpaca's, with and without input (github.com/tatsu-lab/stanford_alpaca)."""
    return alpaca_template.prompt(row.instruction, row.input)


def _unnatural(row: Instruction) -> str:
    """The study's own for Unnatural Instructions (arXiv 2409.11233)."""
    return f"{row.instruction} ###{row.input} ###Response:"


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
    if template == "chat":
        return _chat(row, tokenizer)
    return _TEMPLATES[template](row)


def check_template(template: Template, tokenizer: Any) -> None:
    """Raises: Refusal: the tokenizer, a base model's, has no chat template, or one that fails."""
    if template == "chat":
        _chat(Instruction("Say hello.", "", ""), tokenizer)


def tokenizing(template: Template) -> dict[str, bool]:
    """Options of a tokenizer's call: a chat template brings its first token itself."""
    return {"add_special_tokens": False} if template == "chat" else {}


def _chat(row: Instruction, tokenizer: Any) -> str:
    """One turn of a user: the instruction and, after a blank line, its input."""
    if not getattr(tokenizer, "chat_template", None):
        reason = (
            "the model's tokenizer has no chat template, as base models' have none; give alpaca or "
            "unnatural, or an instruction-tuned model"
        )
        raise Refusal("template", "chat", reason)
    said = f"{row.instruction}\n\n{row.input}" if row.input.strip() else row.instruction
    try:
        found: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program of its own, and fails as it likes
        first = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f"the chat template of the model's tokenizer fails ({first})"
        raise Refusal("template", "chat", reason) from error
    return found
