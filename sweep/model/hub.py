"""A causal language model from the Hugging Face hub, or from its cache."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

from sweep.hub import FETCH, asking, patiently
from sweep.model.checkpoint import Checkpoint, DType, check_folder
from sweep.model.contents import CARD, VOCABULARIES, lacking
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
        """Raises: Refusal: a device map that cannot be meant, or streaming beside one."""
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
        if what := lacking(found, pickles):
            if constants.HF_HUB_OFFLINE:
                reason = f"its copy in the cache, {found}, lacks {what}; {FETCH}"
                raise Refusal("repo", repo, reason)
            # of a hub in trouble, what is in the cache is given out, whole or not: ask it again
            HfApi().model_info(repo, revision=revision)
        with suppress(OSError, ValueError):  # its licence stands there; nothing else hangs on it
            hf_hub_download(repo, CARD, revision=found.name)
        return found

    def half() -> str | None:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
        if not isinstance(config, str):
            return None
        what = lacking(Path(config).parent, pickles)
        return what and f"{Path(config).parent}, lacks {what}"

    with asking("repo", repo, repo, {"revision": revision}, half):
        return patiently(snapshot)
