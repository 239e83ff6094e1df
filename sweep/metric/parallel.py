"""Several waits at once, in threads for which nobody has to wait for ever.

A pool of the standard library is joined when the program ends: a stop, or Ctrl-C, would take as
long as the slowest server with all retries.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

GRACE = 20.0
"""Seconds that what is under way has to end in, once the others are no longer wanted."""


def in_parallel(
    work: Callable[[S], T], items: Iterable[S], threads: int
) -> Generator[T, None, None]:
    """What `work` makes of each item, in the order in which it comes.

    The first error ends it. Whoever takes no more closes the iterator; either way nothing new is
    begun, and what is under way has a moment to end.

    Args:
        work: called with one item; the threads call it at the same time.
        items: in the order in which they are begun.
        threads: how many at a time.
    """
    waiting: SimpleQueue[S] = SimpleQueue()
    for item in items:
        waiting.put(item)
    count = waiting.qsize()
    found: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()
    over = Event()

    def run() -> None:
        while not over.is_set():
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            try:
                found.put((work(item),))
            except BaseException as error:  # noqa: BLE001 - raised where the results are taken
                over.set()
                found.put(error)

    running = [Thread(target=run, daemon=True) for _ in range(min(threads, count))]
    for thread in running:
        thread.start()
    try:
        for _ in range(count):
            result = found.get()
            if isinstance(result, BaseException):
                raise result
            yield result[0]
    finally:
        over.set()
        for thread in running:
            thread.join(GRACE / len(running))
