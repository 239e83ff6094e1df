from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sweep.data.row import Tokens
from sweep.data.tokens import TokenFile
from sweep.refusal import Refusal

IDS = torch.arange(12).reshape(3, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"one": IDS}, tmp_path / "one.safetensors")
    save_file({"a": IDS, "b": IDS + 1}, tmp_path / "two.safetensors")
    return tmp_path


def refusal(path: Path, key: str | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        list(TokenFile(str(path), key).rows("calibration", None))
    return str(caught.value)


def test_every_row_of_the_tensor_is_a_window(folder: Path) -> None:
    source = TokenFile(str(folder / "two.safetensors"), "b")
    expected = [Tokens((1, 2, 3, 4)), Tokens((5, 6, 7, 8)), Tokens((9, 10, 11, 12))]
    assert list(source.rows("evaluation", None)) == expected
    assert sorted(source.rows("evaluation", 5), key=str) == sorted(expected, key=str)


def test_the_only_tensor_needs_no_name(folder: Path) -> None:
    assert len(list(TokenFile(str(folder / "one.safetensors")).rows("calibration", None))) == 3


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_any_integers_will_do(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"ids": IDS.to(dtype)}, tmp_path / "ids.safetensors")
    rows = list(TokenFile(str(tmp_path / "ids.safetensors")).rows("calibration", None))
    assert rows[0] == Tokens((0, 1, 2, 3))


def test_a_missing_name_is_answered_with_those_that_are_there(folder: Path) -> None:
    path = folder / "two.safetensors"
    assert refusal(path, "c") == f"key=c: {path} holds the tensors: a, b"
    assert refusal(path) == f"key=null: {path} holds the tensors: a, b"


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (IDS.float(), "float32[3, 4]"),
        (IDS.bool(), "bool[3, 4]"),
        (IDS.to(torch.complex64), "complex64[3, 4]"),
        (torch.arange(4), "int64[4]"),
        (torch.arange(8).reshape(2, 2, 2), "int64[2, 2, 2]"),
        (torch.zeros(0, 4, dtype=torch.long), "int64[0, 4]"),
    ],
)
def test_what_is_no_table_of_integers_is_refused(tmp_path: Path, tensor: Tensor, kind: str) -> None:
    save_file({"ids": tensor.contiguous()}, tmp_path / "ids.safetensors")
    expected = f"key=ids: is {kind}; must be integers of shape [n, time]"
    assert refusal(tmp_path / "ids.safetensors") == expected


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.safetensors"
    path.write_text("not a tensor in sight")
    assert refusal(path).startswith(f"path={path}: is no safetensors file")
    path.write_bytes(b"")
    assert refusal(path) == f"path={path}: the file is empty"
    assert refusal(tmp_path) == f"path={tmp_path}: is a folder; give a file"
    assert refusal(tmp_path / "none") == f"path={tmp_path}/none: no such file"


def test_the_origin_names_the_tensor_and_the_content(folder: Path) -> None:
    path = str(folder / "two.safetensors")
    a, b = TokenFile(path, "a").origin(), TokenFile(path, "b").origin()
    assert a.source == b.source == "tokens"
    assert a.revision != b.revision


def test_real_windows_are_read(real: Path) -> None:
    path = real / "golden" / "tokens.safetensors"
    ids = load_file(path)["evaluation"]
    rows = list(TokenFile(str(path), "evaluation").rows("evaluation", None))
    assert [row.ids for row in rows if isinstance(row, Tokens)] == [tuple(i) for i in ids.tolist()]
