from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from sweep.metric import parallel
from sweep.metric.parallel import in_parallel


def test_every_item_is_worked_on_once_and_so_many_at_a_time() -> None:
    now: list[int] = []
    most: list[int] = []

    def work(item: int) -> int:
        now.append(item)
        most.append(len(now))
        time.sleep(0.02)
        now.remove(item)
        return item * item

    assert sorted(in_parallel(work, range(20), 4)) == sorted(i * i for i in range(20))
    assert max(most) <= 4
    assert list(in_parallel(work, [], 4)) == []


def test_the_first_error_is_raised_and_nothing_new_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise KeyError(item)
        return item

    with pytest.raises(KeyError):
        list(in_parallel(work, range(100), 1))
    assert begun == [0, 1, 2]


def test_what_is_under_way_ends_and_nothing_new_is_begun() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.05)
        ended.append(item)
        return item

    with closing(in_parallel(work, range(100), 3)) as results:
        next(results)
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 10


def test_nobody_waits_for_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "GRACE", 0.2)
    release = threading.Event()
    with closing(in_parallel(lambda item: item or release.wait(), [1, 0, 0], 3)) as results:
        assert next(results) == 1
        began = time.monotonic()
    assert time.monotonic() - began < 2
    release.set()
