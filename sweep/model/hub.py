"""A causal language model from the Hugging Face hub, or from its cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

from sweep.hub import asking, check_name, patiently
from sweep.model.checkpoint import PICKLED, Checkpoint, DType, check_folder
from sweep.model.contents import CARD, VOCABULARIES, are_pickled, lacking
from sweep.model.placement import (
    Attention,
    Device,
    DeviceMap,
    Load,
    check_device_map,
    check_load,
)
from sweep.refusal import Refusal

FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.py", "merges*", "bpe.codes")
"""Of a repository, beside vocabularies; in its folders lies the same model in other formats."""


@final
@dataclass(frozen=True)
class Hub(Checkpoint):
    """Any Hugging Face causal language model on the hub.

    Attributes:
        repo: its repository.
        revision: branch, tag or commit.
        dtype: of the weights; statistics and solvers are in float32 in any case.
        device: where it runs.
        attention: which implementation computes attention; `auto`: the library's choice.
        device_map: how accelerate spreads it over devices, the host's memory and disk; None: it is
            on `device` whole.
        load: `stream` has its blocks come from disk one at a time.
        pickles: also read pickled weights; of them nothing but tensors (`weights_only`).
        trust_remote_code: also run model code that stands in the repository.
        blocks: path of the list of its blocks, where that is not found; None: it is found.
        dense: regular expression over the names of matrices that are never pruned; None: none.
    """

    repo: str
    revision: str = "main"
    dtype: DType = "float32"
    device: Device = "auto"
    attention: Attention = "auto"
    device_map: DeviceMap | None = None
    load: Load = "whole"
    pickles: bool = False
    trust_remote_code: bool = False
    blocks: str | None = None
    dense: str | None = None

    def __post_init__(self) -> None:
        """Raises: Refusal: no name of a repository, a device map that cannot be meant, or streaming
        beside one."""
        check_name(self.repo, _of_ones_own(self.repo))
        check_device_map(self.device, self.device_map)
        check_load(self.load, self.device_map, self.pickles)

    def folder(self) -> Path:
        """The snapshot in the cache, fetched if it is not there."""
        folder = _snapshot(self.repo, self.revision, self.pickles)
        try:
            return check_folder(str(folder), self.pickles)
        except Refusal as refusal:
            raise Refusal("repo", self.repo, refusal.reason) from refusal

    def source(self) -> str:
        """`hub`."""
        return "hub"

    def name(self) -> str:
        """The repository's, without its owner."""
        return self.repo.rpartition("/")[2]

    def pinned(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the commit that a branch or tag stands for now."""
        return {**node, "revision": self.folder().name}

    def wrong(self, reason: str) -> Refusal:
        """By the repository, not by the folder in the cache."""
        return Refusal("repo", self.repo, reason)


def _of_ones_own(path: str) -> str:
    return f"model=local model.path={path} takes a folder"


@cache
def _snapshot(repo: str, revision: str, pickles: bool) -> Path:
    """The folder of one commit, complete.

    Raises:
        Refusal: it is not to be had.
    """
    from huggingface_hub import (
        HfApi,
        constants,
        hf_hub_download,
        snapshot_download,
        try_to_load_from_cache,
    )

    files = [*FILES, *VOCABULARIES, *(["*.bin"] if pickles else [])]
    given: list[Path] = []

    def snapshot() -> Path:
        found = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=files,
                ignore_patterns=["*/*", "consolidated*"],  # the latter: again, for Mistral's code
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
        given.append(found)
        if lacking(found, pickles):
            names = _known(found)
            if pickles or not are_pickled(names):
                # of a hub in trouble, what is in the cache is given out, whole or not: ask it again
                told = HfApi().model_info(repo, revision=revision)
                names += [file.rfilename for file in told.siblings or ()]
            if not pickles and are_pickled(names):
                raise Refusal("repo", repo, PICKLED)
        with suppress(OSError, ValueError):  # its licence stands there; nothing else hangs on it
            hf_hub_download(repo, CARD, revision=found.name)
        return found

    def half() -> str | None:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
        folders = [*given, *([Path(config).parent] if isinstance(config, str) else [])]
        return lacking(folders[-1], pickles) if folders else None

    with asking("repo", repo, repo, {"revision": revision}, half, _of_ones_own(repo)):
        return patiently(snapshot)


def _known(folder: Path) -> list[str]:
    """The files of a snapshot, and those that the library has once listed of its commit."""
    there = [file.name for file in folder.iterdir()]
    listing = folder.parents[1] / "trees" / f"{folder.name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        there += json.loads(listing.read_text())["files"]
    return there
