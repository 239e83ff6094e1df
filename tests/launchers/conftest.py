"""One real SLURM cluster for all tests of launchers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launchers.testbed.slurm import Cluster, unavailable


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose arrays have at most five jobs, numbered from 0; the node is idle.

    A test that kills the node or stops a daemon starts it again.
    """
    if reason := unavailable():
        pytest.skip(f"launchers/testbed/slurm.py: {reason}")
    with Cluster(tmp_path_factory.mktemp("slurm"), max_array_size=5) as cluster:
        yield cluster
