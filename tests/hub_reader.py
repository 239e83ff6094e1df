"""Reads rows of the hub's corpora in a process of its own, with the environment of a user.

A line of JSON in, a line of JSON out: which corpus of `conf/`, with which settings of its own,
which part, in which order; and what came of it. Nobody really waits here: the libraries' waits are
written down. The pieces in which they take a file are small, as the files are; and what they write
for a while is called as a test can foresee.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from typing import Any

from huggingface_hub import constants
from omegaconf import OmegaConf

from sweep.build import build
from sweep.config import CONF
from sweep.data import repository
from sweep.data.source import Source
from sweep.refusal import Refusal


def corpora() -> dict[str, Any]:
    """Those of the configuration, as they are there."""
    common = OmegaConf.load(CONF / "config.yaml").corpora
    found = OmegaConf.to_container(
        OmegaConf.merge(common, OmegaConf.load(CONF / "corpora/hub.yaml"))
    )
    assert isinstance(found, dict)
    return {str(name): node for name, node in found.items()}


def read(asked: dict[str, Any]) -> dict[str, Any]:
    """What comes of a question."""
    if asked.get("afresh", True):
        shutil.rmtree(constants.HF_HOME, ignore_errors=True)
    repository._commit.cache_clear()
    node = {**corpora().get(asked["corpus"], {}), **asked.get("settings", {})}
    source = build(node, "source", Source)  # type: ignore[type-abstract]
    try:
        rows = list(source.rows(asked.get("part", "calibration"), asked.get("seed")))
        return {"rows": [vars(row) for row in rows], "origin": vars(source.origin())}
    except Refusal as refusal:
        return {"refused": str(refusal)}


def main() -> None:
    """As long as somebody asks."""
    waits: list[float] = []
    time.sleep = waits.append  # type: ignore[assignment]
    uuid.uuid4 = lambda: uuid.UUID(int=0)
    constants.DOWNLOAD_CHUNK_SIZE = 50
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        waits.clear()
        answers.write(json.dumps({**read(json.loads(line)), "waits": waits}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
