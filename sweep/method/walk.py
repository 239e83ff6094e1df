"""A model is compressed block by block: look at what a block is fed, compress it, run it, go on.

The statistics of all linears of a block come from one forward pass with that block still dense, fed
by the outputs of the compressed blocks before it. Hooks that look at what layers are fed are here
only; how the windows go through the blocks is said in `sweep.model.passage`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sweep.method.magnitude import Magnitude
from sweep.method.method import Compressed, Layer, Method, Together, from_dense
from sweep.model import anatomy
from sweep.model.finite import remedy
from sweep.model.matrix import Matrix
from sweep.model.offload import resident
from sweep.model.passage import Batch, Passage
from sweep.numerics.moments import Statistic
from sweep.numerics.output_error import InputSample
from sweep.numerics.precision import full_float32
from sweep.numerics.products import wide_linears
from sweep.numerics.zeros import count_zeros
from sweep.sparsity.pattern import Pattern

Progress = Callable[[Iterable[nn.Module], str, int], Iterable[nn.Module]]
"""Passes items on, and tells someone what they are and how many."""


def silent(items: Iterable[nn.Module], what: str, total: int) -> Iterable[nn.Module]:
    """Tells no one."""
    return items


def untold(records: Mapping[int, LayerRecord]) -> None:
    """Tells no one."""


class Outcome(NamedTuple):
    """What is known of a layer once it is compressed, besides its weight.

    Attributes:
        remarks: of the method.
        output_error: see `sweep.numerics.output_error`; None where no data were read.
    """

    remarks: tuple[str, ...] = ()
    output_error: float | None = None


UNSEEN = "no calibration token was sent to this expert: pruned by magnitude"
"""What is said of an expert for which a method that reads data has none."""


LEAVE_OUT = "leave it out with a regular expression as method.scope"
"""What helps where a family multiplies with a layer's weight without calling the layer."""


class Finished(ABC):
    """Blocks that an earlier, interrupted walk has compressed, and that a later one need not."""

    @abstractmethod
    def restore(self, number: int, linears: Mapping[str, Matrix]) -> Mapping[str, Outcome] | None:
        """Puts the block's compressed weights in place and gives what is known of them, by layer.

        None if the block is not among the finished.
        """

    @abstractmethod
    def keep(
        self, number: int, linears: Mapping[str, Matrix], outcomes: Mapping[str, Outcome]
    ) -> None:
        """The block is finished."""


@final
class Nothing(Finished):
    """Nothing is finished, and nothing is kept."""

    def restore(self, number: int, linears: Mapping[str, Matrix]) -> Mapping[str, Outcome] | None:
        """Nothing."""

    def keep(
        self, number: int, linears: Mapping[str, Matrix], outcomes: Mapping[str, Outcome]
    ) -> None:
        """Nothing."""


@dataclass(frozen=True)
class LayerRecord:
    """What became of a layer: the zeros in its weight, counted, and its `Outcome`."""

    name: str
    rows: int
    cols: int
    zeros: int
    sparsity: float
    remarks: tuple[str, ...]
    output_error: float | None


Observe = Callable[[Layer], Statistic | None]
"""Gives an empty statistic for a layer."""


class Gathered(ABC):
    """Statistics of the dense model, collected before."""

    @abstractmethod
    def take(self, number: int, linears: Mapping[str, Matrix], method: Method) -> dict[str, Seen]:
        """What the matrices of a block were fed, as far as anything was; they may share it."""


@dataclass
class Seen:
    """What was seen of a matrix's inputs, and of how many tokens; nothing where none are read."""

    statistic: Statistic | None = None
    sample: InputSample | None = None
    tokens: int = 0
    device: torch.device | None = None


Given = tuple[Any, ...]
"""What a module was called with."""


@final
class _EnoughSeen(Exception):
    """Thrown out of a block whose last matrix has got its input: nobody reads what comes out."""


Kind = tuple[type[nn.Module], tuple[str, ...]]
"""A block's class and the matrices that are looked at in it, by their names in the block."""


@final
class _Weights(Mapping[str, Tensor]):
    """The weights of matrices, each read when it is asked for: all may be more than fits."""

    def __init__(self, matrices: Mapping[str, Matrix]) -> None:
        self._matrices = matrices

    def __getitem__(self, name: str) -> Tensor:
        return self._matrices[name].weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._matrices)

    def __len__(self) -> int:
        return len(self._matrices)


