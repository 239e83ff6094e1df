"""Task files with data of their own, and a model that chats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sweep.model.embedded import WEIGHTS
from tests.own_tasks import CHOICE, GROUP, SPOKEN, TURNS, WORDS


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with task files and data of one's own."""
    folder = tmp_path_factory.mktemp("own")
    words = (" river", " mill", " ship")
    for name, count in (("fox", 12), ("dog", 6)):
        rows = [
            {
                "question": f"The {name} number {i} ran to the",
                "choices": words,
                "label": i % 3,
                "answer": words[i % 3].strip(),
            }
            for i in range(count)
        ]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, data=data))
    for name, text in (("words", WORDS), ("spoken", SPOKEN)):
        (folder / f"{name}.yaml").write_text(text.format(data=folder / "fox.jsonl"))
    (folder / "animals.yaml").write_text(GROUP)
    return folder


@pytest.fixture
def words(own: Path) -> list[str]:
    """Of a command whose cells take a second."""
    return [
        "method=wanda",
        "calib.n_samples=4",
        "batch_size=4",
        "metric=[lm_eval]",
        "metric.lm_eval.tasks=[animals,words,spoken]",
        f"metric.lm_eval.include_path={own}",
    ]


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """The embedded model with a chat template."""
    folder = tmp_path / "chatty"
    shutil.copytree(WEIGHTS, folder)
    (folder / "chat_template.jinja").write_text(TURNS)
    return folder
