"""lm-evaluation-harness: its tasks, and its evaluation of a model that is in memory.

The only file that imports it. What its command does before it evaluates (seeds, few-shot examples)
is done here in the same way, so that its numbers are the same; its bars and remarks are left out.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import io
import json
import logging
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweep.data.repository import COMMIT
from sweep.data.row import Contents, Text
from sweep.hub import asking, of_the_hub
from sweep.metric.subject import Subject
from sweep.model.finite import culprit
from sweep.refusal import Refusal

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
"""Those of its command."""

UNSAFE = "runs code that the model writes, which is not done here; leave it out"


@dataclass(frozen=True)
class Task:
    """A task with its questions.

    Attributes:
        name: the task's.
        inner: the harness's object.
        everything: all tasks and groups that were asked for, as the harness evaluates them.
        longest: 0, since it cuts what is longer than the model takes.
    """

    name: str
    inner: Any
    everything: Mapping[str, Any]
    longest: int = 0

    @cached_property
    def documents(self) -> list[str]:
        """Hash of every question, in its order, as the harness makes it."""
        return [_hash(doc) for doc in self.inner.eval_docs]

    @cached_property
    def contents(self) -> Contents:
        """Of the texts in its questions."""
        return Contents.of(
            Text(value)
            for doc in self.inner.eval_docs
            for value in doc.values()
            if isinstance(value, str) and value.strip()
        )

    @property
    def digests(self) -> frozenset[str]:
        """Hashes of its questions."""
        return frozenset(self.documents)

    @cached_property
    def dataset(self) -> dict[str, str | None]:
        """Its data set's `dataset_revision` on the hub, if it is from there, and fingerprint."""
        return _dataset(self.inner)


def installed() -> str:
    """Its version.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return version("lm-eval")


def read(names: Sequence[str], include: Path | None, *, chat: bool, tokenizer: Any) -> list[Task]:
    """The tasks of these names, with their data.

    Args:
        names: of tasks, groups or tags.
        include: folder with task files; its own are looked at first.
        chat: whether prompts are put into the chat template.
        tokenizer: must have one, then.

    Raises:
        Refusal: an unknown name, data that are not to be had, or a task that cannot run here.
    """
    if chat and not getattr(tokenizer, "chat_template", None):
        raise Refusal("apply_chat_template", True, "the model's tokenizer has no chat template")
    with _quiet():
        loaded = _load(names, include)
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise Refusal("tasks", name, UNSAFE)
        if getattr(task, "MULTIMODAL", False):
            raise Refusal("tasks", name, "asks about images; give tasks of text")
    return [Task(name, task, loaded) for name, task in loaded["tasks"].items()]


def evaluate(
    subject: Subject,
    tasks: Sequence[Task],
    *,
    num_fewshot: int | None,
    limit: int | None,
    batch_size: int | None,
    chat: bool,
) -> dict[str, Any]:
    """What the harness finds: `results`, `samples`, `versions`, `n-shot`, `n-samples`, ….

    Args:
        subject: the model.
        tasks: as `read` gave them.
        num_fewshot: examples before each question; None: as each task has it, or none.
        limit: questions of each task; None: all.
        batch_size: None: the subject's.
        chat: whether prompts are put into the chat template.

    Raises:
        FloatingPointError: the model's logits are no numbers; names the layer.
    """
    from lm_eval.evaluator import evaluate as evaluated
    from lm_eval.models.huggingface import HFLM

    with _quiet(), _seeded():
        model = HFLM(
            pretrained=subject.model,
            tokenizer=copy.deepcopy(subject.tokenizer),  # it sets what it needs
            batch_size=batch_size or subject.batch_size,
        )
        model._device = subject.device  # of a model that is spread, the first weight may be nowhere
        for task in tasks:
            _set_shots(task.inner, num_fewshot)
            task.inner.set_fewshot_seed(seed=SEEDS["fewshot"])
        model.set_cache_hook(_Ticks(subject, [task.inner for task in tasks]))
        with _numbers(subject.model):
            found = evaluated(
                lm=model,
                task_dict=dict(tasks[0].everything),
                limit=limit,
                bootstrap_iters=0,  # intervals are made as those of all metrics
                log_samples=True,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
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
        wrong = bool((answer.logits.isnan() | answer.logits.isposinf()).any())
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


def _load(names: Sequence[str], include: Path | None) -> Mapping[str, Any]:
    """By the user's own task files alone where these suffice: to index its own takes seconds."""
    from lm_eval.tasks import TaskManager

    if include is not None:
        _check_files(include)
    manager = TaskManager(include_path=include, include_defaults=include is None)
    if include is not None and not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include)
    known = manager.all_tasks
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            reason = f"no such task; {hint}lm_eval ls tasks lists all {len(known)}"
            raise Refusal("tasks", name, reason)
        if (manager.task_index[name].cfg or {}).get("unsafe_code"):
            raise Refusal("tasks", name, UNSAFE)
    found: Mapping[str, Any]
    with asking("tasks", ",".join(names), "the data of these tasks"):
        try:
            found = manager.load(list(names))
        except KeyError:  # a group of one's own may have tasks that are not
            manager = TaskManager(include_path=include)
            found = _loaded(manager, names, include)
        except Exception as error:
            if of_the_hub(error) and not _is_of_a_file(manager, names):
                raise
            found = _loaded(manager, names, include)
    return found


