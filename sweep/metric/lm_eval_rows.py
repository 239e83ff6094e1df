"""What is kept of every question that lm-evaluation-harness has asked: a row, in plain words.

Its own sample is in it whole. Beside that stand prompt, gold and answer as the other metrics of
answers have them, so that reports show them side by side with the dense model's: of a choice, the
text of the likeliest; of a continuation, whether the model would have said it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from sweep.metric.lm_eval_tasks import Task

KEPT = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
HASHES = ("doc_hash", "prompt_hash", "target_hash")
UNSCORED = (*KEPT, *HASHES, "task", "filter", "prompt", "gold")
OTHER = "(something else)"


def by_filter(
    found: Mapping[str, Any], tasks: Mapping[str, Task]
) -> dict[str, list[dict[str, Any]]]:
    """Rows by task, and by filter where a task has several readings of an answer."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for task, samples in found["samples"].items():
        for sample in samples:
            scores = {name: sample[name] for name in sample["metrics"]}
            row = {"task": task, "filter": sample["filter"], **scores}
            marked = tasks[task].marked(sample["doc"])
            row |= _said(found["configs"][task].get("output_type"), sample, marked)
            if (right := _right(sample)) is not None:
                row["right"] = right
            row |= {key: sample[key] for key in (*KEPT, *HASHES)}
            rows.setdefault(corpus_of(task, sample["filter"]), []).append(row)
    return rows


def corpus_of(task: str, filter: str) -> str:
    return task if filter == "none" else f"{task}-{filter}"


def beside(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the dense model's scores."""
    scores = [key for key in row if key not in UNSCORED]
    return {**row, **{f"dense_{key}": before[key] for key in scores}}


def _right(sample: Mapping[str, Any]) -> float | None:
    """The first score that says right or wrong; None: there is none."""
    scores = [sample[name] for name in sample["metrics"]]
    return next((float(s) for s in scores if isinstance(s, int | float) and s in (0, 1)), None)


def _said(kind: str | None, sample: Mapping[str, Any], marked: int | None) -> dict[str, str]:
    """Prompt, gold and answer; empty for a task that only measures how likely a text is.

    Args:
        kind: the task's type of output.
        sample: the harness's.
        marked: see `Task`.
    """
    if kind == "loglikelihood_rolling":
        return {}
    asked, target = sample["arguments"], sample["target"]
    prompt = str(asked[0][0])
    if kind == "generate_until":
        found = sample["filtered_resps"][0]
        return {"prompt": prompt, "gold": str(target), "answer": str(found)}
    if kind == "loglikelihood":
        gold, (_, greedy) = str(asked[0][1]).strip(), sample["filtered_resps"][0]
        return {"prompt": prompt, "gold": gold, "answer": gold if greedy else OTHER}
    if "acc_mutual_info" in sample["metrics"]:  # behind the choices, each without its prompt
        asked = asked[: len(asked) // 2]
    if marked is not None:
        target = marked
        prompt, choices = _contexts(asked)
    else:
        choices = [str(one[1]).strip() for one in asked]
    likely = [float(one[0]) for one in sample["filtered_resps"]][: len(choices)]
    known = isinstance(target, int) and 0 <= target < len(choices)
    gold = choices[target] if known else str(target)
    return {"prompt": prompt, "gold": gold, "answer": choices[likely.index(max(likely))]}


def _contexts(asked: Sequence[Sequence[Any]]) -> tuple[str, list[str]]:
    """The words with which all contexts begin, and how each goes on to what they all end with."""
    words = [re.findall(r"\S+\s*|\s+", str(one[0])) for one in asked]
    alike = takewhile(lambda at: len(set(at)) == 1, zip(*words, strict=False))
    prompt = "".join(at[0] for at in alike)
    return prompt.strip(), [f"{one[0]}{one[1]}"[len(prompt) :].strip() for one in asked]
