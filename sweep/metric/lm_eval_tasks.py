"""Tasks of lm-evaluation-harness with their questions, and what identifies their data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sweep.data.repository import COMMIT
from sweep.data.row import Contents, Text
from sweep.data.source import Origin
from sweep.metric.lm_eval_load import loaded, quiet
from sweep.refusal import Refusal

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
"""Those of its command."""


@dataclass(frozen=True)
class Task:
    """A task with its questions.

    Attributes:
        name: the task's.
        inner: the harness's object.
        everything: all tasks and groups that were asked for, as the harness evaluates them.
        shots: examples before each question as the task has it.
        num_fewshot, limit: as asked for.
        chat: puts turns into a chat template; None: prompts are asked as they are.
        longest: 0, since it cuts what is longer than the model takes.
    """

    name: str
    inner: Any
    everything: Mapping[str, Any]
    shots: int | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    chat: Callable[..., str] | None = None
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

    @property
    def prompts(self) -> list[str]:
        """Every text of which the model is asked something, as the harness puts it together."""
        return [part for _, parts in self._requests for part in parts if isinstance(part, str)]

    @cached_property
    def asked(self) -> list[tuple[str, str]]:
        """Hashes of every question that is asked, and of its prompt, as the harness makes them."""
        firsts = [str(parts[0]) for choice, parts in self._requests if choice == 0]
        return list(zip(self.documents, map(_sha256, firsts), strict=False))  # all, or its limit

    @cached_property
    def _requests(self) -> list[tuple[int, tuple[Any, ...]]]:
        """What the model is asked: which of a question's choices, and with which texts."""
        self.set_shots()
        with quiet():
            self.inner.build_all_requests(
                limit=self.limit,
                apply_chat_template=self.chat is not None,
                fewshot_as_multiturn=self.chat is not None,
                chat_template=self.chat,
            )
        return [(instance.idx, instance.args) for instance in self.inner.instances]

    @property
    def origin(self) -> Origin:
        """The harness."""
        return Origin(self.name, "lm_eval", installed(), "lm-evaluation-harness")

    def marked(self, doc: Mapping[str, Any]) -> int | None:
        """Which context a question marks as right, if its choices are contexts (Winogrande).

        Args:
            doc: the question, as the harness keeps it.

        Returns:
            None: choices of this task are continuations, if it has any.
        """
        if not getattr(self.inner, "multiple_input", 0):
            return None
        context: int = self.inner.doc_to_text(doc)
        return context

    def aggregation(self, metric: str) -> str | None:
        """What makes a value of this metric's rows, as the harness calls it; None: a task's own."""
        from lm_eval.api.registry import aggregation_registry

        made_by = self.inner.aggregation()
        if metric not in made_by:
            return "mean"  # as the harness then does
        known = aggregation_registry.items()
        return next((name for name, one in known if one is made_by[metric]), None)

    def set_shots(self) -> None:
        """As its command does: a task that wants no examples keeps none."""
        shots = self.shots or 0
        if self.num_fewshot is not None and self.shots != 0:
            shots = self.num_fewshot
        self.inner.set_config(key="num_fewshot", value=shots)
        self.inner.set_fewshot_seed(seed=SEEDS["fewshot"])

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


def read(
    names: Sequence[str],
    include: Path | None,
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
    chat: bool,
    tokenizer: Any,
) -> list[Task]:
    """The tasks of these names, with their data.

    Args:
        names: of tasks, groups or tags.
        include: folder with task files; its own are looked at first.
        num_fewshot: examples before each question; None: as each task has it, or none.
        limit: questions of each task; None: all.
        chat: whether prompts are put into the chat template.
        tokenizer: must have one, then.

    Raises:
        Refusal: an unknown name, data that are not to be had, or a task that cannot run here.
    """
    if chat and not getattr(tokenizer, "chat_template", None):
        raise Refusal("apply_chat_template", True, "the model's tokenizer has no chat template")
    found, shots = loaded(tuple(names), include, _files(include))
    put = partial(_put, tokenizer) if chat else None
    return [
        Task(name, task, found, shots[name], num_fewshot, limit, put)
        for name, task in found["tasks"].items()
    ]


def pools(tasks: Mapping[str, Task]) -> dict[tuple[str, str], list[str]]:
    """By group and metric, the tasks whose rows together make the group's value.

    There are such where a group counts its tasks by their size, and they mean over their rows.
    """
    found: dict[tuple[str, str], list[str]] = {}
    everything = next(iter(tasks.values())).everything
    for name, group in everything.get("groups", {}).items():
        members = [task.task_name for task in group.get_all_tasks()]
        for one in group.aggregate_metric_list or ():
            means = all(tasks[member].aggregation(one.metric) == "mean" for member in members)
            if one.weight_by_size and means:
                found[name, one.metric] = members
    return found


def _put(tokenizer: Any, turns: Any, add_generation_prompt: bool = True) -> str:
    """Turns in the tokenizer's chat template, as the harness's own model puts them."""
    how = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
    how["continue_final_message"] = not add_generation_prompt
    text: str
    try:
        text = tokenizer.apply_chat_template(turns, **how)
    except Exception:  # a template is a program of its own; some know no system
        users = [turn for turn in turns if turn["role"] != "system"]
        if users == turns:
            raise
        text = tokenizer.apply_chat_template(users, **how)
    return text


def commits(names: Sequence[str], include: Path | None) -> dict[str, str]:
    """The commits of those tasks' data sets that are of the hub, by task.

    Raises:
        Refusal: as `read`.
    """
    found, _ = loaded(tuple(names), include, _files(include))
    named = {name: _dataset(task)["dataset_revision"] for name, task in found["tasks"].items()}
    return {name: commit for name, commit in named.items() if commit is not None}


def fingerprint(folder: Path) -> str:
    """Over the names and bytes of all files in a folder: task files, their code and their data."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if "__pycache__" not in file.parts:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(folder)} {digest}\n".encode())
    return total.hexdigest()[:16]


def _files(include: Path | None) -> str:
    return "" if include is None else fingerprint(include)


def _dataset(task: Any) -> dict[str, str | None]:
    """Which data a task has asked of: the commit on the hub, and the fingerprint of `datasets`."""
    splits = getattr(task, "dataset", None) or {}
    split = task.config.test_split or task.config.validation_split
    data = splits.get(split) if isinstance(splits, Mapping) else None
    files = getattr(data, "cache_files", None) or []
    folders = [Path(file["filename"]).parent.name for file in files]
    known = [name for name in folders if COMMIT.fullmatch(name)]
    return {
        "dataset_revision": known[0] if known else None,
        "dataset_fingerprint": getattr(data, "_fingerprint", None),
    }


def _hash(doc: Any) -> str:
    from lm_eval.utils import handle_non_serializable

    return _sha256(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