def _loaded(manager: Any, names: Sequence[str], include: Path | None) -> Mapping[str, Any]:
    """The tasks, one after the other first, so that a mistake is told of the one that has it."""
    for name in names:
        try:
            manager.load([name])
        except Exception as error:  # a task is a program of its own, and fails as it likes
            if of_the_hub(error) and not _is_of_a_file(manager, [name]):
                raise
            file = manager.task_index[name].yaml_path
            reason = f"cannot be used ({_words(error)})"
            if include is not None and file is not None and include in Path(file).parents:
                raise Refusal("include_path", include, f"{file}: {reason}") from error
            raise Refusal("tasks", name, reason) from error
    found: Mapping[str, Any] = manager.load(list(names))
    return found


def _is_of_a_file(manager: Any, names: Sequence[str]) -> bool:
    """Whether the tasks' data are files that the tasks name, and not of the hub."""
    paths = ((manager.task_index[name].cfg or {}).get("dataset_path") for name in names)
    return all(path in ("json", "csv", "parquet", "text", "arrow") for path in paths)


def _words(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, KeyError):
        return f"no such key, split or metric: {error}"
    told = error.__cause__ if error.__cause__ is not None else error
    return (str(told).splitlines() or [""])[0] or type(told).__name__


def _check_files(include: Path) -> None:
    """Raises: Refusal: a task file that is no YAML, which the harness would pass over."""
    import yaml

    for file in sorted(include.rglob("*.yaml")):
        try:
            node = yaml.compose(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            place = "" if mark is None else f"line {mark.line + 1}: "
            problem = getattr(error, "problem", None) or _words(error)
            reason = f"{file}: {place}is no YAML ({problem})"
            raise Refusal("include_path", include, reason) from error
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, value in pairs:
            included = key.value == "include" and isinstance(value, yaml.ScalarNode)
            if included and not (file.parent / value.value).is_file():
                reason = f"{file}: includes {value.value}, which is not there"
                raise Refusal("include_path", include, reason)


def _dataset(task: Any) -> dict[str, str | None]:
    """Which data a task has asked of: the commit on the hub, and the fingerprint of `datasets`."""
    splits = getattr(task, "dataset", None) or {}
    split = task.config.test_split or task.config.validation_split
    data = splits.get(split) if isinstance(splits, Mapping) else None
    files = getattr(data, "cache_files", None) or []
    folders = [Path(file["filename"]).parent.name for file in files]
    commits = [name for name in folders if COMMIT.fullmatch(name)]
    return {
        "dataset_revision": commits[0] if commits else None,
        "dataset_fingerprint": getattr(data, "_fingerprint", None),
    }


def _set_shots(task: Any, shots: int | None) -> None:
    """As its command does: a task that wants none keeps none."""
    own = task.get_config("num_fewshot")
    if shots is None:
        task.set_config(key="num_fewshot", value=own or 0)
    elif own != 0:
        task.set_config(key="num_fewshot", value=shots)


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its bars and remarks."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


def _hash(doc: Any) -> str:
    from lm_eval.utils import handle_non_serializable

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


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


__all__ = ["SEEDS", "PackageNotFoundError", "Task", "evaluate", "installed", "read"]
