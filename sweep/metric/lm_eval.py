"""Tasks of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness).

Any of its tasks, on the model in memory; the values are those that its command finds on the
exported folder. What is added: intervals as of all metrics here, and what changed against dense.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from sweep.data.source import Origin
from sweep.metric import harness, lm_eval_tasks
from sweep.metric.lm_eval_rows import HASHES, beside, by_filter
from sweep.metric.lm_eval_tasks import SEEDS, Task
from sweep.metric.lm_eval_values import scores
from sweep.metric.metric import Examples, Metric, Result
from sweep.metric.subject import Subject
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class LmEval(Metric[Task]):
    """Scores of lm-evaluation-harness.

    Attributes:
        tasks: names of its tasks, groups or tags.
        include_path: a folder with task files of one's own.
        num_fewshot: examples before each question; None: as each task has it.
        limit: at most so many questions of each task; None: all.
        batch_size: None: the sweep's.
        apply_chat_template: whether prompts are put into the tokenizer's chat template.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"include_path"})

    tasks: tuple[str, ...]
    include_path: str | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    apply_chat_template: bool = False

    def __post_init__(self) -> None:
        """Raises: Refusal: no task, one that is named twice, or no such folder."""
        if not self.tasks:
            raise Refusal("tasks", "[]", "name at least one task of lm-evaluation-harness")
        if len(set(self.tasks)) < len(self.tasks):
            raise Refusal("tasks", list(self.tasks), "names a task twice")
        if (include := self._include()) is not None and not include.is_dir():
            raise Refusal("include_path", self.include_path, "no such folder; give one with tasks")

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`: tasks are fixed by the harness's version, the user's own files, and data.

        Raises:
            Refusal: the harness is not installed, or tasks that it cannot load.
        """
        try:
            revision = lm_eval_tasks.installed()
        except PackageNotFoundError as error:
            reason = "lm-evaluation-harness is not here: pip install 'compression-sweep[lm_eval]'"
            raise Refusal("tasks", list(self.tasks), reason) from error
        include = self._include()
        if include is not None:
            revision += f"+{lm_eval_tasks.fingerprint(include)}"
        if data := lm_eval_tasks.commits(self.tasks, include):
            revision += f"+{hashlib.sha256(str(sorted(data.items())).encode()).hexdigest()[:16]}"
        where = "lm-evaluation-harness" if self.include_path is None else self.include_path
        return tuple(Origin(name, "lm_eval", revision, where) for name in self.tasks)

    def load(self, tokenizer: Any) -> Mapping[str, Task]:
        """See `Metric`."""
        found = lm_eval_tasks.read(
            self.tasks,
            self._include(),
            num_fewshot=self.num_fewshot,
            limit=self.limit,
            chat=self.apply_chat_template,
            tokenizer=tokenizer,
        )
        return {task.name: task for task in found}

    def prepare(self, dense: Subject, data: Mapping[str, Task], kept: Examples) -> None:
        """See `Metric`; what the dense cell keeps of the same questions is taken from there."""
        if (rows := self._kept(data, kept)) is not None:
            dense.once("lm_eval rows", self._key(data), lambda: rows)
        else:
            self._rows(dense, data)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Task]) -> Result:
        """See `Metric`; the columns are the tasks' own values."""
        found, before = self._found(subject, data), self._rows(dense, data)
        examples = {
            name: [beside(*pair) for pair in zip(rows, before[name], strict=True)]
            for name, rows in by_filter(found, data).items()
        }
        scored = list(scores(found, examples, data))
        values = {score.name: score.value() for score in scored}
        flips = dict(change for score in scored for change in score.changes())
        revision = self.origins()[0].revision
        return Result(
            values=values | flips,
            columns=tuple(values),
            data=[_record(task, found, revision) for task in data.values()],
            examples=examples,
        )

    def _include(self) -> Path | None:
        return None if self.include_path is None else Path(self.include_path).expanduser()

    def _key(self, data: Mapping[str, Task]) -> str:
        return f"{self} {[(name, task.documents) for name, task in data.items()]}"

    def _found(self, subject: Subject, data: Mapping[str, Task]) -> dict[str, Any]:
        """What the harness finds, evaluated the first time only."""
        return subject.once(
            "lm_eval",
            self._key(data),
            lambda: harness.evaluate(subject, list(data.values()), self.batch_size),
        )

    def _rows(self, dense: Subject, data: Mapping[str, Task]) -> Examples:
        return dense.once(
            "lm_eval rows", self._key(data), lambda: by_filter(self._found(dense, data), data)
        )

    def _kept(self, data: Mapping[str, Task], kept: Examples) -> Examples | None:
        """The kept rows, if they are of exactly these questions in these prompts."""
        if {row["task"] for rows in kept.values() for row in rows} != data.keys():
            return None
        same = all(
            [(row["doc_hash"], row["prompt_hash"]) for row in rows] == data[rows[0]["task"]].asked
            for rows in kept.values()
        )
        return kept if same else None


def _record(task: Task, found: Mapping[str, Any], revision: str) -> dict[str, Any]:
    """What a result says of a task: its version, its settings, hashes of all it has asked."""
    samples = found["samples"][task.name]
    asked = "".join(f"{[sample[key] for key in HASHES]}\n" for sample in samples)
    config = found["configs"][task.name]
    return {
        "corpus": task.name,
        "source": "lm_eval",
        "location": config.get("dataset_path") or "lm-evaluation-harness",
        "dataset_name": config.get("dataset_name"),
        "revision": revision,
        **task.dataset,
        "version": found["versions"][task.name],
        "output_type": config.get("output_type"),
        "num_fewshot": found["n-shot"][task.name],
        "rows": found["n-samples"][task.name]["effective"],
        "of": found["n-samples"][task.name]["original"],
        "sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "seeds": SEEDS,
    }
