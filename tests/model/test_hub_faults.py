"""A model of the hub when something is wrong: with the way, the hub, the disk or the permission.

The libraries for the hub run in a process of their own, as a user's would (`tests/hub_reader.py`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.hub_reader import Reader
from tests.loopback_hub import Fault

REPO = "made/tiny"
WEIGHTS = "two.safetensors"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "one.safetensors": b"1" * 300,
    WEIGHTS: b"0123456789" * 60,
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "one.safetensors", "b": WEIGHTS}}
    ).encode(),
}
WHOLE = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
SETTINGS = {"repo": REPO}


@pytest.fixture
def reader(hub_reader: Reader, tmp_path: Path) -> Reader:
    """With a hub on which all is well, and one model."""
    hub = hub_reader.hub
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    hub.repos, hub.commits = {REPO: tmp_path}, {}
    hub.gated.clear()
    hub.faults.clear()
    return hub_reader


def copy_in_cache(reader: Reader) -> Path:
    return reader.home / "hub" / "models--made--tiny"


def test_weights_that_are_cut_off_go_on_where_they_were(reader: Reader) -> None:
    reader.hub.faults.append(Fault(f"GET .*{WEIGHTS}", after=100))
    found = reader.model(settings=SETTINGS)
    assert found["files"] == WHOLE
    sent = [asked for asked in reader.hub.asked if "GET" in asked and WEIGHTS in asked]
    assert [asked.rpartition(" ")[2] for asked in sent][1:] == ["bytes=100-"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("where", ["GET /api/models/", "HEAD /made/", f"GET /made/.*{WEIGHTS}"])
def test_a_busy_hub_is_asked_again_when_it_says(reader: Reader, status: int, where: str) -> None:
    reader.hub.faults.append(Fault(where, status=status, times=2))
    found = reader.model(settings=SETTINGS)
    assert found["files"] == WHOLE
    assert sum(found["waits"]) <= 15


@pytest.mark.parametrize(
    ("fault", "lacks", "said"),
    [
        (
            Fault(f"GET /made/.*{WEIGHTS}", after=1),
            f"lacks 1 of 2 files of weights, {WEIGHTS} the first",
            "peer closed connection",
        ),
        (
            Fault(f"/made/.*{WEIGHTS}", status=503),
            f"lacks 1 of 2 files of weights, {WEIGHTS} the first",
            "it answered 503, it is in trouble",
        ),
        (Fault("/made/.*(json|safetensors)", status=429), "", "429, too many requests"),
        (Fault("/api/", status=500), "", "it answered 500, it is in trouble"),
    ],
    ids=["cut", "weights", "files", "api"],
)
def test_a_hub_that_stays_in_trouble_is_one_line_and_nothing_half_is_taken_for_whole(
    reader: Reader, fault: Fault, lacks: str, said: str
) -> None:
    reader.hub.faults.append(Fault(fault.where, fault.status, fault.after, times=1000))
    found = reader.model(settings=SETTINGS)
    refused = found["refused"]
    assert refused.startswith(f"repo={REPO}: ")
    assert said in refused
    assert lacks in refused
    assert f"at {reader.hub.address}); where there is a network, python -m sweep.fetch" in refused
    assert "\n" not in refused
    assert sum(found["waits"]) <= 60
    assert not [*copy_in_cache(reader).glob(f"snapshots/*/{WEIGHTS}")]
    reader.hub.faults.clear()
    assert reader.model(settings=SETTINGS, afresh=False)["files"] == WHOLE


@pytest.mark.parametrize("left", [("config.json",), ("config.json", "tokenizer.json")])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
def test_of_a_copy_that_is_half_there_it_is_said_what_it_lacks_and_that_the_hub_is_in_trouble(
    reader: Reader, left: tuple[str, ...], listed: bool
) -> None:
    """As another tool leaves it that wants the configuration only."""
    folder = Path(reader.model(settings=SETTINGS)["folder"])
    for file in folder.iterdir():
        if file.name not in left:
            file.unlink()
    if not listed:  # as versions of the library leave it that keep no list of what there is
        shutil.rmtree(copy_in_cache(reader) / "trees", ignore_errors=True)
    reader.hub.faults.append(Fault("/", status=503, times=1000))
    found = reader.model(settings=SETTINGS, afresh=False)
    assert found["refused"] == (
        f"repo={REPO}: its copy in the cache, {folder}, lacks weights (model.safetensors, or its "
        "parts with their index), and the hub does not give it (it answered 503, it is in trouble; "
        f"asked at {reader.hub.address}); where there is a network, python -m sweep.fetch with the "
        "words of this command fetches it"
    )
    assert sum(found["waits"]) <= 60


def test_a_copy_that_is_whole_is_taken_though_the_hub_is_in_trouble(reader: Reader) -> None:
    reader.model(settings=SETTINGS)
    reader.hub.faults.append(Fault("/", status=503, times=1000))
    assert reader.model(settings=SETTINGS, afresh=False)["files"] == WHOLE


def test_a_repository_that_has_no_weights_is_told_as_such(reader: Reader, tmp_path: Path) -> None:
    for file in tmp_path.glob("*safetensors*"):
        file.unlink()
    assert reader.model(settings=SETTINGS)["refused"] == (
        f"repo={REPO}: holds no weights (no *.safetensors)"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line(reader: Reader) -> None:
    """What is fetched lands on a device on which there is never any room."""
    blobs = copy_in_cache(reader) / "blobs"
    shutil.rmtree(reader.home, ignore_errors=True)
    blobs.mkdir(parents=True)
    (blobs / f"{WHOLE[WEIGHTS]}.{'0' * 8}.incomplete").symlink_to("/dev/full")
    refused = reader.model(settings=SETTINGS, afresh=False)["refused"]
    assert refused == (
        f"repo={REPO}: the disk is full, so {REPO} could not be kept in {reader.home}; make room "
        "there, or set HF_HOME to a folder on another disk"
    )


def test_a_gated_model_is_told_as_such_and_read_with_a_token(reader: Reader) -> None:
    reader.hub.gated.add(REPO)
    assert reader.model(settings=SETTINGS)["refused"] == (
        f"repo={REPO}: {REPO} is gated; ask for access on its page, then log in (hf auth login) or "
        "set HF_TOKEN"
    )
    assert reader.model(settings=SETTINGS, token="hf_of_a_user")["files"] == WHOLE


def test_the_models_card_comes_with_it_where_there_is_one(reader: Reader, tmp_path: Path) -> None:
    """It says the licence; a hub that does not give it is no reason to do without the model."""
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    reader.hub.faults.append(Fault("README", status=500, times=1000))
    assert reader.model(settings=SETTINGS)["files"] == WHOLE
    reader.hub.faults.clear()
    assert reader.model(settings=SETTINGS)["files"].keys() == WHOLE.keys() | {"README.md"}
