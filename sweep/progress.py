"""How far a loop is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from sweep.refusal import Interrupted

T = TypeVar("T")
log = logging.getLogger("sweep")

EVERY = 15.0
"""Seconds between two lines about the same loop."""


class Progress:
    """Called with a loop, its name and its length, gives the loop back.

    Args:
        listeners: are told the name, how many are done and how many there are, after each item.

    Attributes:
        stopping: set from a signal's handler: the next item is not given out.
    """

    def __init__(self, *listeners: Callable[[str, int, int], None]) -> None:
        self.listeners = listeners
        self.stopping = False

    def __call__(self, items: Iterable[T], what: str, total: int, /) -> Iterator[T]:
        """The items, with progress shown as they are taken.

        Raises:
            Interrupted: `stopping` is set, and the item that was taken last is done.
        """
        shown = sys.stderr.isatty()
        last = time.monotonic()
        with tqdm(total=total, desc=what, leave=False, disable=not shown) as bar:
            for done, item in enumerate(items, 1):
                yield item
                bar.update()
                for listener in self.listeners:
                    listener(what, done, total)
                if self.stopping:
                    raise Interrupted(f"stopped as asked, at {what} {done} of {total}")
                if not shown and done < total and time.monotonic() - last > EVERY:
                    last = time.monotonic()
                    log.info("  %s: %d of %d", what, done, total)


class Lines(logging.Handler):
    """Log lines on stderr, above the bars that are being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        tqdm.write(self.format(record), file=sys.stderr)


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
