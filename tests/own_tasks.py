"""Tasks of one's own for lm-evaluation-harness, and where their results lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.files import Folder

Frozen = Callable[..., dict[str, Any]]

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 3.0}}
"""
WORDS = """
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""
SPOKEN = """
task: spoken
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 6}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
CONTEXTS = """
task: contexts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: label
doc_to_target: rest
doc_to_choice: "{{{{begun}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_mutual_info, aggregation: mean, higher_is_better: true}}
"""
GROUP = """
group: animals
task: [fox, dog]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""
TURNS = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
COMMAND = """
import functools, json, sys, lm_eval.tasks as t
from lm_eval.__main__ import cli_evaluate
t.TaskManager.__init__ = functools.partialmethod(t.TaskManager.__init__, include_defaults=False)
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words; cli_evaluate()
"""
"""As `lm_eval run`; without an index of the 15,000 tasks that come with it, which takes seconds."""


def cell(tmp_path: Path, part: str) -> Path:
    (found,) = (tmp_path / "outputs" / "cells").glob(f"*{part}*")
    return found


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def cell_folder(path: Path) -> Folder:
    return Folder(path.parent.parent, path.name)


def rows_of(folder: Path, task: str) -> Path:
    """The one file with the rows of a task."""
    (found,) = folder.glob(f"*/lm_eval-{task}.jsonl")
    return found
