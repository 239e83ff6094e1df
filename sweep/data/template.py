"""How an instruction becomes a prompt. The template belongs to a task score like its corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sweep.data.row import Instruction
from sweep.world import template as alpaca_template

Template = Literal["alpaca", "unnatural"]


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


def prompt(row: Instruction, template: Template) -> str:
    """The text after which the model is to answer."""
    return _TEMPLATES[template](row)
