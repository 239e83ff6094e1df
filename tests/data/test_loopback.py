"""The corpora of `conf/`, in repositories laid out as theirs, through the libraries for the hub.

A hub on the loopback address serves tiny repositories under the real names; the project's loading
code runs in a process of its own, as a user's would, but that nobody waits (`tests/hub_reader.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.hub_reader import Reader, corpora
from tests.loopback_hub import Fault

PROSE = [f"Document {i}, found on the web: {'word ' * (i % 9)}and its end." for i in range(60)]
TASKS = [{"instruction": f"Add {i}.", "input": "1", "output": f"{i + 1}"} for i in range(60)]
SAYINGS = [
    {"instruction": f"Say {i}.", "instances": [{"input": f"in {i}", "output": f"out {i}"}]}
    for i in range(60)
]
SUMS = [{"question": f"What is {i} and {i}?", "answer": f"#### {2 * i}"} for i in range(60)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": f"A{i}"}]}
    for i in range(60)
]
CODE = [{"content": f"print({i})\n", "license": "mit", "size": "9"} for i in range(60)]

SHARD = "en/c4-train.00000-of-01024.json.gz"
ALPACA = "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"
CODE_FILE = "file-000000000054.json.gz"


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


def _parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*rows]), out)
    return bytes(out.getvalue().to_pybytes())


def _texts(texts: Iterable[str]) -> list[dict[str, str]]:
    return [{"text": text, "url": "u"} for text in texts]


def _card(**splits_of: tuple[str, ...]) -> bytes:
    """A card that says which files are which split of which configuration."""
    configs = [
        {
            "config_name": name.replace("_", "-"),
            "data_files": [
                {"split": split, "path": f"{name.replace('_', '-')}/{split}-*"} for split in splits
            ],
        }
        for name, splits in splits_of.items()
    ]
    return f"---\nconfigs: {json.dumps(configs)}\n---\n# A data set\n".encode()


def _repositories() -> dict[str, dict[str, bytes]]:
    wiki, of = "wikitext-2-raw-v1", "00000-of-00001.parquet"
    return {
        "allenai/c4": {
            "README.md": b"# C4",
            SHARD: _lines(_texts(PROSE)),
            "en/c4-train.00001-of-01024.json.gz": _lines(_texts(["never read"])),
            "en/c4-validation.00000-of-00008.json.gz": _lines(_texts(["Held out.", ""])),
        },
        "tatsu-lab/alpaca": {"README.md": b"# Alpaca", ALPACA: _parquet(TASKS)},
        "mrm8488/unnatural-instructions-core": {
            "README.md": b"# Unnatural",
            f"data/train-{of}": _parquet(SAYINGS),
        },
        "mrm8488/unnatural-instructions-full": {
            "README.md": b"# Unnatural",
            f"data/train-{of}": _parquet({**row, "reformulations": ["…"]} for row in SAYINGS),
        },
        "Salesforce/wikitext": {
            "README.md": _card(wikitext_2_raw_v1=("train", "test"), wikitext_103_v1=("train",)),
            f"{wiki}/train-{of}": _parquet(_texts(["", " = Title = \n", "", " Prose . \n"])),
            f"{wiki}/test-{of}": _parquet(_texts(["", " Of the test . \n"])),
            f"wikitext-103-v1/train-{of}": _parquet(_texts(["never read"])),
        },
        "openai/gsm8k": {
            "README.md": _card(main=("train", "test"), socratic=("train",)),
            f"main/train-{of}": _parquet(SUMS[:40]),
            f"main/test-{of}": _parquet(SUMS[40:]),
            f"socratic/train-{of}": _parquet([{"question": "never", "answer": "read"}]),
        },
        "me/chats": {
            "README.md": _card(main=("train", "test"), other=("train",)),
            f"main/train-{of}": _parquet(CHATS[:40]),
            f"main/test-{of}": _parquet(CHATS[40:]),
            f"other/train-{of}": _parquet([{"text": "never read"}]),
        },
        "codeparrot/codeparrot-clean-valid": {"README.md": b"# Code", CODE_FILE: _lines(CODE)},
    }


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for repo, files in _repositories().items():
        for name, content in files.items():
            (folder / repo / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / repo / name).write_bytes(content)
    return folder


@pytest.fixture
def reader(hub_reader: Reader, shelf: Path) -> Reader:
    """With a hub on which all is well, whose repositories are at the commits of `conf/`."""
    hub_reader.hub.repos = {f"datasets/{repo}": shelf / repo for repo in _repositories()}
    hub_reader.hub.commits = {
        f"datasets/{node['repo']}": node["revision"]
        for node in corpora().values()
        if len(node.get("revision", "")) == 40
    }
    hub_reader.hub.gated.clear()
    hub_reader.hub.converted.clear()
    hub_reader.hub.faults.clear()
    return hub_reader


def texts(found: Mapping[str, Any]) -> list[str]:
    return [row["text"] for row in found["rows"]]


def of_both_parts(reader: Reader, corpus: str) -> list[dict[str, Any]]:
    """All rows of a corpus that has one split; that the parts share none is asserted."""
    one = reader.read(corpus)["rows"]
    other = reader.read(corpus, part="evaluation", afresh=False)["rows"]
    assert one
    assert other
    assert not [row for row in one if row in other]
    return [*one, *other]


# what the real repositories hold


def test_of_c4_one_shard_is_fetched_and_of_its_validation_one(reader: Reader) -> None:
    found = reader.read("c4")
    assert texts(found) == PROSE
    assert {*reader.hub.files_asked()} == {SHARD}
    assert texts(reader.read("c4", part="evaluation", afresh=False)) == ["Held out.", ""]
    assert {*reader.hub.files_asked()} == {"en/c4-validation.00000-of-00008.json.gz"}
    assert found["origin"] == {
        "corpus": "c4",
        "source": "hub",
        "revision": "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        "location": "allenai/c4",
    }


def test_alpaca_is_read_from_its_parquet(reader: Reader) -> None:
    found = of_both_parts(reader, "alpaca")
    assert sorted(row["instruction"] for row in found) == sorted(t["instruction"] for t in TASKS)
    assert all(row["input"] == "1" and row["output"] for row in found)


@pytest.mark.parametrize("corpus", ["unnatural", "unnatural_full"])
def test_unnatural_instructions_are_read_and_their_commit_is_found_out(
    reader: Reader, corpus: str
) -> None:
    found = of_both_parts(reader, corpus)
    assert sorted(row["output"] for row in found) == sorted(f"out {i}" for i in range(60))
    origin = reader.read(corpus, afresh=False)["origin"]
    assert origin["revision"] == reader.hub.commit(f"datasets/{origin['location']}")
    assert origin["revision"] != "main"


def test_of_wikitext_the_configuration_of_the_published_numbers_is_read(reader: Reader) -> None:
    assert texts(reader.read("wikitext2")) == [" = Title = \n", " Prose . \n"]
    assert texts(reader.read("wikitext2", part="evaluation")) == ["", " Of the test . \n"]
    assert not [name for name in reader.hub.files_asked() if "103" in name]


def test_gsm8ks_questions_and_answers_are_instructions_of_two_splits(reader: Reader) -> None:
    for part, rows in (("calibration", SUMS[:40]), ("evaluation", SUMS[40:])):
        found = reader.read("gsm8k", part=part, afresh=False)["rows"]
        assert [(row["instruction"], row["input"], row["output"]) for row in found] == [
            (row["question"], "", row["answer"]) for row in rows
        ]


def test_code_is_text_of_which_a_tenth_is_held_out(reader: Reader) -> None:
    found = of_both_parts(reader, "code")
    assert sorted(row["text"] for row in found) == sorted(row["content"] for row in CODE)


FETCH = "python -m sweep.fetch with these words fetches it where there is a network"
OWN = {"repo": "me/chats", "corpus": "chats", "config": "main"}


@pytest.mark.parametrize(("first", "count"), [(None, 20), (5, 5)])
def test_any_data_set_is_read_with_the_words_of_a_command(
    reader: Reader, first: int | None, count: int
) -> None:
    """A split of a configuration; whole, or streamed so far and kept."""
    settings = {**OWN, "split": "test", "first": first}
    found = reader.read("hub", settings=settings)
    assert [(row["instruction"], row["output"]) for row in found["rows"]] == [
        (f"Q{i}", f"A{i}") for i in range(40, 40 + count)
    ]
    assert found["origin"] == {
        "corpus": "chats",
        "source": "hub",
        "revision": reader.hub.commit("datasets/me/chats"),
        "location": "me/chats",
    }
    assert not [name for name in reader.hub.files_asked() if "other" in name]
    again = reader.read("hub", settings=settings, part="evaluation", afresh=False)
    assert again["rows"] == found["rows"]
    assert not [name for name in reader.hub.files_asked() if "main" in name]


# the cache


def test_what_is_in_the_cache_is_not_fetched_again(reader: Reader) -> None:
    first = reader.read("c4")
    again = reader.read("c4", afresh=False)
    assert again == first
    assert not reader.hub.files_asked()


def test_an_unchanged_file_of_a_new_commit_is_known_by_its_etag(reader: Reader) -> None:
    repo, settings = "datasets/allenai/c4", {"revision": "main", "first": None}
    first = reader.read("c4", settings=settings)
    assert SHARD in reader.hub.files_asked()
    reader.hub.commits[repo] = "5" * 40
    second = reader.read("c4", settings=settings, afresh=False)
    assert SHARD not in reader.hub.files_asked()
    assert any(f"HEAD /{repo}/resolve/{'5' * 40}/{SHARD}" == asked for asked in reader.hub.asked)
    assert second["rows"] == first["rows"]
    assert (first["origin"]["revision"], second["origin"]["revision"]) == (
        "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        "5" * 40,
    )


@pytest.mark.parametrize("corpus", ["c4", "unnatural", "wikitext2", "gsm8k", "code"])
def test_what_was_fetched_is_read_offline(reader: Reader, corpus: str) -> None:
    fetched = reader.read(corpus, seed=3)
    reader.hub.asked.clear()
    assert offline(reader, {"corpus": corpus, "seed": 3}) == [fetched]
    assert not reader.hub.asked


def offline(reader: Reader, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes of these questions in another process, with the same cache and no network."""
    own = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(reader.home)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub_reader"],
        env={**os.environ, **own},
        input="".join(json.dumps({**one, "afresh": False}) + "\n" for one in asked),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_offline_the_hubs_cache_is_enough_where_it_has_all_files(
    reader: Reader, tmp_path: Path
) -> None:
    """As another tool fills it, or with a new cache of `datasets`; there need not be a card."""
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TASKS))
    reader.hub.repos["datasets/me/bare"] = tmp_path
    settings = {"_target_": "sweep.data.hub.Dataset", "corpus": "me/bare", "repo": "me/bare"}
    asked = [
        {"corpus": "hub", "settings": {**settings, "first": 5}},
        {"corpus": "hub", "settings": settings},
        {"corpus": "gsm8k"},
    ]
    shutil.rmtree(reader.home, ignore_errors=True)
    fetched = [reader.read(**one, afresh=False) for one in asked]  # type: ignore[arg-type]
    for repo in ("me___bare", "openai___gsm8k"):
        shutil.rmtree(reader.home / "datasets" / repo)
    *found, partly = offline(reader, *asked)
    assert found == fetched[:-1]
    assert partly["refused"] == (
        f"source=gsm8k: openai/gsm8k is in {reader.home} in part only, or not made ready, and "
        f"HF_HUB_OFFLINE is set; {FETCH}"
    )


