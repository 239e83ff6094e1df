"""`python -m benchmarks.metrics`: what measuring costs, against the plain way to the same numbers.

The plain way computes two full log-softmaxes and keeps what it makes of them, passes both models
over a text for every metric that reads it, and answers one prompt at a time. Both sides get the
same inputs, and their results are compared. Memory is that of processes of their own. Writes
benchmarks/metrics.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.contest import (
    Contest,
    arguments,
    machine,
    peak_begins,
    resident,
    show,
    turns,
    write,
)
from sweep.data.embedded import Exercises, Prose
from sweep.files import Kept
from sweep.metric import draft
from sweep.metric.generate import generate
from sweep.metric.questions import read_questions
from sweep.metric.scan import CHUNK_ON_CPU, scan
from sweep.metric.subject import Subject
from sweep.metric.text import Scored, text_windows
from sweep.model import anatomy
from sweep.model.embedded import Tiny
from sweep.model.reading import load_tokenizer
from sweep.model.weights import load
from sweep.numerics.divergence import Divergence, compare

VOCABULARY = 32_000
PLAIN = "two full log-softmaxes"


def plain(dense: Tensor, compressed: Tensor, gold: Tensor) -> Divergence:
    """The definitions, written down."""
    log_p, log_q = dense.float().log_softmax(-1), compressed.float().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    log_m = ((p + q) / 2).log()
    at = gold[:, None]
    return Divergence(
        jsd=((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) / 2,
        kl_dense_compressed=(p * (log_p - log_q)).sum(-1),
        kl_compressed_dense=(q * (log_q - log_p)).sum(-1),
        agrees=log_p.argmax(-1) == log_q.argmax(-1),
        gold_change=(q - p).gather(1, at)[:, 0],
        loss_dense=-log_p.gather(1, at)[:, 0],
        loss_compressed=-log_q.gather(1, at)[:, 0],
    )


def apart(ours: Divergence, theirs: Divergence) -> str:
    """The largest difference of any measure at any position."""
    most = max(
        float((a.float() - b.float()).abs().max()) for a, b in zip(ours, theirs, strict=True)
    )
    return f"within {most:.0e} nats"


def random_logits(positions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a dense and a compressed model, and the tokens that follow."""
    random = torch.Generator().manual_seed(0)
    dense = 3 * torch.randn(positions, VOCABULARY, generator=random)
    compressed = dense + 0.3 * torch.randn(positions, VOCABULARY, generator=random)
    return dense, compressed, torch.randint(VOCABULARY, (positions,), generator=random)


