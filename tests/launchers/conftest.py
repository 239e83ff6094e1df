"""A real SLURM cluster for the tests of launchers, and folders of its users."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers.testbed.slurm import Cluster, unavailable
from tests.launchers.users import Sweeps, prepared
from tests.needed import missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose arrays have at most five jobs, numbered from 0; the node is idle.

    A test that kills the node or stops a daemon starts it again.
    """
    if reason := unavailable():
        missing(f"launchers/testbed/slurm.py: {reason}")
    with Cluster(tmp_path_factory.mktemp("slurm"), max_array_size=5) as cluster:
        yield cluster


@pytest.fixture
def sweeps(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[str], Sweeps]]:
    """Sweeps in a folder of their own; the cluster is empty again afterwards."""

    def sweeps(name: str) -> Sweeps:
        return prepared(cluster, tmp_path / name)

    yield sweeps
    subprocess.run(
        ["scancel", "--full", "--signal=KILL", "-u", "root"],
        env={**os.environ, **cluster.environment},
        check=False,
    )
    cluster.run("scancel", "-u", "root")
    end = time.monotonic() + 60
    while cluster.run("squeue", "-h") and time.monotonic() < end:
        time.sleep(0.2)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        yield Path(name)
