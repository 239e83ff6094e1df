"""Three ways to make windows of one length out of rows: `sample`, `concat`, `pad`.

The published code of SparseGPT and Wanda samples C4 (one window inside one long document); for
instructions, which are shorter than a window, the study does not say what it did, so the packing is
a setting, and part of a cell's identity.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch

from sweep.calib.calibration import Windows
from sweep.data.row import Contents, Instruction, Row, Text, Tokens
from sweep.data.source import Packing
from sweep.data.template import Answer, Template, answer, check_template, prompt, tokenizing
from sweep.refusal import Refusal

PATIENCE = 10_000
"""Documents in a row that may be too short before a corpus counts as one of short documents."""

CHUNK = 256
"""Rows that are tokenised in one call: the tokenizer then works in parallel."""


def pack(
    rows: Iterable[Row],
    tokenizer: Any,
    packing: Packing,
    n_samples: int,
    seqlen: int,
    seed: int,
    template: Template = "alpaca",
) -> Windows:
    """`n_samples` windows of `seqlen` tokens from rows in their order.

    Raises:
        Refusal: the rows end, or are all too short, before there are enough windows; or the
            tokenizer has no chat template, and it is asked for.
    """
    check_template(template, tokenizer)
    documents = encode(rows, tokenizer, template)
    if packing == "sample":
        return _sample(documents, n_samples, seqlen, random.Random(seed))
    if packing == "concat":
        return _concat(documents, n_samples, seqlen)
    return _pad(documents, tokenizer.pad_token_id, n_samples, seqlen)


class Document(NamedTuple):
    """A row as tokens.

    Attributes:
        row: the row.
        ids: its token ids; of an instruction, prompt and answer.
        end: what ends it, where something follows: EOS; nothing if the ids end it themselves.
    """

    row: Row
    ids: list[int]
    end: list[int]


def encode(rows: Iterable[Row], tokenizer: Any, template: Template) -> Iterator[Document]:
    """Every row with its token ids; an instruction with its prompt before and its answer after.

    Lazy, a chunk of rows at a time, since a source may be endless.
    """
    for chunk in _chunks(rows):
        texts = [_text(row, template, tokenizer) for row in chunk]
        asks = any(isinstance(row, Instruction) for row in chunk)
        options = tokenizing(template) if asks else {}
        found = tokenizer([text for text, _ in texts], **options)["input_ids"]
        for row, ids, (_, closed) in zip(chunk, found, texts, strict=True):
            yield Document(row, ids, [] if closed else [tokenizer.eos_token_id])


def joined(documents: Iterable[Document]) -> Iterator[tuple[Row, int]]:
    """One stream of tokens, each with its row; every document with its end."""
    for row, ids, end in documents:
        for token in chain(ids, end):
            yield row, token


def _text(row: Row, template: Template, tokenizer: Any) -> Answer:
    if isinstance(row, Text):
        return Answer(row.text, closed=False)
    if isinstance(row, Instruction):
        text, closed = answer(row, template, tokenizer)
        return Answer(prompt(row, template, tokenizer) + text, closed)
    raise TypeError("windows that are tokenised already are not packed")


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _sample(
    documents: Iterable[Document], n_samples: int, seqlen: int, rng: random.Random
) -> Windows:
    """A random window of every document that is longer than one; shorter documents are skipped."""
    windows: list[list[int]] = []
    used: list[Row] = []
    skipped = since = 0
    for row, ids, _ in documents:
        if len(ids) <= seqlen:
            skipped += 1
            since += 1
            if since > PATIENCE:
                break
            continue
        since = 0
        start = rng.randint(0, len(ids) - seqlen - 1)
        windows.append(ids[start : start + seqlen])
        used.append(row)
        if len(windows) == n_samples:
            return _full(windows, used, skipped)
    raise Refusal(
        "n_samples",
        n_samples,
        f"only {len(windows)} documents of more than {seqlen} tokens among the first "
        f"{len(windows) + skipped}; lower seqlen or n_samples, or set packing=concat",
    )


def _concat(documents: Iterable[Document], n_samples: int, seqlen: int) -> Windows:
    """Documents, each with its end, joined and cut into windows."""
    ids: list[int] = []
    used: set[Row] = set()
    for row, token in joined(documents):
        if len(ids) == n_samples * seqlen:
            break
        ids.append(token)
        used.add(row)
    count = len(ids) // seqlen
    if count < n_samples:
        raise Refusal(
            "n_samples",
            n_samples,
            f"the corpus fills only {count} windows of {seqlen} tokens; lower n_samples or seqlen",
        )
    windows = [ids[i * seqlen : (i + 1) * seqlen] for i in range(n_samples)]
    return _full(windows, used, 0)


def _pad(documents: Iterable[Document], pad: int, n_samples: int, seqlen: int) -> Windows:
    """One row per window, cut at `seqlen`, padded on the right, padding masked."""
    ids = torch.full((n_samples, seqlen), pad, dtype=torch.long)
    mask = torch.zeros((n_samples, seqlen), dtype=torch.bool)
    used: list[Row] = []
    count = 0
    for row, tokens, end in documents:
        kept = [*tokens, *end][:seqlen]
        ids[count, : len(kept)] = torch.tensor(kept)
        mask[count, : len(kept)] = True
        used.append(row)
        count += 1
        if count == n_samples:
            return Windows(ids, mask, Contents.of(used))
    raise Refusal("n_samples", n_samples, f"the corpus has only {count} rows; lower n_samples")


def _full(windows: list[list[int]], used: Iterable[Row], skipped: int) -> Windows:
    ids = torch.tensor(windows, dtype=torch.long)
    return Windows(ids, torch.ones_like(ids, dtype=torch.bool), Contents.of(used), skipped)


def fixed(rows: Iterable[Row], n_samples: int | None) -> Windows:
    """Windows that are tokenised already: the first `n_samples`, or all.

    Raises:
        Refusal: fewer windows than asked for.
    """
    kept = [row for row in rows if isinstance(row, Tokens)]
    if n_samples is not None and n_samples > len(kept):
        raise Refusal("n_samples", n_samples, f"the tensor holds {len(kept)} windows")
    kept = kept[:n_samples]
    return _full([list(row.ids) for row in kept], kept, 0)
