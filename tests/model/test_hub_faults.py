"""A model of the hub when something is wrong: with the way, the hub, the disk or the permission.

The libraries for the hub run in a process of their own, as a user's would (`tests/hub_reader.py`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sweep.model.hub import Hub
from sweep.model.local import Local
from sweep.refusal import Refusal
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


FETCH = "python -m sweep.fetch with these words fetches it where there is a network"
HALF = "its copy in {home} lacks 1 of 2 files of weights"
NONE = "is not in {home}"


@pytest.mark.parametrize(
    ("fault", "there", "said"),
    [
        (Fault(f"GET /made/.*{WEIGHTS}", after=1), HALF, "broke off"),
        (Fault(f"/made/.*{WEIGHTS}", status=503), HALF, "answered 503"),
        (Fault("/made/.*(json|safetensors)", status=429), NONE, "answered 429"),
        (Fault("/api/", status=500), NONE, "answered 500"),
    ],
    ids=["cut", "weights", "files", "api"],
)
def test_a_hub_that_stays_in_trouble_is_one_line_and_nothing_half_is_taken_for_whole(
    reader: Reader, fault: Fault, there: str, said: str
) -> None:
    reader.hub.faults.append(Fault(fault.where, fault.status, fault.after, times=1000))
    found = reader.model(settings=SETTINGS)
    refused = found["refused"]
    where = there.format(home=reader.home)
    assert refused == f"repo={REPO}: {where}, and {reader.hub.address} {said}; {FETCH}"
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
        f"repo={REPO}: its copy in {reader.home} lacks weights, and {reader.hub.address} answered "
        f"503; {FETCH}"
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
        f"repo={REPO}: the disk is full, so it could not be kept in {reader.home}; make room "
        "there, or set HF_HOME to a folder on another disk"
    )


def test_a_gated_model_is_told_as_such_and_read_with_a_token(reader: Reader) -> None:
    reader.hub.gated.add(REPO)
    assert reader.model(settings=SETTINGS)["refused"] == (
        f"repo={REPO}: is gated; ask for access on its page, then log in (hf auth login) or set "
        "HF_TOKEN"
    )
    assert reader.model(settings=SETTINGS, token="hf_of_a_user")["files"] == WHOLE


def test_a_token_that_is_not_taken_is_told_as_such_though_the_model_is_for_everyone(
    reader: Reader,
) -> None:
    assert reader.model(settings=SETTINGS, token="hf_expired")["refused"] == (
        f"repo={REPO}: the hub does not take the token of HF_TOKEN (or of hf auth login); renew "
        "it, or unset it"
    )


PICKLES = {
    "whole": {"pytorch_model.bin": b"2" * 300},
    "parts": {
        "pytorch_model-1-of-1.bin": b"2" * 300,
        "pytorch_model.bin.index.json": b'{"weight_map": {"a": "pytorch_model-1-of-1.bin"}}',
    },
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
@pytest.mark.parametrize("weights", PICKLES)
def test_pickled_weights_are_named_and_read_where_that_is_allowed_with_and_without_the_hub(
    reader: Reader, tmp_path: Path, weights: str, listed: bool
) -> None:
    for file in tmp_path.glob("*safetensors*"):
        file.unlink()
    for name, content in PICKLES[weights].items():
        (tmp_path / name).write_bytes(content)
    said = (
        f"repo={REPO}: holds pickled weights only, not safetensors; model.pickles=true reads them, "
        "and nothing but tensors from them"
    )
    assert reader.model(settings=SETTINGS)["refused"] == said
    assert not [name for name in reader.hub.files_asked() if name.endswith(".bin")]
    if not listed:
        shutil.rmtree(copy_in_cache(reader) / "trees", ignore_errors=True)
    reader.hub.faults.append(Fault("/", status=503, times=1000))
    known = listed or weights == "parts"  # by its index
    half = f"repo={REPO}: its copy in {reader.home} lacks weights, and {reader.hub.address} answ"
    again = reader.model(settings=SETTINGS, afresh=False)["refused"]
    assert again.startswith(said if known else half)
    reader.hub.faults.clear()
    allowed = {**SETTINGS, "pickles": True}
    found = reader.model(settings=allowed, afresh=False)["files"]
    assert PICKLES[weights].keys() <= found.keys()
    assert reader.model(settings=SETTINGS, afresh=False)["refused"] == said


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "/made", "", "made/", "made/a b"])
def test_what_is_no_name_of_a_repository_is_refused_before_it_is_asked_for(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        Hub(name)
    assert str(caught.value).startswith(f"repo={name}: must be OWNER/NAME, as on the hub")


def test_a_folder_in_place_of_a_repository_is_told_what_takes_it(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        Hub(str(tmp_path))
    assert str(caught.value).endswith(
        f"on the hub; model=local model.path={tmp_path} takes a folder"
    )
    with pytest.raises(Refusal) as caught:
        Local("meta-llama/Llama-2-7b-hf").folder()
    assert str(caught.value).endswith(
        "; model=hub model.repo=meta-llama/Llama-2-7b-hf is of the hub"
    )
    with pytest.raises(Refusal, match=r"holds a Hugging Face model$"):
        Local("/nowhere/x").folder()


def test_the_models_card_comes_with_it_where_there_is_one(reader: Reader, tmp_path: Path) -> None:
    """It says the licence; a hub that does not give it is no reason to do without the model."""
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    reader.hub.faults.append(Fault("README", status=500, times=1000))
    assert reader.model(settings=SETTINGS)["files"] == WHOLE
    reader.hub.faults.clear()
    assert reader.model(settings=SETTINGS)["files"].keys() == WHOLE.keys() | {"README.md"}
