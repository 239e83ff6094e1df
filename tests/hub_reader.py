"""Reads corpora and models of the hub in a process of its own, with the environment of a user.

A line of JSON in, a line of JSON out: which corpus of `conf/`, with which settings of its own,
which part, in which order; or which model; and what came of it. Nobody really waits here: the
libraries' waits are written down, those of files that are fetched side by side once. The pieces in
which they take a file are small, as the files are; and what they write for a while is called as a
test can foresee.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from omegaconf import OmegaConf

from sweep.build import build
from sweep.config import CONF
from sweep.data import repository
from sweep.data.source import Source
from sweep.model.hub import Hub, _snapshot
from sweep.refusal import Refusal
from tests.loopback_hub import LoopbackHub


def corpora() -> dict[str, Any]:
    """Those of the configuration, as they are there."""
    common = OmegaConf.load(CONF / "config.yaml").corpora
    found = OmegaConf.to_container(
        OmegaConf.merge(common, OmegaConf.load(CONF / "corpora/hub.yaml"))
    )
    assert isinstance(found, dict)
    return {str(name): node for name, node in found.items()}


LONGEST = 250
"""Letters of whatever is refused, with ordinary paths."""

SHORTEST = 0.5
"""Seconds that count as a wait."""


@dataclass
class Reader:
    """A user's process that reads; each question finds an empty cache, if not told else."""

    hub: LoopbackHub
    home: Path
    process: subprocess.Popen[str] = field(repr=False)

    @classmethod
    @contextmanager
    def running(cls, home: Path) -> Iterator[Reader]:
        """With a hub of its own, as long as the context lasts."""
        with LoopbackHub({}).listening() as hub:
            own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_DATASETS_OFFLINE": ""}
            with subprocess.Popen(
                [sys.executable, "-m", "tests.hub_reader"],
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                yield cls(hub, home, process)
                assert process.stdin is not None
                process.stdin.close()

    def read(self, corpus: str, **asked: Any) -> dict[str, Any]:
        """What came of a corpus: `rows` and `origin`, or `refused`; and `waits`."""
        return self._ask(corpus=corpus, **asked)

    def model(self, **asked: Any) -> dict[str, Any]:
        """What came of a model: `folder` and `files` with their hashes, or `refused`."""
        return self._ask(**asked)

    def _ask(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.hub.asked.clear()
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        said = found.get("refused", "").replace(str(self.home), "/home/user/.cache/huggingface")
        assert len(said) <= LONGEST, said
        return found


def read(asked: dict[str, Any]) -> dict[str, Any]:
    """What comes of a question."""
    if asked.get("afresh", True):
        shutil.rmtree(constants.HF_HOME, ignore_errors=True)
    repository._commit.cache_clear()
    _snapshot.cache_clear()
    os.environ.update({"HF_TOKEN": asked["token"]} if "token" in asked else {})
    try:
        return rows(asked) if "corpus" in asked else model(asked)
    except Refusal as refusal:
        return {"refused": str(refusal)}
    finally:
        os.environ.pop("HF_TOKEN", None)


def model(asked: dict[str, Any]) -> dict[str, Any]:
    """The folder of a model, as it is in the cache then."""
    folder = Hub(**asked["settings"]).folder()
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    return {"folder": str(folder), "files": found}


def rows(asked: dict[str, Any]) -> dict[str, Any]:
    """Those of a corpus."""
    node = {**corpora().get(asked["corpus"], {}), **asked.get("settings", {})}
    source = build(node, "source", Source)  # type: ignore[type-abstract]
    found = list(source.rows(asked.get("part", "calibration"), asked.get("seed")))
    return {"rows": [vars(row) for row in found], "origin": vars(source.origin())}


def main() -> None:
    """As long as somebody asks."""
    own: list[float] = []  # of the asking itself
    others: Counter[tuple[int, int]] = Counter()  # of files side by side, in each of its attempts
    asking = threading.get_ident()

    def sleep(seconds: float) -> None:
        """A while; what is shorter is a look at a lock or a bar."""
        if seconds >= SHORTEST and threading.get_ident() == asking:
            own.append(seconds)
        elif seconds >= SHORTEST:
            others[len(own), threading.get_ident()] += seconds  # type: ignore[assignment]

    time.sleep = sleep
    uuid.uuid4 = lambda: uuid.UUID(int=0)
    constants.DOWNLOAD_CHUNK_SIZE = 50
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        own.clear()
        others.clear()
        found = read(json.loads(line))
        attempts = {attempt for attempt, _ in others}
        longest = [max(s for (n, _), s in others.items() if n == attempt) for attempt in attempts]
        found["waits"] = [*own, *longest]
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
