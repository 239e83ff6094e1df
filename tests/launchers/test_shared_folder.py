"""Two accounts, a group, one folder: each finds what the other did, and reads nothing private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

GROUP, OTHER = 31337, 65534
SMALL = (
    "calib.n_samples=4",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=4",
    "tracker=none",
    "report=table",
    "-m",
)


def account(*capabilities: str) -> list[str]:
    """What stands before a command of the other account."""
    own = [f"--{kind}-caps=+{name}" for kind in ("inh", "ambient") for name in capabilities]
    return ["setpriv", f"--reuid={OTHER}", f"--regid={GROUP}", "--clear-groups", *own]


@pytest.fixture(scope="module")
def other() -> Sequence[str]:
    """The other account; where only root may enter the folder of Python, it may look anywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root has two accounts")
    for words in (account(), account("dac_read_search")):
        starts = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sweep'])"
        look = [*words, sys.executable, "-c", f"{starts}.check_returncode()"]
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("no other account may run this Python")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as the README has it: of a group, which is passed on, and may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)
        yield folder


def said(folder: Path, *words: str, by: Sequence[str] = (), module: str = "sweep") -> str:
    done = subprocess.run(
        [*by, sys.executable, "-m", module, *words],
        env={**os.environ, "HOME": str(folder)},
        umask=0o002,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_two_accounts_share_a_folder(shared: Path, other: Sequence[str]) -> None:
    outputs = shared / "outputs"
    words = (*SMALL, f"outputs={outputs}")
    local = (*words, "hydra/launcher=local", "hydra.launcher.jobs=1")
    said(shared, "method=magnitude", *words)
    table = said(shared, "method=magnitude,wanda", *words, by=other)
    assert "1 to run, 2 done before" in table
    assert "submitted 1 job" in said(shared, "method=sparsegpt", *local)
    again = said(shared, "method=sparsegpt", "calib=c4,alpaca", *local, by=other)
    assert "submitted 1 job" in again
    status = said(shared, str(outputs), module="sweep.status", by=other)
    assert status.endswith("5 done\n")
    assert not list(outputs.rglob("multirun.yaml"))
    private = list(outputs.glob("jobs/*/submitit-*"))
    assert sorted(file.stat().st_uid for file in private) == [0, OTHER]
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in path.iterdir())
    for file in outputs.glob("jobs/*/*.json*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o664
        assert file.stat().st_gid == GROUP


def test_a_private_folder_of_jobs_is_said_to_be_one(shared: Path, other: Sequence[str]) -> None:
    if any("caps" in word for word in other):
        pytest.skip("the other account may look anywhere here")
    (shared / "jobs").mkdir(mode=0o700)
    seen = said(shared, str(shared), module="sweep.status", by=other)
    assert f"{shared}/jobs: is private; what is queued there is not known" in seen
