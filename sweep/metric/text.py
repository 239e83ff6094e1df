"""Text made ready for reading: windows of a running text, or answers after their prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sweep.calib.packing import encode, joined
from sweep.data.row import Contents, Instruction, Row, Text, Tokens, answered
from sweep.data.source import Origin, Source
from sweep.data.template import Template, answer, check_template, prompt, tokenizing
from sweep.refusal import Refusal

MOST = 100_000
"""Rows or windows of a corpus that has no end: as many as the largest sets of evaluation hold."""


@dataclass(frozen=True)
class Sequences:
    """Sequences and the positions at which a model's prediction of the next token counts.

    Attributes:
        ids: token ids `[n, time]`, padded on the right.
        lengths: tokens of each sequence that are no padding `[n]`.
        scored: whether the prediction made at a position counts `[n, time]`; False at the end.
        what: they are.
    """

    ids: Int[Tensor, "n time"]
    lengths: Int[Tensor, " n"]
    scored: Bool[Tensor, "n time"]
    what: str

    def __str__(self) -> str:
        """For who watches them being read."""
        return self.what

    @property
    def longest(self) -> int:
        """Length of the longest sequence in tokens."""
        return self.ids.shape[1]

    @cached_property
    def key(self) -> str:
        """sha256 of what is fed and what is scored: equal keys share one pass."""
        total = hashlib.sha256(str(tuple(self.ids.shape)).encode())
        for tensor in (self.ids, self.lengths, self.scored):
            total.update(tensor.contiguous().numpy().tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class Scored(Sequences):
    """Sequences of a corpus, for a score; they are `windows` or `responses`.

    Attributes:
        origin: where the rows are from.
        contents: of the rows.
        left_out: examples that are not here because their responses lie beyond `seqlen`.
        unanswered: instructions that were passed over because nobody has answered them.
        cut: examples that are here up to `seqlen` only.
    """

    origin: Origin
    contents: Contents
    left_out: int = 0
    unanswered: int = 0
    cut: int = 0

    def __str__(self) -> str:
        """With the corpus."""
        return f"{self.origin.corpus} {self.what}"

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows."""
        return self.contents.rows

    def record(self) -> dict[str, Any]:
        """What a result says of the data."""
        return {
            "corpus": self.origin.corpus,
            "source": self.origin.source,
            "location": self.origin.location,
            "revision": self.origin.revision,
            "sha256": self.key,
            "rows": len(self.digests),
            "sequences": len(self.ids),
            "seqlen": self.longest,
            "scored_tokens": int(self.scored.sum()),
            "scored": self.what,
            "left_out": self.left_out,
            "unanswered": self.unanswered,
            "cut": self.cut,
        }


def text_windows(
    source: Source, tokenizer: Any, n_samples: int | None, seqlen: int | None
) -> Scored:
    """Consecutive windows that do not overlap; every token but a window's first is predicted.

    Documents are joined as the source says: by its own separator (WikiText's blank line), or each
    closed by EOS. What does not fill the last window is left out.

    Args:
        source: the corpus; windows that are tokenised already are taken as they are.
        tokenizer: the model's.
        n_samples: at most so many windows; None: all.
        seqlen: tokens in a window; None: as the source has them.
    """
    check_end(source, n_samples)
    first, rows = _begun(source)
    rows = _alike(rows, type(first), source)
    if isinstance(first, Tokens):
        windows, used = _as_they_are(rows, n_samples, seqlen)
    elif seqlen is None:
        raise Refusal("seqlen", None, "must be set for a text that is not tokenised yet")
    elif isinstance(first, Text) and source.joint is not None:
        windows, used = _running(rows, source.joint, tokenizer, n_samples, seqlen)
    else:
        windows, used = _closed_by_eos(rows, tokenizer, n_samples, seqlen)
    if not windows:
        raise Refusal("seqlen", seqlen, "the text fills no window of so many tokens; lower it")
    ids = torch.tensor(windows, dtype=torch.long)
    if ids.shape[1] < 2:
        raise Refusal("seqlen", ids.shape[1], "a window must have at least two tokens")
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, -1] = False
    lengths = torch.full((len(ids),), ids.shape[1])
    return Scored(ids, lengths, scored, "windows", source.origin(), Contents.of(used))


