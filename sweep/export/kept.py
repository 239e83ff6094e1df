"""The cell that is meant, and the model that it keeps: whole, and the one that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import card
from sweep.files import Folder
from sweep.model.digest import sha256_on_disk
from sweep.model.local import Local
from sweep.model.weights import stored
from sweep.refusal import Refusal, listed

CODE = "trust_remote_code"
"""With this setting a model came with code of its own, which is run by a sweep, and never here."""


@dataclass(frozen=True)
class Kept:
    """A cell with a kept model.

    Attributes:
        folder: the cell's.
        dense: of the dense cell of the same model, if that is there.
        said: what is in its cell.yaml.
        compression: what became of its layers.
        weights: hash of the kept weights.
        held: whether that is what the files were found to hold; else the record says it.
    """

    folder: Folder
    dense: Folder | None
    said: dict[str, Any]
    compression: dict[str, Any]
    weights: str
    held: bool

    def card(self, loading: str = card.LOADING, model: Path | None = None) -> str:
        """Its card as it would be written now.

        Args:
            loading: how the form is loaded, in Markdown.
            model: a folder with the weights as safetensors, dense; None: the kept one.
        """
        return card.text(
            self.folder, self.dense, self.weights, model or self.folder.model, loading=loading
        )


def find(word: str, outputs: Path) -> Kept:
    """The cell by its folder, or by its name or id or the beginning of one.

    Args:
        word: as typed.
        outputs: below which names are looked for.

    Raises:
        Refusal: no such cell, several of them, or one whose model is not there, cannot be read, or
            is not the one that was measured.
    """
    folder = _folder(word, outputs)
    said, compression = folder.cell(), folder.compression()
    if said is None or compression is None or not folder.model.is_dir():
        reason = f"its model was not kept; this keeps it: {_again(folder, said)}"
        raise Refusal("", "", f"{folder.path.name}: {reason}")
    measured = [card.weights_of(folder, said["id"]), compression["weights_sha256"]]
    checkpoint, held = _checkpoint(folder, said), not said["config"]["model"].get(CODE)
    try:
        if held:
            weights = sha256_on_disk(checkpoint)
        else:
            stored(checkpoint)
            weights = next(filter(None, measured))
        fault = None if weights in measured else "is not the model that was measured"
    except Refusal as refusal:
        fault = f"cannot be read ({refusal.fault})"
    if fault is not None:
        again = f"delete this folder, and it is made again by: {_again(folder, said)}"
        raise Refusal("", "", f"{folder.model}: {fault}; {again}")
    return Kept(folder, _dense(folder, said), said, compression, weights, held)


def _again(folder: Folder, said: dict[str, Any] | None) -> str:
    """The command that makes the cell's model, there where the cell is."""
    typed = None if said is None else card.command(said)
    if typed is None:
        return "its command again, with keep=model"
    cells = folder.path.parent
    return f"{typed} outputs={cells.parent}" if cells.name == "cells" else typed


def _checkpoint(folder: Folder, said: dict[str, Any]) -> Local:
    """The kept model, to be read as the dense one was."""
    own = {"dtype", "blocks", "dense"}
    settings = {name: value for name, value in said["config"]["model"].items() if name in own}
    return Local(str(folder.model), device="cpu", **settings)


def _folder(word: str, outputs: Path) -> Folder:
    typed = Path(word)
    if (typed / "cell.yaml").is_file():
        return Folder.at(typed.absolute())
    names = sorted(file.parent.name for file in outputs.glob("cells/*/cell.yaml"))
    meant = [name for name in names if name == word]
    meant = meant or [n for n in names if n.startswith(word) or word[:8] == n[-8:] != ""]
    meant = meant or [name for name in names if name[-8:].startswith(word)]
    if len(meant) == 1:
        return Folder(outputs, meant[0])
    if meant:
        raise Refusal("", "", f"{word}: is the beginning of {listed(meant)}; give more of it")
    there = listed(names, word)
    reason = f"no such cell, neither a folder nor below {outputs}; there are: {there}"
    raise Refusal("", "", f"{word}: {reason}")


def _dense(folder: Folder, said: dict[str, Any]) -> Folder | None:
    """The cell beside it that is of the same model and not compressed."""
    for file in sorted(folder.path.parent.glob("*-dense-*/cell.yaml")):
        other = Folder.at(file.parent)
        about = (other.cell() or {}).get("about", {})
        if about.get("weights") == said["about"]["weights"] and not about.get("compresses"):
            return other
    return None
