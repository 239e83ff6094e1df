"""Jobs whose nodes have no network do not ask for W&B's server."""

from __future__ import annotations

import pytest

from sweep_jobs.submit import for_jobs


@pytest.mark.parametrize(
    ("mode", "offline", "then"),
    [
        ("auto", True, "offline"),
        ("online", True, "offline"),
        ("offline", True, "offline"),
        ("disabled", True, "disabled"),
        ("online", False, "online"),
    ],
)
def test_a_tracker_in_jobs_asks_nobody_unless_it_may(mode: str, offline: bool, then: str) -> None:
    assert for_jobs({"mode": mode, "project": "p"}, offline) == {"mode": then, "project": "p"}


def test_a_tracker_without_a_mode_stays_as_it_is() -> None:
    assert for_jobs({"_target_": "sweep.track.Silent"}, True) == {"_target_": "sweep.track.Silent"}