def responses(
    source: Source, tokenizer: Any, template: Template, n_samples: int | None, seqlen: int | None
) -> Scored:
    """Prompts with their gold responses; only the response and what ends it are scored.

    A sequence is cut at `seqlen`; one whose response lies wholly behind the cut is left out. Both
    are counted.

    Args:
        source: a corpus of instructions.
        tokenizer: the model's.
        template: how an instruction becomes a prompt.
        n_samples: at most so many examples; None: all.
        seqlen: at most so many tokens in a sequence.
    """
    check_template(template, tokenizer)
    check_end(source, n_samples)
    rows, unanswered = instructions(source, n_samples)
    wholes: list[list[int]] = []
    starts: list[int] = []
    used: list[Row] = []
    cut = 0
    for row, (start, whole) in zip(rows, teacher_forced(rows, tokenizer, template), strict=True):
        kept = whole[:seqlen]
        if start < len(kept):
            wholes.append(kept)
            starts.append(start)
            used.append(row)
            cut += len(kept) < len(whole)
    if not wholes:
        raise Refusal("seqlen", seqlen, "no response begins within so many tokens; raise it")
    return Scored(
        **vars(sequences(wholes, starts, tokenizer.pad_token_id, "responses")),
        origin=source.origin(),
        contents=Contents.of(used),
        left_out=len(rows) - len(wholes),
        unanswered=unanswered,
        cut=cut,
    )


def sequences(
    wholes: Sequence[Sequence[int]], starts: Sequence[int], pad: int, what: str
) -> Sequences:
    """Sequences in which what is predicted from a place on is scored, up to the end.

    Args:
        wholes: tokens.
        starts: in each, the place of the first token that is scored; not the first of all.
        pad: token that fills them up.
        what: they are.
    """
    lengths = torch.tensor([len(ids) for ids in wholes])
    ids = torch.full((len(wholes), int(lengths.max())), pad)
    scored = torch.zeros_like(ids, dtype=torch.bool)
    for i, (whole, start) in enumerate(zip(wholes, starts, strict=True)):
        ids[i, : len(whole)] = torch.tensor(whole)
        scored[i, start - 1 : len(whole) - 1] = True
    return Sequences(ids, lengths, scored, what)


def _alike(rows: Iterator[Row], kind: type[Row], source: Source) -> Iterator[Row]:
    """Raises:
    Refusal: a row of another kind than the first: a text is made of documents or of instructions.
    """
    for number, row in enumerate(rows, 1):
        if not isinstance(row, kind):
            names = {Text: "a document", Instruction: "an instruction", Tokens: "a window"}
            reason = f"its row {number} is {names[type(row)]}, the first is {names[kind]}"
            raise Refusal("source", source.origin().corpus, reason)
        yield row


def check_end(source: Source, n_samples: int | None) -> None:
    """For the setting `n_samples`.

    Raises:
        Refusal: all of a corpus that has no end, or so many of its rows that nobody can mean it.
    """
    if source.endless and (n_samples is None or n_samples > MOST):
        reason = f"{source.origin().corpus} is {source.origin().source} and has no end"
        raise Refusal("n_samples", n_samples, f"{reason}; set a number up to {MOST}")


def asks(source: Source) -> bool:
    """Whether the corpus consists of instructions."""
    first, _ = _begun(source)
    return isinstance(first, Instruction)


def _begun(source: Source) -> tuple[Row, Iterator[Row]]:
    """The first row for evaluation, and all of them, the first included."""
    rows = answered(source.rows("evaluation", None))
    first = next(rows, None)
    if first is None:
        raise Refusal("source", source.origin().corpus, "has no row for evaluation")
    return first, chain((first,), rows)


