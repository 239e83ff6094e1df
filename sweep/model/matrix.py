"""A weight matrix in a block, however and wherever the model keeps it: always `[out, in]`.

Most are the weight of a `torch.nn.Linear`. GPT-2's `Conv1D` keeps its own the other way round, and
in transformers 5 the experts of a mixture lie in one tensor, `[experts, out, in]`, of which each
expert's share is a matrix of its own, fed by the tokens that are sent to it; its gate and its
projection up, which checkpoints and papers have as two, share one tensor too, and are two here.
Whoever reads, writes or observes a matrix need not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sweep.model.offload import changed, read, write


@final
@dataclass(frozen=True)
class Matrix:
    """One matrix of a module, which is multiplied with what the module is called with.

    Attributes:
        module: that holds it.
        parameter: its name there.
        transposed: it is kept as `[in, out]`.
        expert: its number among the experts, where all of them are one tensor.
        rows: those of the expert's share that are its own, where another matrix has the rest; None:
            all.
    """

    module: nn.Module
    parameter: str = "weight"
    transposed: bool = False
    expert: int | None = None
    rows: slice | None = None

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """As it is now; to be changed by `put` only."""
        return self._own(read(self.module, self.parameter))

    @torch.no_grad()
    def put(self, weight: Float[Tensor, "out in"]) -> None:
        """These values in its place, in the dtype in which it is kept."""
        whole: Tensor = getattr(self.module, self.parameter)
        if not whole.is_meta:
            self._own(whole).copy_(weight)
            changed(self.module, self.parameter)
            return
        whole = read(self.module, self.parameter).clone()
        self._own(whole).copy_(weight)
        write(self.module, self.parameter, whole)

    def _own(self, whole: Tensor) -> Tensor:
        """A view of its part of the parameter, in its orientation."""
        own = whole if self.expert is None else whole[self.expert]
        own = own.T if self.transposed else own
        return own if self.rows is None else own[self.rows]

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self._own(getattr(self.module, self.parameter)).shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self._own(getattr(self.module, self.parameter)).shape[1]

    @property
    def sent(self) -> tuple[int, int, str] | None:
        """Which part of what its module is called with it is fed; None: all.

        Matrices with the same part of the same call are fed the very same: an expert's gate and
        its projection up.
        """
        return None if self.expert is None else (id(self.module), self.expert, self.parameter)

    def inputs(self, given: tuple[Any, ...], shown: Bool[Tensor, " tokens"] | None) -> Tensor:
        """What the matrix is fed in a call of its module, tokens in rows.

        Args:
            given: what the module was called with, in the order of its parameters.
            shown: which of the tokens are no padding; None if all are.

        Returns:
            `[tokens, in]`, none at all for an expert to which no token is sent.

        Raises:
            ValueError: padding cannot be told apart, because the tokens are not all there.
        """
        tokens: Tensor = given[0].reshape(-1, given[0].shape[-1])
        if shown is not None and len(shown) != len(tokens):
            shape = tuple(given[0].shape)
            raise ValueError(
                f"its inputs have the shape {shape}, so padding cannot be told apart; "
                "calibrate with windows without padding (calib.packing=concat or sample)"
            )
        shown = None if shown is None else shown.to(tokens.device)
        if self.expert is None:
            return tokens if shown is None else tokens[shown]
        sent = (given[1].reshape(len(tokens), -1) == self.expert).any(dim=1)
        own: Tensor = tokens[sent if shown is None else sent & shown]
        return own if self.parameter != DOWN else _between(self.module, self.expert, own)


DOWN = "down_proj"
"""What an expert's second matrix is called, by transformers' interface of experts."""


def experts(module: nn.Module) -> Iterator[tuple[str, Matrix]]:
    """The matrices of a mixture whose experts are one tensor each, as `3.down_proj`.

    Known by transformers' interface of experts (`transformers.integrations.moe`), which all of them
    share: names and layout, not families. Gate and projection up are one tensor there; they are
    `3.gate_proj` and `3.up_proj`, as most checkpoints have them.
    """
    if not hasattr(module, "has_gate") or not hasattr(module, "is_transposed"):
        return
    kept = [name for name in (_up(module), DOWN) if getattr(module, name, None) is not None]
    if [getattr(module, name).dim() for name in kept] != [3, 3]:
        return
    turned = bool(module.is_transposed)
    for number in range(getattr(module, DOWN).shape[0]):
        first, down = (Matrix(module, name, turned, number) for name in kept)
        if module.has_gate:
            gate, up = _halves(module, first.out_features)
            yield f"{number}.gate_proj", replace(first, rows=gate)
            yield f"{number}.up_proj", replace(first, rows=up)
        else:
            yield f"{number}.{first.parameter}", first
        yield f"{number}.{DOWN}", down


def _up(module: Any) -> str:
    return "gate_up_proj" if module.has_gate else "up_proj"


def _halves(module: Any, rows: int) -> tuple[slice, slice]:
    """Which rows of an expert's first tensor are its gate, and which its projection up."""
    if module.is_concatenated:
        return slice(0, rows // 2), slice(rows // 2, rows)
    return slice(0, rows, 2), slice(1, rows, 2)  # in turns, as GPT-OSS has them


def _between(module: Any, expert: int, tokens: Float[Tensor, "tokens hidden"]) -> Tensor:
    """What an expert's second matrix is fed, of what its first one is fed: the module's own sum."""
    first = Matrix(module, _up(module), bool(module.is_transposed), expert)
    bias = read(module, f"{first.parameter}_bias")[expert] if module.has_bias else None
    bias = None if bias is None else bias.to(tokens.device)
    found = nn.functional.linear(tokens, first.weight.to(tokens.device), bias)
    between: Tensor = module._apply_gate(found) if module.has_gate else module.act_fn(found)
    return between
