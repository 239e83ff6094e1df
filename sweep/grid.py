"""A planned grid, cell after cell in this process, and its table at the end."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sweep import garbage
from sweep.attempt import Holding, latest, take
from sweep.cell import Cell
from sweep.disk import writing
from sweep.environment import device_works
from sweep.files import Folder
from sweep.hub import check_address
from sweep.plan import Plan, made_up, plan
from sweep.progress import Lines, Progress, duration
from sweep.refusal import Broken, Failed, Interrupted, OutOfSpace, Overtaken, by_reason
from sweep.report.write import begin, conclude
from sweep.run import finished, run
from sweep.workshop import Workshop

log = logging.getLogger("sweep")

WAIT = 1.0
"""Seconds between two looks at cells that other processes work on."""


def sweep(configs: Sequence[Mapping[str, Any]]) -> None:
    """Plan the grid of frozen configurations, run what is missing, print and write the table.

    A cell that fails does not stop the others; the same command again retries it.

    Raises:
        Refusal: a point of the grid cannot work; nothing has run.
        Failed: some cells failed.
        OutOfSpace: the disk is full; what was finished stays finished.
        Broken: the GPU takes no more work; what was finished stays finished.
    """
    quiet()
    workshop = Workshop(Progress())
    planned = plan(configs, workshop)
    show_asked(planned)
    announce(planned)
    begin(planned.outputs, planned.name, planned.cells)
    failures: dict[str, str] = {}
    ended: OutOfSpace | Broken | None = None
    try:
        work(planned, workshop, failures)
    except (OutOfSpace, Broken) as error:
        ended = error
    page = planned.cells[0].settings.report == "page"
    sys.stdout.write(conclude(planned.outputs, planned.name, planned.cells, page=page))
    sys.stdout.flush()
    planned.tracker.conclude(planned.name, Path(planned.outputs))
    lines = [f"  {line}" for line in by_reason(failures.items())]
    if ended is not None:
        full = isinstance(ended, OutOfSpace)
        help = "free some space, or choose another outputs=DIR, and " if full else ""
        again = f"  what is finished stays; {help}the same command goes on from there"
        raise type(ended)("\n".join([str(ended), *lines, again])) from ended
    if failures:
        count = f"{len(failures)} of {len(planned.todo)} cells failed"
        raise Failed("\n".join([count, *lines, "  the same command again retries only these"]))


def show_asked(planned: Plan) -> None:
    """Where a metric has results of several settings, `<metric>.json` is the one asked for now."""
    for cell in planned.cells:
        folder = Folder(cell.settings.outputs, cell.name)
        for name in cell.parts.metrics:
            folder.put_first(name, cell.metric_id(name))


def work(planned: Plan, workshop: Workshop, failures: dict[str, str]) -> None:
    """Run the cells that are missing, each once, whoever else works on the same outputs.

    A cell that another process has in its hands is left to it, and looked at again later; a model's
    cells wait for its dense cell, whose answers they take over.

    Args:
        planned: the grid.
        workshop: what the cells share.
        failures: is filled with the reasons, by the names of the cells that failed.

    Raises:
        OutOfSpace, Interrupted: see `sweep.run.run`.
        Broken: the device takes no more work; the cell that broke it has failed.
    """
    garbage.begin()
    workshop.expect(planned.todo)
    queue = deque(planned.todo)
    held: Folder | None = None
    idle = tried = 0
    started = 0.0
    while queue:
        if workshop.progress.stopping:
            raise Interrupted("stopped as asked, between two cells")
        cell = queue.popleft()
        folder = Folder(cell.settings.outputs, cell.name)
        if finished(cell, folder):
            idle = 0
            continue
        dense = planned.dense(cell)
        ready = not any(other is dense for other in queue)
        holding = take(folder.path) if ready else None
        if holding is None:
            held = folder if ready else held
            queue.append(cell)
            idle += 1
            _wait(held, idle, len(queue), workshop)
            continue
        idle = 0
        try:
            with holding:
                if finished(cell, folder):  # by whoever had it until a moment ago
                    continue
                tried += 1
                if tried == 2:  # the first one loads, and is dense: no other cell is like it
                    started = time.monotonic()
                left = _left(started, tried - 2, 1 + len(queue))
                header = f"[{tried}/{tried + len(queue)}] {cell.name}{left}"
                failure = _attempt(cell, folder, planned, workshop, holding, header)
        except Overtaken as overtaken:
            log.warning("%s", overtaken)
            queue.append(cell)
            continue
        if failure is not None:
            failures[cell.name] = failure
            if workshop.unfit(cell) is not None:
                queue = _without_its_model(queue, workshop, failures)
            if not device_works():
                raise Broken("the GPU takes no more work from this process")


def _without_its_model(
    queue: deque[Cell], workshop: Workshop, failures: dict[str, str]
) -> deque[Cell]:
    """The queue without the cells of a model that cannot be used: they have failed with the first.

    A cell that another process has in its hands is left to it.
    """
    left: deque[Cell] = deque()
    for cell in queue:
        folder = Folder(cell.settings.outputs, cell.name)
        refusal = workshop.unfit(cell)
        holding = None if refusal is None or finished(cell, folder) else take(folder.path)
        if refusal is None or holding is None:
            left.append(cell)
            continue
        failures[cell.name] = failure = _in_words(refusal)
        with holding, _logged_to(folder, (cell.name, f"  failed: {failure}")):
            asked = {name: cell.metric_id(name) for name in cell.parts.metrics}
            folder.write_cell(cell.id, cell.identity, asked, cell.config, cell.about)
            folder.write_failure(f"{failure}\n")
            holding.end("failed")
    if count := len(queue) - len(left):
        log.error("  and so have the %d other cells of its model", count)
    return left


def _wait(held: Folder | None, idle: int, waiting: int, workshop: Workshop) -> None:
    """A pause once all that is left is in other hands; says so the first time."""
    if idle < waiting:
        return
    holder = latest(held.path) if held is not None and idle == waiting else None
    if held is not None and holder is not None:
        who = f"process {holder[0].pid} on {holder[0].host}"
        log.info("waiting for %s, which works on %s", who, held.path.name)
    time.sleep(WAIT)


def _attempt(
    cell: Cell, folder: Folder, planned: Plan, workshop: Workshop, holding: Holding, header: str
) -> str | None:
    """Run one cell, with a header in the log; the reason if it failed."""
    dense = planned.dense(cell)
    begun = time.monotonic()
    with _logged_to(folder, made_up([cell])):
        log.info("%s", header)
        mirror = planned.tracker.open(cell, planned.name)
        workshop.progress.listeners = (mirror.progress, holding.progress)
        failure: str | None = None
        try:
            spent = run(cell, Folder(dense.settings.outputs, dense.name), workshop, mirror)
        except (OutOfSpace, Interrupted, Overtaken, KeyboardInterrupt) as stop:
            failure = type(stop).__name__
            log.info("  %s", str(stop) or "interrupted")
            holding.end("stopped")
            raise
        except Exception as error:  # noqa: BLE001 - one cell must not take the others with it
            failure = _in_words(error)
            holding.end("failed")
            folder.write_failure(f"{failure}\n\n{traceback.format_exc()}")
            log.error("  failed: %s", failure)
        finally:
            mirror.close(failure)
        if failure is None:
            seconds = time.monotonic() - begun
            log.info("  done in %.2f s: %s", seconds, spent)
        return failure


def _in_words(error: Exception) -> str:
    """An error on one line; of memory, with what would help."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"{said} (lower batch_size or seqlen, or take a device with more memory)"
    return said


