"""Jobs whose nodes have no network do not ask for W&B's server."""

from __future__ import annotations

import pytest

from sweep_jobs.submit import for_jobs, told_offline


@pytest.mark.parametrize(
    ("mode", "offline", "then"),
    [
        ("auto", True, "offline"),
        ("online", True, "offline"),
        ("offline", True, "offline"),
        ("disabled", True, "disabled"),
        ("online", False, "online"),
        ("auto", False, "auto"),
    ],
)
def test_a_tracker_in_jobs_asks_nobody_unless_it_may_and_that_is_said(
    mode: str, offline: bool, then: str
) -> None:
    asked = {"mode": mode, "project": "p"}
    theirs = for_jobs(asked, offline)
    assert theirs == {"mode": then, "project": "p"}
    said = told_offline(asked, theirs, "/o")
    if then == mode:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(f"tracker.mode={mode}: jobs write offline (hydra.launcher.offline)")
        assert said.endswith("then: python -m sweep.track /o")


def test_a_tracker_without_a_mode_stays_as_it_is() -> None:
    assert for_jobs({"_target_": "sweep.track.Silent"}, True) == {"_target_": "sweep.track.Silent"}