def distribution(positions: int, runs: int) -> Contest:
    """Everything about two distributions, given the logits; anew for each of several turns, because
    where in memory they come to lie matters."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        given = random_logits(positions)
        spent = turns(partial(compare, *given), partial(plain, *given), runs)
        ours += spent[0]
        theirs += spent[1]
    agreement = apart(compare(*given), plain(*given))
    work = f"distribution metrics, {positions} x {VOCABULARY:,} logits"
    return Contest(work, PLAIN, "s", 2.5, ours, theirs, agreement)


def head_and_metrics(side: str, positions: int) -> float:
    """MB that a process needs beyond last hidden states and the head; the head is a small one."""
    random = torch.Generator().manual_seed(0)
    head = torch.randn(VOCABULARY, 32, generator=random)
    dense = torch.randn(positions, 32, generator=random)
    compressed = dense + 0.1 * torch.randn(positions, 32, generator=random)
    gold = torch.randint(VOCABULARY, (positions,), generator=random)
    compare(dense[:1] @ head.T, compressed[:1] @ head.T, gold[:1])  # threads and libraries are up
    before = peak_begins()
    rows = min(CHUNK_ON_CPU // VOCABULARY, positions) if side == "ours" else positions
    for part in range(0, positions, rows):
        some = slice(part, part + rows)
        way = compare if side == "ours" else plain
        way(dense[some] @ head.T, compressed[some] @ head.T, gold[some])
    return resident("VmHWM") - before


def memory(positions: int, runs: int) -> Contest:
    """Each side in processes of its own."""

    def side(name: str) -> float:
        words = [sys.executable, "-m", "benchmarks.metrics", "--side", name]
        words += ["--positions", str(positions)]
        return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    measured = [(side("ours"), side("theirs")) for _ in range(runs)]
    work = f"the same from last hidden states, {positions} positions: memory"
    return Contest(work, PLAIN, "MB", 10, [a for a, _ in measured], [b for _, b in measured])


@contextmanager
def embedded(ratio: float = 0.5) -> Iterator[tuple[Any, Any, Any]]:
    """The embedded model and a magnitude-pruned copy, a subject maker, and the tokenizer."""
    checkpoint = Tiny(device="cpu")
    dense, compressed = load(checkpoint), load(checkpoint)
    for matrix in anatomy.prunable(compressed).values():
        weight = matrix.weight
        matrix.put(weight * (weight.abs() >= weight.abs().float().quantile(ratio)))
    tokenizer = load_tokenizer(checkpoint)
    with tempfile.TemporaryDirectory() as folder:

        def subject(model: Any, batch_size: int = 32) -> Subject:
            return Subject(
                model,
                tokenizer,
                batch_size=batch_size,
                progress=lambda items, what, total: items,
                memory=Kept(folder),
            )

        yield subject, (dense, compressed), tokenizer


@torch.inference_mode()
def naive_pass(models: tuple[Any, ...], text: Scored) -> list[Tensor]:
    """Logits at the scored positions, one sequence at a time."""
    found: list[list[Tensor]] = [[] for _ in models]
    for ids, length, scored in zip(text.ids, text.lengths, text.scored, strict=True):
        for model, logits in zip(models, found, strict=True):
            logits.append(model(ids[None, :length]).logits[0][scored[:length]])
    return [torch.cat(logits) for logits in found]


def shared_pass(runs: int, windows: int) -> Contest:
    """Perplexity of a compressed model and its divergence from the dense one, over one text."""
    with embedded() as (subject, (dense, compressed), tokenizer):
        text = text_windows(Prose("c4"), tokenizer, windows, 256)
        gold = torch.cat([ids[1:] for ids in text.ids])
        reference = subject(dense)
        reference.remember_hidden(text)  # once for all cells

        def ours() -> tuple[float, float]:
            seen = scan(subject(compressed), text, reference)
            assert seen.divergence is not None
            return float(seen.loss.mean()), float(seen.divergence["jsd"].mean())

        def theirs() -> tuple[float, float]:
            (logits,) = naive_pass((compressed,), text)
            loss = -logits.log_softmax(-1).gather(1, gold[:, None]).mean()
            found = plain(*naive_pass((dense, compressed), text), gold)
            return float(loss), float(found.jsd.mean())

        spent = turns(ours, theirs, runs)
        most = max(abs(a - b) for a, b in zip(ours(), theirs(), strict=True))
    work = f"perplexity and divergence of one text, embedded model, {windows} x 256 tokens"
    against = "a pass of each model per metric, a sequence at a time"
    note = "the dense model's pass of ours is made before, once for all cells of a sweep"
    return Contest(work, against, "s", None, *spent, f"within {most:.0e} nats", note)


def generation(runs: int, count: int) -> list[Contest]:
    """Greedy answers: in batches and one at a time; with the dense model's as drafts, and without.

    The latter with so few weights gone that most answers are the dense model's, and with so many
    that hardly any is.
    """
    with embedded() as (subject, (dense, half), tokenizer):
        questions = read_questions(
            {"alpaca": Exercises("alpaca", "plain")},
            tokenizer,
            n_samples=count,
            seqlen=256,
            template="alpaca",
            max_new_tokens=64,
            stop=(),
        )["alpaca"]
        end = [tokenizer.eos_token_id]

        def answers(model: Any, batch_size: int = 32, drafts: Any = None) -> list[list[int]]:
            said = generate(
                subject(model, batch_size),
                questions.prompts,
                max_new_tokens=64,
                stop=(),
                name="answers",
                drafts=drafts,
            )
            return [answer.tokens if answer.full else answer.tokens + end for answer in said]

        def generated(model: Any, drafts: Any) -> list[list[int]]:
            """Drafts tell which answers may end together, and no more."""
            with patch.object(draft, "EXACT", ()):
                return answers(model, drafts=drafts)

        def contest(work: str, against: str, ours: Any, theirs: Any) -> Contest:
            spent = turns(ours, theirs, runs)
            same = sum(a == b for a, b in zip(ours(), theirs(), strict=True))
            work = f"{count} greedy answers of the embedded model, {work}"
            agreement = f"{same} of {count} answers the same"
            return Contest(work, against, "s", None, *spent, agreement)

        said = answers(dense)
        found = [
            contest("dense", "one at a time", partial(answers, dense), partial(answers, dense, 1))
        ]
        with embedded(0.2) as (_, (_, most), _), embedded(0.8) as (_, (_, few), _):
            for ratio, pruned in ((20, most), (50, half), (80, few)):
                alike = sum(a == b for a, b in zip(answers(pruned), said, strict=True))
                found.append(
                    contest(
                        f"magnitude {ratio} %, {alike} of them the dense model's",
                        "all of them generated",
                        partial(answers, pruned, drafts=said),
                        partial(generated, pruned, said),
                    )
                )
        return found


def main() -> None:
    """Measure, print, write."""
    parser = arguments("benchmarks.metrics", __doc__.splitlines()[0])
    parser.add_argument("--side", choices=("ours", "theirs"), help="memory of one side, in MB")
    parser.add_argument("--positions", type=int, default=2048)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(head_and_metrics(options.side, options.positions)))
        return
    where = machine()  # the code as it is now, whatever is edited meanwhile
    runs = 1 if options.quick else options.runs
    with torch.inference_mode():
        contests = [distribution(128 if options.quick else 1024, runs)]
    contests.append(memory(512 if options.quick else options.positions, runs))
    contests.append(shared_pass(runs, 4 if options.quick else 32))
    contests += generation(runs, 16 if options.quick else 200)
    show(contests, where)
    if not options.quick:
        write("metrics", contests, where)


if __name__ == "__main__":
    main()
