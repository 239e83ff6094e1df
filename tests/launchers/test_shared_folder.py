"""Two accounts, a group, one folder: each finds what the other did, and reads nothing private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.commands import forked
from tests.needed import missing

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
        missing("only root has two accounts")
    for words in (account(), account("dac_read_search")):
        starts = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sweep'])"
        look = [*words, sys.executable, "-c", f"{starts}.check_returncode()"]
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("no other account may run this Python")  # which no package would change


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as the README has it: of a group, which is passed on, and may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)
        yield folder


def said(folder: Path, *words: str, by: Sequence[str] = (), module: str = "sweep") -> str:
    environment, umask = {**os.environ, "HOME": str(folder)}, 0o002
    if not by:
        done = forked(*words, module=module, environment=environment, umask=umask)
    else:
        done = subprocess.run(
            [*by, sys.executable, "-m", module, *words],
            env=environment,
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def modes(files: Iterable[Path]) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in files}


def test_two_accounts_share_a_folder(shared: Path, other: Sequence[str]) -> None:
    outputs = shared / "outputs"
    words = (*SMALL, f"outputs={outputs}")
    said(shared, "method=magnitude", *words)
    table = said(shared, "method=magnitude,wanda", *words, by=other)
    assert "1 to run, 2 done before" in table
    before: set[Path] = set()
    for number, (by, private) in enumerate(((other, True), ((), False))):
        local = (*words, "hydra/launcher=local", "hydra.launcher.jobs=1", f"seed={number}")
        local = local if private else (*local, "hydra.launcher.private=false")
        assert "submitted 1 job" in said(shared, "method=sparsegpt", *local, by=by)
        folders = set(outputs.glob("jobs/*/submitit-*")) - before
        asked = set(outputs.glob("jobs/*/*.json*")) - before
        before |= folders | asked
        written = [file for folder in folders for file in folder.iterdir()]
        assert [folder.stat().st_uid for folder in folders] == [OTHER if by else 0]
        assert len(asked) == 2
        assert modes(folders) == {0o2700 if private else 0o2775}
        assert modes(asked) == {0o600 if private else 0o664}
        own = modes(file for file in written if not file.is_symlink())
        assert own <= ({0o600, 0o700} if private else {0o664, 0o775})
        assert {file.stat().st_gid for file in asked} == {GROUP}
    assert modes(outputs.glob("jobs/*/")) == {0o2775}  # either may launch there
    status = said(shared, str(outputs), module="sweep.status", by=other)
    assert status.endswith("5 done\n")
    assert not list(outputs.rglob("multirun.yaml"))


AS_OTHER = f"""
import os, sys
from sweep.status import main  # before: the other account may not be let into Python's folder
os.setgroups([])
os.setgid({GROUP})
os.setuid({OTHER})
sys.exit(main([sys.argv[1]]))
"""


def test_what_others_queued_privately_is_said_to_be_unknown(shared: Path) -> None:
    def status() -> str:
        command = [sys.executable, "-c", AS_OTHER, str(shared)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    if os.geteuid() != 0:
        missing("only root has two accounts")
    told = "what others queued there is private (hydra.launcher.private)"
    folder = shared / "jobs" / "a"
    folder.mkdir(parents=True)
    assert told not in status()
    for number in range(2):
        file = folder / f"submitted-{number}.jsonl"
        file.write_text("{}\n")
        file.chmod(0o600)
    assert f"{folder}: {told}" in status()
    assert status().count(told) == 1
    (shared / "jobs").chmod(0o700)
    assert f"{shared}/jobs: {told}" in status()