def announce(planned: Plan) -> None:
    """Say what is planned."""
    cells, todo = len(planned.cells), len(planned.todo)
    log.info(
        "%s: %d %s of the grid, %d %s with dense, %d to run, %d done before",
        planned.name,
        planned.points,
        "point" if planned.points == 1 else "points",
        cells,
        "cell" if cells == 1 else "cells",
        todo,
        cells - todo,
    )
    for line in made_up(planned.cells):
        log.info("%s", line)


def _left(started: float, done: int, left: int) -> str:
    """For the log: when what is left ends, if it goes on as what was done since `started`."""
    if done < 1:
        return ""
    seconds = (time.monotonic() - started) / done * left
    return f" (about {duration(seconds)} left)"


@contextmanager
def _logged_to(folder: Folder, opening: Sequence[str]) -> Iterator[None]:
    """What is logged meanwhile goes to the cell's log.txt as well.

    Args:
        folder: the cell's.
        opening: lines that only the file begins with: the grid has said them already.
    """
    with writing(folder.log):
        folder.path.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder.log, encoding="utf-8")
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for line in opening:
        handler.emit(log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):  # of a full disk; the lines are on stderr too
            handler.close()


def quiet() -> None:
    """This project's lines go to stderr; the bars and hints of the libraries below do not.

    Raises:
        Refusal: see `check_address`.
    """
    check_address()
    if not log.handlers:
        log.addHandler(Lines())
        log.setLevel(logging.INFO)
        log.propagate = False
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # weights elsewhere were asked for
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