def instructions(source: Source, n_samples: int | None) -> tuple[list[Instruction], int]:
    """The instructions for evaluation, and how many among them nobody has answered.

    Args:
        source: a corpus of instructions.
        n_samples: at most so many that are answered; None: all.

    Raises:
        Refusal: none, or rows of another kind.
    """
    corpus = source.origin().corpus
    found: list[Instruction] = []
    unanswered = 0
    for row in source.rows("evaluation", None):
        if not isinstance(row, Instruction):
            reason = "must hold instructions: fields instruction, input and output"
            raise Refusal("source", corpus, reason)
        if row.answered:
            found.append(row)
        unanswered += not row.answered
        if len(found) == n_samples:
            break
    if not found:
        why = f": nobody has answered its {unanswered} instructions" if unanswered else ""
        raise Refusal("source", corpus, f"has no row for evaluation{why}")
    return found, unanswered


def teacher_forced(
    rows: Iterable[Instruction], tokenizer: Any, template: Template
) -> Iterator[tuple[int, list[int]]]:
    """Where the response begins, and the ids of prompt, response and what ends it.

    That is EOS, or in a chat what the template ends the assistant's turn with.

    Prompt and response are tokenised together, as the model sees them, if the prompt's own tokens
    are kept by that; else apart.
    """
    options = tokenizing(template)
    for row in rows:
        asked = prompt(row, template, tokenizer)
        before = tokenizer(asked, **options)["input_ids"]
        text, closed = answer(row, template, tokenizer)
        whole = tokenizer(asked + text, **options)["input_ids"]
        if whole[: len(before)] != before:
            whole = before + tokenizer(text, add_special_tokens=False)["input_ids"]
        yield len(before), whole if closed else [*whole, tokenizer.eos_token_id]


def _as_they_are(
    rows: Iterator[Row], n_samples: int | None, seqlen: int | None
) -> tuple[list[list[int]], Iterable[Row]]:
    kept = [row for row in islice(rows, n_samples) if isinstance(row, Tokens)]
    width = len(kept[0].ids)
    if seqlen not in (None, width):
        raise Refusal("seqlen", seqlen, f"the tensor's windows have {width} tokens")
    return [list(row.ids) for row in kept], kept


def _closed_by_eos(
    rows: Iterator[Row], tokenizer: Any, n_samples: int | None, seqlen: int
) -> tuple[list[list[int]], Iterable[Row]]:
    tokens = joined(encode(rows, tokenizer, "alpaca"))
    kept = list(islice(tokens, None if n_samples is None else n_samples * seqlen))
    count = len(kept) // seqlen
    kept = kept[: count * seqlen]
    ids = [token for _, token in kept]
    windows = [ids[i * seqlen : (i + 1) * seqlen] for i in range(count)]
    return windows, {row for row, _ in kept}


def _running(
    rows: Iterator[Any], joint: str, tokenizer: Any, n_samples: int | None, seqlen: int
) -> tuple[list[list[int]], Iterable[Row]]:
    """One text of all documents, tokenised in one piece, as WikiText's perplexity is defined.

    Documents are taken on, twice as many each time, until they fill the windows that are asked for:
    a large corpus is not read whole.
    """
    documents: list[Text] = []
    batch = 256
    while True:
        more = list(islice(rows, batch))
        documents += more
        found = tokenizer(joint.join(row.text for row in documents), verbose=False)
        ids = found["input_ids"]
        if not more or (n_samples is not None and len(ids) >= n_samples * seqlen):
            break
        batch *= 2
    count = len(ids) // seqlen if n_samples is None else min(n_samples, len(ids) // seqlen)
    windows = [ids[i * seqlen : (i + 1) * seqlen] for i in range(count)]
    return windows, _begun_by(found, count * seqlen, documents, joint)


def _begun_by(found: Any, tokens: int, documents: list[Text], joint: str) -> Iterator[Text]:
    """The documents of which something is in the first `tokens` tokens of their joined text.

    All of them where a tokenizer (one written in Python) does not know a token's characters.
    """
    spans = (found.token_to_chars(i) for i in reversed(range(tokens))) if found.is_fast else ()
    end = next((span.end for span in spans if span is not None), None)  # None: a special token
    begin = 0
    for row in documents:
        if end is not None and begin >= end:
            break
        yield row
        begin += len(row.text) + len(joint)
