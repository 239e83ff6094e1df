"""What the judge's tests ask it about, what it says, and its key."""

from __future__ import annotations

import json
from pathlib import Path

from sweep.data.row import Instruction
from sweep.metric.metric import Result
from tests.loopback_judge import GRADES

KEY = "sk-loopback-0123456789abcdef"

EXERCISES = [
    Instruction("Capital of France?", "", "Paris", kind="recall", family="capital"),
    Instruction("Capital of Japan?", "", "Tokyo", kind="recall", family="capital"),
    Instruction("Reverse.", "one two", "two one", kind="skill", family="reverse"),
]
SAID = ["Paris", "Kyoto", "one two"]
GOOD = json.dumps(GRADES)


def values(found: Result) -> dict[str, float]:
    return {name: value.value for name, value in found.values.items()}


def no_key_below(folder: Path) -> bool:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return not [file for file in files if KEY.encode() in file.read_bytes()]