@torch.no_grad()
@full_float32()
@wide_linears()
def walk(
    model: nn.Module,
    method: Method,
    pattern: Pattern,
    *,
    windows: tuple[Int[Tensor, "n time"], Bool[Tensor, "n time"]] | None,
    batch_size: int = 8,
    progress: Progress = silent,
    finished: Finished = Nothing(),  # noqa: B008 - it holds nothing
    told: Callable[[Mapping[int, LayerRecord]], None] = untold,
    gathered: Gathered | None = None,
) -> list[LayerRecord]:
    """Compresses a model in place, and says what became of every linear in the method's scope.

    Leaves the model in evaluation mode.

    Args:
        model: a causal language model; each of its blocks is on one device.
        method: chooses what is observed and what is done; `method.scope` says where.
        pattern: where zeros go.
        windows: token ids and a mask that is True on tokens and False on padding, which is on the
            right; None for a method that reads no data.
        batch_size: windows that are run at once; changes nothing but speed, memory and rounding.
        progress: wraps the loop over blocks.
        finished: blocks that need not be compressed again; they are only run.
        told: is called after each block with the records of its linears, by their place in the
            list that comes back.
        gathered: statistics of the dense model that are there already, for a method that wants
            those (`from_dense`); without them such a method has its own.

    Raises:
        Refusal: a scope that matches nothing, a layer that the pattern does not fit, a model that
            does not run its blocks one after the other.
        ValueError: windows that are missing or not padded on the right.
        FloatingPointError: NaN or infinity in a weight or a statistic; names the layer.
    """
    linears = anatomy.prunable(model)
    chosen = {name: linears[name] for name in anatomy.select(list(linears), method.scope)}
    for name, linear in chosen.items():
        _check_finite(linear.weight, f"{name}: its weight")
    patterns = method.allocate(_Weights(chosen), pattern)
    for name, own in patterns.items():
        own.check({name: chosen[name].in_features})
    places = {name: place for place, name in enumerate(chosen)}
    records: dict[int, LayerRecord] = {}
    model.eval()
    blocks = anatomy.blocks(model)
    reads = method.reads_data and gathered is None
    passage = Passage.of_windows(model, windows, batch_size) if reads else None
    orders: dict[Kind, list[str]] = {}
    left = len(patterns)
    dense = from_dense(method)
    for number, block in enumerate(progress(blocks, "blocks", len(blocks))):
        inside = set(block.modules())
        within = {
            name: matrix
            for name, matrix in chosen.items()
            if matrix.module in inside and places[name] not in records
        }
        here = {name: matrix for name, matrix in within.items() if name in patterns}
        with resident(block):
            seen: dict[str, Seen] = {}
            if dense and passage is not None and left:
                goes_on = left > len(here)
                seen = observe(passage, block, here, method.observe, orders, through=goes_on)
            earlier = finished.restore(number, here) if here else None
            if earlier is None and here:
                if gathered is not None:
                    seen = gathered.take(number, here, method)
                elif passage is not None and not dense:
                    seen = observe(passage, block, here, method.observe, orders)
                earlier = {}
                for group in _groups(here, method, patterns, seen):
                    *_, shared = (seen.pop(name, Seen()) for name in group)  # goes with its use
                    wanted = [patterns[name] for name in group]
                    earlier |= _compress({n: here[n] for n in group}, method, wanted, shared)
                    del shared
                finished.keep(number, here, earlier)
            done = earlier or {}
            found = {places[n]: _record(n, x, done.get(n, Outcome())) for n, x in within.items()}
            told(found)
            records |= found
            left -= len(here)
            if passage is not None and left and not dense:
                passage.advance(block)  # not the last in scope: nothing looks at what comes out
    return [records[place] for place in sorted(records)]


def observe(
    passage: Passage,
    block: nn.Module,
    linears: Mapping[str, Matrix],
    statistic_of: Observe,
    orders: dict[Kind, list[str]],
    through: bool = False,
) -> dict[str, Seen]:
    """What a block's linears are fed; linears fed by the very same tensor share it.

    The first batch of a kind of block runs through it and tells the order in which its matrices are
    fed; all others stop where the last one has been. Not so where experts are modules of their own:
    which of them are called, and so where the last one is, differs from batch to batch. And not
    where the batches go `through` a block that stays as it is, to the next one: then to look at it
    and to pass it is one pass.
    """
    owners: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    total = passage.tokens
    inside = {module: name for name, module in block.named_modules()}
    local = {inside[matrix.module] for matrix in linears.values()}
    kind = (type(block), tuple(sorted(local)))
    always = all(m.expert is not None or not anatomy.is_expert(n, m) for n, m in linears.items())
    for batch in passage.turns():
        enough = orders.get(kind) if always and not through else None
        with _recording(linears, inside, enough) as (calls, order), suppress(_EnoughSeen):
            if through:
                batch.advance(block)
            else:
                batch.run(block)
        orders.setdefault(kind, order)
        first: dict[Any, str] = {}
        for name, given in calls.items():
            matrix = linears[name]
            key = (*(id(call[0]) for call in given), matrix.sent)
            owner = first.setdefault(key, name)
            if owners.setdefault(name, owner) != owner:
                raise RuntimeError(f"{name}: shares its input in one batch and not in another")
            if owner != name:
                continue
            if name not in seen:
                layer = Layer(name, matrix.out_features, matrix.in_features)
                seen[name] = Seen(statistic_of(layer), InputSample(total))
            _add(name, matrix, given, batch, seen[name])
    for name, matrix in linears.items():
        if name not in owners or seen[owners[name]].tokens == 0:
            if not anatomy.is_expert(name, matrix):
                raise RuntimeError(f"{name}: no calibration token reached it; {LEAVE_OUT}")
            continue
        statistic = seen[owners[name]].statistic
        if owners[name] == name and statistic is not None and not statistic.finite():
            reason = f"its calibration inputs hold NaN or infinity; {passage.culprit()}"
            raise FloatingPointError(f"{name}: {reason}")
    return {name: seen[owners[name]] for name in linears if name in owners}


