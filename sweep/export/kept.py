"""The cell that is meant, and the model that it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import card
from sweep.files import Folder
from sweep.refusal import Refusal, listed


@dataclass(frozen=True)
class Kept:
    """A cell with a kept model.

    Attributes:
        folder: the cell's.
        dense: of the dense cell of the same model, if that is there.
        said: what is in its cell.yaml.
        compression: what became of its layers.
        weights: hash of the kept weights.
    """

    folder: Folder
    dense: Folder | None
    said: dict[str, Any]
    compression: dict[str, Any]
    weights: str

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
        Refusal: no such cell, several of them, or one that keeps no model.
    """
    folder = _folder(word, outputs)
    said, compression = folder.cell(), folder.compression()
    if said is None or compression is None or not folder.model.is_dir():
        typed = None if said is None else card.command(said)
        where = folder.path.parent.parent
        again = f"{typed} outputs={where}" if typed else "its command again, with keep=model"
        raise Refusal("", "", f"{folder.path.name}: its model was not kept; this keeps it: {again}")
    dense = _dense(folder, said)
    weights = card.weights_of(folder) or compression["weights_sha256"]
    return Kept(folder, dense, said, compression, weights)


def _folder(word: str, outputs: Path) -> Folder:
    typed = Path(word)
    if (typed / "cell.yaml").is_file():
        typed = typed.absolute()
        return Folder(typed.parent.parent, typed.name)
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
        other = Folder(folder.path.parent.parent, file.parent.name)
        about = (other.cell() or {}).get("about", {})
        if about.get("weights") == said["about"]["weights"] and not about.get("compresses"):
            return other
    return None
