"""`python -m sweep.export CELL --to hf|compressed-tensors|hub`: a cell's model, taken elsewhere.

Exit code 0: it is there; 1: it is not, and one line says why.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from sweep import garbage, size
from sweep.card import JOINT, UNFIT
from sweep.disk import replacing_folder
from sweep.explain import in_one_line
from sweep.export import bitmask, upload
from sweep.export.kept import Kept, find
from sweep.grid import quiet
from sweep.options import Options
from sweep.refusal import OutOfSpace, Refusal

CARD = "README.md"

UNHELD = (
    "The weights were not held against the record: that takes the code that comes with the model, "
    "which is not run here."
)


def to_folder(kept: Kept, out: Path | None) -> Path:
    """The model as a Hugging Face folder: where it lies already, or a copy; its card as of now."""
    kept.folder.write_card(kept.card())
    if out is None:
        return kept.folder.model
    with replacing_folder(out) as partial:
        shutil.copytree(kept.folder.model, partial, dirs_exist_ok=True)
    return out


def to_bitmask(kept: Kept, out: Path | None) -> Path:
    """The model in the sparse-bitmask form of compressed-tensors."""
    if not kept.compression["layers"]:
        reason = "is dense: there are no zeros to leave out; --to hf takes it as it is"
        raise Refusal("", "", f"{kept.folder.path.name}: {reason}")
    out = out or kept.folder.path / "export" / "compressed-tensors"
    with replacing_folder(out) as partial:
        for file in kept.folder.model.iterdir():
            if ".safetensors" not in file.name:
                (shutil.copytree if file.is_dir() else shutil.copy)(file, partial / file.name)
        bitmask.write(kept.folder.model, partial, kept.compression)
        text = kept.card(bitmask.LOADING)
        (partial / CARD).write_text(text, encoding="utf-8")
    return out


def to_hub(kept: Kept, repo: str | None, *, public: bool) -> str:
    """The Hugging Face folder, uploaded; the commit's address."""
    token = upload.check(repo)
    assert repo is not None
    folder = to_folder(kept, None)
    message = f"{kept.folder.path.name}, by compression-sweep"
    return upload.upload(folder, repo, token, public=public, message=message)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parsed = _parsed(words)
    quiet()
    with in_one_line("sweep.export"):
        sys.stdout.write("".join(f"{line}\n" for line in _export(parsed)))


def _export(parsed: Namespace) -> list[str]:
    """Do what is asked for; what there is to say of it."""
    _check_hub(parsed)
    if parsed.to == "compressed-tensors":
        bitmask.check()
    if parsed.out is not None:
        _check_out(parsed.out)
    kept = find(parsed.cell, parsed.outputs)
    more = [*_sizes(kept), *([] if kept.held else [UNHELD])]
    if parsed.to == "hub":
        return [to_hub(kept, parsed.repo, public=parsed.public), *more]
    made = to_folder if parsed.to == "hf" else to_bitmask
    try:
        out = made(kept, parsed.out)
    except OutOfSpace as error:  # which says it of `outputs`, a setting of sweeps
        raise OutOfSpace(str(error).removeprefix("outputs: ")) from error
    return [f"{out}: {size.human(_bytes(out))} of weights", *more]


def _sizes(kept: Kept) -> list[str]:
    """Dense and sparse bytes, and what that does not mean."""
    if not kept.compression["layers"]:
        return []
    found = size.of_model(kept.folder.model, kept.compression["layers"])
    return [
        f"all tensors, dense: {found.dense:,} bytes; compressed linears as bitmasks: "
        f"{found.bitmask:,} bytes ({found.bitmask / found.dense:.1%})",
        *([JOINT] if size.has_joint_experts(kept.folder.model) else []),
        UNFIT,
    ]


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _check_hub(parsed: Namespace) -> None:
    """Before anything is read: raises Refusal: no upload can be made, or none would be."""
    if parsed.to == "hub":
        upload.check(parsed.repo)
        return
    for option, given in (("--repo", parsed.repo), ("--public", parsed.public)):
        if given:
            typed = option if given is True else f"{option} {given}"
            raise Refusal("", "", f"{typed}: belongs to --to hub; --to {parsed.to} uploads nothing")


def _check_out(out: Path) -> None:
    """Raises: Refusal: something is there already, or nothing can be made there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal("", "", f"--out {out}: is there already, and not empty; give a new folder")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        reason = f"cannot be written to ({error.strerror}); choose a folder that can"
        raise Refusal("", "", f"--out {out}: {reason}") from error


def _parsed(words: Sequence[str] | None) -> Namespace:
    parser = Options(
        "sweep.export",
        "Take the model that a cell keeps (keep=model) elsewhere.",
    )
    parser.add_argument("cell", metavar="CELL", help="a cell's folder, its name, or its id")
    parser.add_argument(
        "--to",
        required=True,
        choices=("hf", "compressed-tensors", "hub"),
        help="a Hugging Face folder; the same with its zeros left out; a repository on the hub",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, metavar="DIR", help="default: in the cell's folder")
    where.add_argument(
        "--repo", metavar="OWNER/NAME", help="for the hub; log in (hf auth login), or set HF_TOKEN"
    )
    parser.add_argument(
        "--public", action="store_true", help="a new repository is for everyone to see"
    )
    parser.add_argument(
        "--outputs", type=Path, default=Path("outputs"), help="where cells are (default: outputs)"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    with garbage.alone():
        main()
