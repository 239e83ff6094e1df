"""Tasks of lm-evaluation-harness, found and loaded by it; what is wrong with one, in one line.

Loading is dear: the harness indexes 15,000 tasks, and their data come from the hub. So what is
loaded is kept for the process, and planning and measuring share it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from sweep.hub import asking, patiently
from sweep.hub_errors import of_the_hub
from sweep.refusal import Refusal, did_you_mean

UNSAFE = "runs code that the model writes, which is not done here; leave it out"


@cache
def loaded(
    names: tuple[str, ...], include: Path | None, files: str
) -> tuple[Mapping[str, Any], Mapping[str, int | None]]:
    """Tasks as `_load` gives them, and how many examples each has by itself; once for a process.

    Args:
        names: of tasks, groups or tags.
        include: folder with task files; its own are looked at first.
        files: a fingerprint of what is in the folder: others are other tasks.

    Raises:
        Refusal: an unknown name, data that are not to be had, or a task that cannot run here.
    """
    with quiet():
        found = _load(names, include)
    for name, task in found["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise Refusal("tasks", name, UNSAFE)
        if getattr(task, "MULTIMODAL", False):
            raise Refusal("tasks", name, "asks about images; give tasks of text")
    return found, {n: task.get_config("num_fewshot") for n, task in found["tasks"].items()}


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
            hint = did_you_mean(name, known, most=3)
            reason = f"no such task; {hint}lm_eval ls tasks lists all {len(known)}"
            raise Refusal("tasks", name, reason)
        if (manager.task_index[name].cfg or {}).get("unsafe_code"):
            raise Refusal("tasks", name, UNSAFE)
    try:
        with asking("tasks", ",".join(names), DATA):
            return _together(manager, names, include)
    except Refusal as refusal:
        error = refusal.__cause__
        if error is None or not of_the_hub(error) or _is_of_a_file(manager, names):
            raise
        repo = _repository(error)
    for name in names:  # which of them it is
        with asking("tasks", name, repo):
            _one_by_one(manager, [name], include)
    return _one_by_one(manager, names, include)  # none: the hub is well again


DATA = "the task's data"
"""What is not to be had, where nothing says whose they are."""


def _together(manager: Any, names: Sequence[str], include: Path | None) -> Mapping[str, Any]:
    """All of them at once, if that can be."""
    from lm_eval.tasks import TaskManager

    found: Mapping[str, Any]
    try:
        found = patiently(lambda: manager.load(list(names)))
    except KeyError:  # a group of one's own may have tasks that are not
        found = _one_by_one(TaskManager(include_path=include), names, include)
    except Exception as error:
        if of_the_hub(error) and not _is_of_a_file(manager, names):
            raise
        found = _one_by_one(manager, names, include)
    return found


def _repository(error: BaseException) -> str:
    """The repository whose data set is not to be had, where the failure or its causes name it."""
    cause: BaseException | None = error
    while cause is not None:
        if named := NAMED.search(str(cause)):
            return named[1]
        cause = cause.__cause__ or cause.__context__
    return DATA


NAMED = re.compile(r"(?:'|/datasets/)([\w.-]+/[\w.-]+)")
"""A repository in what the libraries say: quoted, or in the hub's address."""


def _one_by_one(manager: Any, names: Sequence[str], include: Path | None) -> Mapping[str, Any]:
    """The tasks, one after the other first, so that a mistake is told of the one that has it."""
    for name in names:
        try:
            patiently(partial(manager.load, [name]))
        except Exception as error:  # a task is a program of its own, and fails as it likes
            if of_the_hub(error) and not _is_of_a_file(manager, [name]):
                raise
            file = manager.task_index[name].yaml_path
            reason = f"cannot be used ({_words(error)})"
            if include is not None and file is not None and include in Path(file).parents:
                raise Refusal("include_path", include, f"{file}: {reason}") from error
            raise Refusal("tasks", name, reason) from error
    found: Mapping[str, Any]
    try:
        found = manager.load(list(names))
    except ValueError as error:  # each of them can be used, so it is that they are together
        if of_the_hub(error) and not _is_of_a_file(manager, names):
            raise
        reason = f"cannot be asked together ({_words(error)}); leave out one of the two"
        raise Refusal("tasks", ",".join(names), reason) from error
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without its bars and remarks."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)
