"""Files are whole or not there at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from sweep import disk
from sweep.disk import check_writable, umask, write
from sweep.files import Folder
from sweep.refusal import OutOfSpace, Refusal

ABOUT = {"model": "tiny", "weights": "0", "method": "wanda", "compresses": True}
ABOUT |= {"sparsity": "50%", "ratio": 0.5, "calib": "c4", "seed": 0}
CONFIG: dict[str, Any] = {group: {"a": 1} for group in ("model", "method", "sparsity", "calib")}
CONFIG["keep"] = "none"
COMPRESSION = {"sparsity": 0.5, "layers": [], "weights_sha256": "0", "calibration": None}
RESULT: dict[str, Any] = {"settings_id": "a", "values": {}, "columns": [], "data": []}


def write_cell(folder: Folder) -> None:
    folder.write_cell("0" * 64, {"model": "x"}, {"tasks": "a"}, CONFIG, ABOUT)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    write_cell(folder)
    folder.write_compression(COMPRESSION)
    folder.write_metric("tasks", RESULT, {"alpaca": [{"answer": "größer\u2028x\x85", "em": 1.0}]})
    assert folder.cell() == {
        "id": "0" * 64,
        "about": ABOUT,
        "identity": {"model": "x"},
        "metrics": {"tasks": "a"},
        "config": CONFIG,
    }
    assert folder.compression() == COMPRESSION
    assert folder.metric("tasks", "a") == {**RESULT, "rows": {"alpaca": "generations"}}
    assert folder.metric("tasks", "b") is None
    assert folder.examples("tasks", "a") == {"alpaca": [{"answer": "größer\u2028x\x85", "em": 1.0}]}


def test_generations_lie_apart_from_other_rows(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    folder.write_metric("tasks", RESULT, {"alpaca": [{"answer": "x"}]})
    folder.write_metric("perplexity", RESULT, {"c4": [{"loss": 1.0}]})
    assert (folder.path / "generations" / "tasks-alpaca.jsonl").is_file()
    assert (folder.path / "metrics" / "perplexity-c4.jsonl").is_file()


def test_the_answers_of_a_cell_are_those_of_all_its_metrics_that_can_be_read(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    assert folder.answers() == {}
    row = {"prompt": "p", "gold": "g", "settings": "s", "answer": "a"}
    folder.write_metric("tasks", RESULT, {"alpaca": [row, {**row, "gold": "h"}]})
    folder.write_metric("lm_eval", RESULT, {"arc": [{"answer": "x"}]})
    folder.write_metric("judge", RESULT, {"alpaca": [{**row, "settings": "t"}]})
    first = {("p", "g", "s"): "a", ("p", "h", "s"): "a"}
    assert folder.answers() == {**first, ("p", "g", "t"): "a"}
    (folder.path / "generations" / "judge-alpaca.jsonl").write_text("{")
    assert folder.answers() == first


def test_a_result_with_other_settings_is_set_aside_with_its_rows(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    first, second = ({**RESULT, "settings_id": str(i) * 64, "x": i} for i in (1, 2))
    folder.write_metric("tasks", first, {"c4": [{"loss": 1}], "alpaca": [{"answer": "one"}]})
    folder.write_metric("tasks", second, {"alpaca": [{"answer": "two"}]})
    assert json.loads((folder.path / "metrics" / "tasks.json").read_text())["x"] == 2
    assert folder.metric("tasks", "1" * 64)["x"] == 1  # type: ignore[index]
    assert folder.metric("tasks", "2" * 64)["x"] == 2  # type: ignore[index]
    assert folder.examples("tasks", "1" * 64) == {
        "c4": [{"loss": 1}],
        "alpaca": [{"answer": "one"}],
    }
    assert folder.examples("tasks", "2" * 64) == {"alpaca": [{"answer": "two"}]}
    assert folder.examples("tasks", "3" * 64) == {}
    (folder.path / "metrics" / f"tasks@{'1' * 8}-c4.jsonl").unlink()
    assert folder.metric("tasks", "1" * 64) is None  # half a result is none


@pytest.mark.parametrize("text", ["{", "", "[1]", '{"settings_id": "a", "rows": {}}'])
def test_a_damaged_result_is_named_and_counts_as_missing(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    folder.write_metric("tasks", RESULT, {"alpaca": [{"answer": "x"}]})
    (folder.path / "metrics" / "tasks.json").write_text(text)
    for _ in range(3):
        assert folder.metric("tasks", "a") is None
    assert caplog.text.count("metrics/tasks.json: is damaged") == 1
    folder.write_metric("tasks", RESULT, {"alpaca": [{"answer": "x"}]})
    assert folder.metric("tasks", "a") is not None
    (folder.path / "generations" / "tasks-alpaca.jsonl").write_text("{")
    assert folder.examples("tasks", "a") == {}
    assert "tasks-alpaca.jsonl: is damaged" in caplog.text


def test_a_cell_that_was_cut_anywhere_is_damaged_and_a_whole_one_is_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-wanda-00000000")
    write_cell(folder)
    file = folder.path / "cell.yaml"
    whole = file.read_bytes()
    for end in range(len(whole) - len("keep: none\n")):
        file.write_bytes(whole[:end])
        assert folder.cell() is None, whole[:end]
    for damaged in (b"\xff\x00\x9f", b"id: [", b"- a", whole.replace(b"id: ", b"other: ", 1)):
        file.write_bytes(damaged)
        assert folder.cell() is None
    file.write_bytes(whole)
    assert folder.cell() is not None


def test_nan_is_neither_written_nor_taken_for_a_result(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            folder.write_metric("perplexity", {**RESULT, "value": bad}, {})
        with pytest.raises(ValueError, match="not JSON compliant"):
            folder.write_metric("perplexity", RESULT, {"c4": [{"loss": bad}]})
    assert list(folder.path.rglob("*.json*")) == []
    text = json.dumps({**RESULT, "rows": {}, "value": float("nan")})
    write(folder.path / "metrics" / "perplexity.json", text)
    assert folder.metric("perplexity", "a") is None


def test_a_cell_is_found_by_its_id_whatever_its_label(tmp_path: Path) -> None:
    write(tmp_path / "cells" / "tiny-old_name-01234567" / "cell.yaml", "id: x")
    assert Folder(tmp_path, "tiny-new_name-01234567").path.name == "tiny-old_name-01234567"


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    write(file, "old")

    def dies(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk.os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_named_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "result.json"
    write(file, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OutOfSpace, match=r"result\.json: cannot be written \(No space left"):
        write(file, "new")
    assert file.read_text() == "old"


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "result.json", "new")


def test_outputs_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"outputs=.*file/outputs: cannot be written to"):
        check_writable(str(tmp_path / "file" / "outputs"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_what_somebody_else_keeps_private_is_refused_by_name(tmp_path: Path) -> None:
    cell = Folder(tmp_path, "tiny-wanda-12345678")
    cell.write_compression(COMPRESSION)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    cell.path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(Refusal, match="is somebody else's, who keeps it private"):
            cell.compression()
    finally:
        os.seteuid(0)


def test_the_umask_is_read_without_being_set() -> None:
    before = os.umask(0o027)
    try:
        assert umask() == 0o027
    finally:
        os.umask(before)


def test_a_kept_model_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")

    def dies(path: Path) -> None:
        (path / "config.json").write_text("{}")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        folder.keep_model(dies)
    assert list(folder.path.iterdir()) == []

    def full(path: Path) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    with pytest.raises(OutOfSpace, match="No space left"):
        folder.keep_model(full)
    assert list(folder.path.iterdir()) == []

    def saves(path: Path) -> None:
        (path / "config.json").write_text(json.dumps({}))

    folder.keep_model(saves)
    assert [file.name for file in folder.model.iterdir()] == ["config.json"]


def test_a_failure_is_kept_until_the_cell_succeeds(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "tiny-dense-01234567")
    assert folder.failure() is None
    folder.write_failure("ValueError: no\n\nTraceback …")
    assert folder.failure() == "ValueError: no"
    folder.clear_failure()
    assert folder.failure() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no reason is known"),
        ("KeyError: 'a'\nTraceback …", "KeyError: 'a'"),
        ("\x1b[31mred\x1b]0;title\x07", "\ufffd[31mred\ufffd]0;title\ufffd"),
    ],
)
def test_why_a_cell_failed_is_one_line_that_a_terminal_only_shows(
    tmp_path: Path, text: str, said: str
) -> None:
    folder = Folder(tmp_path, "cell")
    folder.write_failure(text)
    assert folder.failure() == said