def _add(name: str, matrix: Matrix, given: list[Given], batch: Batch, seen: Seen) -> None:
    """What a matrix was fed in a batch, added to what was seen of its inputs."""
    shown = batch.mask.flatten() if batch.padded else None
    try:
        parts = [matrix.inputs(call, shown) for call in given]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    tokens = torch.cat(parts) if len(parts) > 1 else parts[0]  # mostly one call: no copy
    if len(tokens) == 0:
        return
    seen.tokens += len(tokens)
    seen.device = tokens.device
    if seen.statistic is not None:
        seen.statistic.add(tokens, len(batch.mask))
    if seen.sample is not None:
        seen.sample.add(tokens)


def _groups(
    linears: Iterable[str],
    method: Method,
    patterns: Mapping[str, Pattern],
    seen: Mapping[str, Seen],
) -> list[list[str]]:
    """Who is compressed together: whoever is fed the same, where that helps the method."""
    groups: dict[Any, list[str]] = {}
    for name in linears:
        shares = isinstance(method, Together) and name in seen and seen[name].tokens > 0
        key = (id(seen[name]), patterns[name].width) if shares else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _compress(
    matrices: Mapping[str, Matrix], method: Method, patterns: Sequence[Pattern], seen: Seen
) -> dict[str, Outcome]:
    """Puts the method's weights in place of the layers', and returns what is known of them."""
    kept = [matrix.weight.detach() for matrix in matrices.values()]
    dense = [one.to(seen.device or one.device).float().contiguous() for one in kept]
    unseen = method.reads_data and seen.tokens == 0
    try:
        compressed = _compressed(dense, Magnitude() if unseen else method, patterns, seen)
    except FloatingPointError as error:
        raise FloatingPointError(f"{next(iter(matrices))}: {error}") from error
    outcomes: dict[str, Outcome] = {}
    for (name, matrix), was, before, after in zip(
        matrices.items(), kept, dense, compressed, strict=True
    ):
        stored = after.weight.to(was.dtype)
        _check_finite(stored, f"{name}: its compressed weight")
        if unseen:  # an expert; dense, it would make the model's sparsity depend on the router
            outcomes[name] = Outcome((*after.remarks, UNSEEN))
        else:
            off = None if seen.sample is None else seen.sample.error(before, stored)
            outcomes[name] = Outcome(after.remarks, off)
        matrix.put(stored)
    return outcomes


def _compressed(
    dense: list[Tensor], method: Method, patterns: Sequence[Pattern], seen: Seen
) -> list[Compressed]:
    if len(dense) > 1 and isinstance(method, Together):
        return method.compress_together(dense, seen.statistic, patterns)
    pairs = zip(dense, patterns, strict=True)
    return [method.compress(weight, seen.statistic, pattern) for weight, pattern in pairs]


def _record(name: str, linear: Matrix, outcome: Outcome) -> LayerRecord:
    rows, cols = linear.weight.shape
    zeros = count_zeros(linear.weight)
    return LayerRecord(name, rows, cols, zeros, zeros / (rows * cols), *outcome)


def _check_finite(tensor: Tensor, what: str) -> None:
    if not torch.stack(tensor.aminmax()).isfinite().all():  # either is NaN where anything is
        raise FloatingPointError(f"{what} holds NaN or infinity{remedy(tensor.dtype)}")


@contextmanager
def _recording(
    linears: Mapping[str, Matrix], inside: Mapping[nn.Module, str], enough: list[str] | None
) -> Iterator[tuple[dict[str, list[Given]], list[str]]]:
    """What every matrix's module is called with during a forward pass, each tensor alive, so that
    none has the id of another. Matrices are recorded in the order of their modules' calls.

    Args:
        linears: the matrices.
        inside: names of the block's modules.
        enough: the calls, by these names, after which the pass is stopped, by `_EnoughSeen`.
    """
    calls: dict[str, list[Given]] = {}
    order: list[str] = []
    versions: list[tuple[str, Tensor, int]] = []
    names: dict[nn.Module, list[str]] = {}
    for name, matrix in linears.items():
        names.setdefault(matrix.module, []).append(name)

    def record(module: nn.Module, args: Given, kwargs: dict[str, Any]) -> None:
        given = (*args, *kwargs.values())
        for name in names[module]:
            calls.setdefault(name, []).append(given)
        versions.append((names[module][0], given[0], given[0]._version))
        order.append(inside[module])
        if order == enough:
            raise _EnoughSeen

    with ExitStack() as hooks:
        for module in names:
            hooks.enter_context(module.register_forward_pre_hook(record, with_kwargs=True))
        yield calls, order
    for name, tensor, version in versions:
        if tensor._version != version:
            raise RuntimeError(f"{name}: its input is changed in place after it was used")