def command(
    reader: Reader, tmp_path: Path, *words: str, module: str = "sweep", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a user types: real prose and real sums, as it were, for the embedded model."""
    few = ("calib.n_samples=2", "calib.seqlen=32", "metric=[perplexity]", "seqlen=8")
    rest = ("metric.perplexity.source=wikitext2", "method=wanda", "tracker=none", "report=table")
    own = {"HF_ENDPOINT": reader.hub.address, "HF_HOME": str(tmp_path / "hf")}
    outputs = f"outputs={tmp_path / 'outputs'}"
    return subprocess.run(
        [sys.executable, "-m", module, "calib=gsm8k", *few, *rest, outputs, *words],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_fetched_with_the_words_of_a_sweep_is_all_that_it_reads(
    reader: Reader, tmp_path: Path
) -> None:
    fetched = command(reader, tmp_path, module="sweep.fetch")
    assert fetched.returncode == 0, fetched.stderr
    commit = reader.hub.commit("datasets/openai/gsm8k")
    assert f"calib gsm8k: openai/gsm8k at {commit}\n" in fetched.stdout
    assert "metric.perplexity wikitext2: Salesforce/wikitext at" in fetched.stdout
    reader.hub.asked.clear()
    done = command(reader, tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert not reader.hub.asked
    (file,) = (tmp_path / "outputs").glob("cells/tiny-wanda-50-gsm8k-*/compression.json")
    (data,) = json.loads(file.read_text())["calibration"]["data"]
    assert (data["corpus"], data["source"], data["revision"]) == ("gsm8k", "hub", commit)
    assert data["rows"] > 0
    assert len(data["rows_sha256"]) == 64


def test_without_a_network_and_a_cache_the_command_is_answered_in_one_line(
    reader: Reader, tmp_path: Path
) -> None:
    done = command(reader, tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr == (
        "sweep: metric.perplexity.source=wikitext2: Salesforce/wikitext is not in "
        f"{tmp_path / 'hf'}, and HF_HUB_OFFLINE is set; {FETCH}\n"
    )


def test_a_gated_repository_is_read_with_a_token(reader: Reader) -> None:
    reader.hub.gated.add("datasets/tatsu-lab/alpaca")
    shutil.rmtree(reader.home, ignore_errors=True)
    own = {"HF_TOKEN": "hf_of_a_user", "HF_ENDPOINT": reader.hub.address}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub_reader"],
        env={**os.environ, **own, "HF_HOME": str(reader.home)},
        input=json.dumps({"corpus": "alpaca"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["rows"]) > 40


# what goes wrong and passes


def test_of_a_large_file_no_more_is_read_than_the_documents_that_are_asked_for(
    reader: Reader, tmp_path: Path
) -> None:
    """Eighteen megabytes of noise, which no compression makes smaller."""
    noise = random.Random(0)
    rows = [{"text": f"{i} {noise.randbytes(6000).hex()}"} for i in range(3000)]
    folder = tmp_path / "c4"
    (folder / "en").mkdir(parents=True)
    (folder / SHARD).write_bytes(_lines(rows))
    size = (folder / SHARD).stat().st_size
    reader.hub.repos["datasets/allenai/c4"] = folder
    reader.hub.commits["datasets/allenai/c4"] = "9" * 40
    settings = {"first": 20, "revision": "9" * 40}
    found = reader.read("c4", settings=settings, seed=1)
    assert sorted(texts(found)) == sorted(row["text"] for row in rows[:20])
    ends = [int(asked.rpartition("-")[2]) for asked in reader.hub.asked if " bytes=" in asked]
    assert ends
    assert max(ends) < 0.8 * size  # pieces of five megabytes, and some ahead
    again = reader.read("c4", settings=settings, seed=1, afresh=False)
    assert again["rows"] == found["rows"]
    assert not reader.hub.files_asked()  # what was read is kept


def test_a_stream_that_is_cut_off_is_taken_up_again(reader: Reader) -> None:
    whole = reader.read("c4")
    reader.hub.faults.append(Fault(f"GET .*{SHARD}", after=100, times=2))
    found = reader.read("c4")
    assert found["rows"] == whole["rows"]
    assert sum(found["waits"]) <= 15


@pytest.mark.parametrize(("corpus", "file"), [("code", CODE_FILE), ("alpaca", ALPACA)])
def test_a_download_that_is_cut_off_goes_on_where_it_was(
    reader: Reader, corpus: str, file: str
) -> None:
    whole = reader.read(corpus)
    reader.hub.faults.append(Fault(f"GET .*{file}", after=100))
    found = reader.read(corpus)
    assert found["rows"] == whole["rows"]
    sent = [asked for asked in reader.hub.asked if "GET" in asked and file in asked]
    assert [asked.rpartition(" ")[2] for asked in sent][1:] == ["bytes=100-"]
    assert sum(found["waits"]) <= 2


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("corpus", ["c4", "alpaca"])
@pytest.mark.parametrize("where", ["GET /datasets/", "HEAD /datasets/", "GET /api/datasets/"])
def test_a_busy_hub_is_asked_again(reader: Reader, corpus: str, status: int, where: str) -> None:
    reader.hub.faults.append(Fault(where, status=status, times=2))
    found = reader.read(corpus)
    assert len(found["rows"]) > 40
    assert sum(found["waits"]) <= 15


# what goes wrong and stays


@pytest.mark.parametrize(("corpus", "repo"), [("c4", "allenai/c4"), ("alpaca", "tatsu-lab/alpaca")])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("GET /", status=429), "answered 429"),
        (Fault("/resolve/", status=503), "answered 503"),
        (Fault("GET /datasets/", after=10), "broke off"),
    ],
    ids=["429", "503", "cut"],
)
def test_a_hub_that_stays_in_trouble_is_one_line(
    reader: Reader, corpus: str, repo: str, fault: Fault, said: str
) -> None:
    """Says what was looked for, where, why it is not there, and which command fetches it."""
    reader.hub.faults.append(Fault(fault.where, fault.status, fault.after, times=1000))
    found = reader.read(corpus)
    refused = found["refused"]
    where = f"{repo} is not in {reader.home}, and {reader.hub.address} {said}"
    assert refused == f"source={corpus}: {where}; {FETCH}"
    assert sum(found["waits"]) <= 60


@pytest.mark.parametrize(("corpus", "repo"), [("c4", "allenai/c4"), ("alpaca", "tatsu-lab/alpaca")])
def test_a_gated_repository_is_told_as_such(reader: Reader, corpus: str, repo: str) -> None:
    reader.hub.gated.add(f"datasets/{repo}")
    assert reader.read(corpus)["refused"] == (
        f"source={corpus}: {repo} is gated; ask for access on its page, then log in (hf auth login)"
        " or set HF_TOKEN"
    )


@pytest.mark.parametrize(
    ("corpus", "settings", "said"),
    [
        ("c4", {"revision": "v9"}, "corpora.c4.revision=v9: allenai/c4 has no such revision on "),
        ("alpaca", {"revision": "7" * 40}, "corpora.alpaca.revision=7777777777777777777777777777"),
        ("alpaca", {"revision": "7" * 40}, "tatsu-lab/alpaca has no such revision on the hub; gi"),
        ("c4", {"repo": "a/none"}, "the hub has no a/none, or only for those who log in"),
        ("alpaca", {"repo": "a/none"}, "the hub has no a/none, or only for those who log in"),
        ("c4", {"calibration": "en/no.json"}, "allenai/c4 holds no such file at this revision (h"),
        ("c4", {"calibration": "en/no.json"}, "corpora.c4.calibration=en/no.json: allenai/c4 hold"),
        (
            "gsm8k",
            {"calibration": "dev"},
            "corpora.gsm8k.calibration=dev: openai/gsm8k has no such",
        ),
        ("gsm8k", {"calibration": "dev"}, "has no such split; there are: train, test"),
        (
            "gsm8k",
            {"config": "mine"},
            "corpora.gsm8k.config=mine: openai/gsm8k has no such configu",
        ),
        ("gsm8k", {"config": "mine"}, "has no such configuration; there are: main, socratic"),
        ("gsm8k", {"config": None}, "corpora.gsm8k.config=null: openai/gsm8k has several conf"),
        ("gsm8k", {"output": "gold"}, "corpora.gsm8k.output=gold: openai/gsm8k has the columns q"),
        ("c4", {"field": "body"}, "corpora.c4.field=body: allenai/c4 has the columns text, url"),
        ("hub", {**OWN, "revision": "v9"}, "revision=v9: me/chats has no such revision on the hub"),
        ("hub", {**OWN, "split": "dev"}, "split=dev: me/chats has no such split; there are: tr"),
        ("hub", {**OWN, "split": "dev", "first": 3}, "split=dev: me/chats has no such split; t"),
        ("hub", {**OWN, "config": "b"}, "config=b: me/chats has no such configuration; there are"),
        (
            "hub",
            {**OWN, "config": None},
            "config=null: me/chats has several configurations: main, other; name one",
        ),
        ("hub", {**OWN, "repo": "me/none"}, "repo=me/none: the hub has no such repository, or onl"),
        ("hub", {**OWN, "repo": "me/chats/main"}, "repo=me/chats/main: must be OWNER/NAME"),
        ("hub", {**OWN, "field": "body"}, "field=body: row 0 of me/chats has the fields messages;"),
    ],
)
def test_what_is_not_there_is_one_line(
    reader: Reader, corpus: str, settings: dict[str, str], said: str
) -> None:
    found = reader.read(corpus, settings=settings)
    assert said in found["refused"]
    assert "\n" not in found["refused"]
    assert found["waits"] == []


MANY = [f"a_configuration_of_forty_{i}" for i in range(40)]


def test_of_many_configurations_a_few_are_named(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(_card(**dict.fromkeys(MANY, ("train",))))
    for name in MANY:
        folder = tmp_path / name.replace("_", "-")
        folder.mkdir()
        (folder / "train-0.parquet").write_bytes(_parquet(SUMS))
    reader.hub.repos["datasets/me/many"] = tmp_path
    for config in (None, "a-configuration-of-forty-399"):
        settings = {"repo": "me/many", "corpus": "many", "config": config}
        refused = reader.read("hub", settings=settings)["refused"]
        assert " … and 36 more" in refused
        assert refused.count("a-configuration-of-forty-") == 4 + (config is not None)
        assert config is None or "there are: a-configuration-of-forty-39, " in refused


@pytest.mark.parametrize("settings", [{}, {"first": 5}, {"revision": "main"}])
def test_a_data_set_that_is_a_program_is_told_as_such_and_read_from_the_hubs_copy(
    reader: Reader, tmp_path: Path, settings: dict[str, Any]
) -> None:
    for name, content in {
        "script/README.md": b"# A program",
        "script/script.py": b"import datasets",
        "copy/default/train/0000.parquet": _parquet(SUMS),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    repo = "datasets/me/script"
    reader.hub.repos[repo] = tmp_path / "script"
    own = {"repo": "me/script", "corpus": "script", "columns": {"instruction": "question"}}
    own["columns"] |= {"output": "answer"}
    said = "repo=me/script: is a loading script, which datasets no longer runs; "
    by_hand = "give its rows in a file, by calib=local or metric.NAME.source=local"
    found = reader.read("hub", settings=own | {"revision": reader.hub.commit(repo)} | settings)
    assert found["refused"] == said + by_hand
    reader.hub.converted = {repo: tmp_path / "copy"}
    found = reader.read("hub", settings=own | settings)
    copied = "revision=refs/convert/parquet is the hub's copy in parquet"
    assert found["refused"] == said + copied
    there = {"revision": "refs/convert/parquet"}
    found = reader.read("hub", settings=own | settings | there)
    assert [row["output"] for row in found["rows"]] == [
        row["answer"] for row in SUMS[: settings.get("first")]
    ]


@pytest.mark.parametrize("corpus", ["c4", "alpaca", "unnatural"])
def test_a_token_that_is_not_taken_is_told_as_such(reader: Reader, corpus: str) -> None:
    """By a commit and streamed, by a commit, and by a branch."""
    assert reader.read(corpus, token="hf_expired")["refused"] == (
        f"source={corpus}: the hub does not take the token of HF_TOKEN (or of hf auth login); "
        "renew it, or unset it"
    )


@pytest.mark.parametrize(
    ("corpus", "file"), [("c4", f"allenai/c4/{SHARD}"), ("alpaca", f"tatsu-lab/alpaca/{ALPACA}")]
)
def test_a_file_that_is_damaged_is_one_line(
    reader: Reader, shelf: Path, tmp_path: Path, corpus: str, file: str
) -> None:
    owner, name, inner = file.split("/", maxsplit=2)
    shutil.copytree(shelf / owner / name, tmp_path / name)
    whole = (shelf / file).read_bytes()
    (tmp_path / name / inner).write_bytes(whole[: len(whole) // 2])
    reader.hub.repos[f"datasets/{owner}/{name}"] = tmp_path / name
    refused = reader.read(corpus)["refused"]
    assert refused.startswith(f"source={corpus}: {owner}/{name} cannot be read (")
    assert f"); delete its copy in {reader.home}, and python -m sweep.fetch with these" in refused
    assert "\n" not in refused


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("corpus", "file"),
    [
        ("code", f"codeparrot/codeparrot-clean-valid/{CODE_FILE}"),
        ("alpaca", f"tatsu-lab/alpaca/{ALPACA}"),
    ],
)
def test_a_full_disk_is_one_line(reader: Reader, shelf: Path, corpus: str, file: str) -> None:
    """What is fetched lands on a device on which there is never any room."""
    owner, name, _ = file.split("/", maxsplit=2)
    blobs = reader.home / "hub" / f"datasets--{owner}--{name}" / "blobs"
    shutil.rmtree(reader.home, ignore_errors=True)
    blobs.mkdir(parents=True)
    etag = hashlib.sha256((shelf / file).read_bytes()).hexdigest()
    (blobs / f"{etag}.{'0' * 8}.incomplete").symlink_to("/dev/full")
    refused = reader.read(corpus, afresh=False)["refused"]
    assert refused.startswith(f"source={corpus}: the disk is full, so {owner}/{name} could not")
    assert f"be kept in {reader.home}; make room there, or set HF_HOME to a folder on" in refused
