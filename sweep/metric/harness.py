"""lm-evaluation-harness: its evaluation of a model that is in memory.

What its command does before it evaluates (seeds, few-shot examples) is done here in the same way,
so that its numbers are the same; its bars and remarks are left out.
"""

from __future__ import annotations

import contextlib
import copy
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sweep.metric.lm_eval_load import quiet
from sweep.metric.lm_eval_tasks import SEEDS, Task
from sweep.metric.subject import Subject
from sweep.model.finite import culprit
from sweep.numerics.products import plain_linears


def evaluate(subject: Subject, tasks: Sequence[Task], batch_size: int | None) -> dict[str, Any]:
    """What the harness finds: `results`, `samples`, `versions`, `n-shot`, `n-samples`, ….

    Args:
        subject: the model.
        tasks: as `read` gave them together.
        batch_size: None: the subject's.

    Raises:
        FloatingPointError: the model's logits are no numbers; names the layer.
    """
    from lm_eval.evaluator import evaluate as evaluated
    from lm_eval.models.huggingface import HFLM

    with quiet(), _seeded(), plain_linears():
        model = HFLM(
            pretrained=subject.model,
            tokenizer=copy.deepcopy(subject.tokenizer),  # it sets what it needs
            batch_size=batch_size or subject.batch_size,
        )
        model._device = subject.device  # of a model that is spread, the first weight may be nowhere
        for task in tasks:
            task.set_shots()
        model.set_cache_hook(_Ticks(subject, [task.inner for task in tasks]))
        with _numbers(subject.model):
            found = evaluated(
                lm=model,
                task_dict=dict(tasks[0].everything),
                limit=tasks[0].limit,
                bootstrap_iters=0,  # intervals are made as those of all metrics
                log_samples=True,
                apply_chat_template=tasks[0].chat is not None,
                fewshot_as_multiturn=tasks[0].chat is not None,
            )
    plain: dict[str, Any] = _plain(found)
    return plain


@contextlib.contextmanager
def _numbers(model: Any) -> Iterator[None]:
    """The harness takes what is no number for an answer like any other; here it is an error."""
    wrong = False

    def look(_: Any, args: Any, given: Any, answer: Any) -> None:
        nonlocal wrong
        if wrong:  # the culprit is being looked for
            return
        wrong = not bool(answer.logits.amax() < math.inf)  # NaN, where there is any, is the maximum
        if wrong:
            ids = given["input_ids"] if "input_ids" in given else args[0]
            raise FloatingPointError(f"lm_eval: NaN or infinity; {culprit(model, ids)}")

    hook = model.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


class _Ticks:
    """Shows how far the harness is: it tells its cache of every answer."""

    def __init__(self, subject: Subject, tasks: Sequence[Any]) -> None:
        self._subject = subject
        self._tasks = tasks
        self._stderr = sys.__stderr__ or sys.stderr
        self._loop: Iterator[Any] | None = None

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """One more answer."""
        with contextlib.redirect_stderr(self._stderr):  # which is silent meanwhile
            if self._loop is None:
                total = sum(len(task.instances) for task in self._tasks)
                self._loop = iter(self._subject.progress(range(total), "lm_eval", total))
            next(self._loop, None)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Its seeds, for as long as it works; no other metric is to notice."""
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    torch.manual_seed(SEEDS["torch"])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])


def _plain(found: Any) -> Any:
    """As plain data that JSON holds: infinity, which a log-likelihood may be, becomes a word."""
    if isinstance(found, Mapping):
        return {str(key): _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(value) for value in found]
    if isinstance(found, np.generic):
        return _plain(found.item())
    if isinstance(found, float) and not math.isfinite(found):
        return str(found)
    return found if isinstance(found, str | int | float | bool | None) else str(found)
