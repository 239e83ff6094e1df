"""What the cells of one process share: tokenizers, data, the loaded model, the dense reference.

Everything is loaded or computed when it is first asked for, and once. One model is resident at a
time; it is compressed in place and set back to dense after each cell, so that a model that fills
the device needs no second copy there.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sweep.calib.calibration import Calibration, Windows
from sweep.calib.packing import fixed
from sweep.cell import Cell, digest
from sweep.data.row import Tokens
from sweep.files import Kept, scratch
from sweep.method.gather import OnDisk, gather, kind_of
from sweep.method.method import from_dense
from sweep.metric.subject import Memory, Subject
from sweep.model import anatomy, stream
from sweep.model.checkpoint import Checkpoint
from sweep.model.contents import PROCESSOR, TOKENIZER, files_read, fingerprint, matching, own_code
from sweep.model.digest import weights_sha256
from sweep.model.local import Local
from sweep.model.matrix import Matrix
from sweep.model.original import Copied
from sweep.model.reading import load_tokenizer, read_config, skeleton
from sweep.model.weights import check_weights, load
from sweep.progress import EVERY
from sweep.refusal import Refusal, under

T = TypeVar("T")
log = logging.getLogger("sweep")


class Workshop:
    """Shared by the cells that run in one process.

    Args:
        progress: shows how far a loop is.
    """

    def __init__(self, progress: Any) -> None:
        self.progress = progress
        self._made: dict[tuple[str, str], Any] = {}
        self._resident: tuple[str, Bench] | None = None
        self._expected: Sequence[Cell] = ()
        self._gathered: tuple[str, OnDisk] | None = None
        self._unfit: dict[str, Refusal] = {}

    def expect(self, cells: Sequence[Cell]) -> None:
        """These cells will come: what is collected for one of them may as well serve the others."""
        self._expected = cells

    def fingerprint(self, folder: Path) -> str:
        """Content hash of a model's folder; read again only when a file's time or size changes."""
        stats = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files_read(folder)
        ]
        return self._once("fingerprint", f"{folder} {stats}", lambda: fingerprint(folder))

    def fingerprints(self) -> dict[str, str]:
        """Those that are known, for another process on the same files."""
        return {key: made for (kind, key), made in self._made.items() if kind == "fingerprint"}

    def trust(self, fingerprints: Mapping[str, str]) -> None:
        """What another process has read need not be read again, unless a file has changed since."""
        self._made |= {("fingerprint", key): made for key, made in fingerprints.items()}

    def config(self, checkpoint: Checkpoint) -> Any:
        """The model's `transformers` configuration."""
        return self._once("config", _key(checkpoint), lambda: read_config(checkpoint))

    def tokenizer(self, checkpoint: Checkpoint) -> Any:
        """The model's tokenizer."""
        return self._once("tokenizer", _key(checkpoint), lambda: load_tokenizer(checkpoint))

    def unembedded(self, checkpoint: Checkpoint) -> bool:
        """Whether the tokenizer knows tokens for which the model has no embedding."""

        def beyond() -> bool:
            bones: Any = self.skeleton(checkpoint)
            entries: int = bones.get_input_embeddings().weight.shape[0]
            return int(max(self.tokenizer(checkpoint).get_vocab().values())) >= entries

        return self._once("unembedded", _key(checkpoint), beyond)

    def skeleton(self, checkpoint: Checkpoint) -> nn.Module:
        """The model's architecture without weights."""
        return self._once("skeleton", _key(checkpoint), lambda: skeleton(checkpoint))

    def linears(self, checkpoint: Checkpoint) -> dict[str, Matrix]:
        """The linears in the blocks of that architecture, by name."""
        bones = self.skeleton(checkpoint)
        return self._once("linears", _key(checkpoint), lambda: anatomy.prunable(bones))

    def outside(self, checkpoint: Checkpoint) -> float:
        """Share of the weights in the blocks that are in no linear."""

        def share() -> float:
            linears = anatomy.matrices(self.skeleton(checkpoint))
            inside = sum(linear.weight.numel() for linear in linears.values())
            return 1 - inside / anatomy.weights_in_blocks(self.skeleton(checkpoint))

        return self._once("outside", _key(checkpoint), share)

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """See `sweep.model.weights.check_weights`; once for all cells of the model."""
        check = partial(check_weights, checkpoint, self.skeleton(checkpoint))
        self._once("weights", _key(checkpoint), check)

    def windows(self, cell: Cell) -> Windows | None:
        """The calibration windows; None where the method reads no data.

        Those that the dense model says itself are sampled once and kept for good.
        """
        calibration = cell.parts.calibration
        if calibration is None:
            return None
        if calibration.sampled:
            return self._sampled(cell, calibration)
        tokenizer = self.tokenizer(cell.parts.checkpoint)
        key = digest([_key(cell.parts.checkpoint), cell.config["calib"], cell.settings.seed])
        key += digest(sorted(cell.without))

        def draw() -> Windows:
            what = f"reading calib {cell.about['calib']}, seed {cell.settings.seed}"
            with _said_if_slow(what), under("calib"):
                return calibration.windows(tokenizer, cell.settings.seed, without=cell.without)

        return self._once("windows", key, draw)

    def _sampled(self, cell: Cell, calibration: Calibration) -> Windows:
        """Of the dense model, which is loaded for it if it must be; its weights must be dense."""
        decides = {"numerics", "model", "dtype", "attention", "code", "calib", "data", "seed"}
        key = digest({name: value for name, value in cell.identity.items() if name in decides})

        def sample() -> dict[str, Any]:
            tokenizer = self.tokenizer(cell.parts.checkpoint)
            windows = calibration.windows(tokenizer, cell.settings.seed, self.bench(cell))
            return {"ids": windows.ids.tolist()}

        def recall() -> Windows:
            kept = self.memory(cell).once("self", key, sample, lasts=lambda found: True)
            return fixed([Tokens(tuple(ids)) for ids in kept["ids"]], None)

        return self._once("sampled", key, recall)

    def material(self, cell: Cell, metric: str) -> Mapping[str, Any]:
        """A metric's data, read and tokenised."""
        tokenizer = self.tokenizer(cell.parts.checkpoint)
        key = digest([_key(cell.parts.checkpoint), cell.config["metric"][metric]])

        def read() -> Mapping[str, Any]:
            with _said_if_slow(f"reading metric.{metric}"), under(f"metric.{metric}"):
                return cell.parts.metrics[metric].load(tokenizer)

        return self._once("material", key, read)

    def memory(self, cell: Cell) -> Memory:
        """What is kept for good below the cell's folder of outputs, one for the whole process."""
        outputs = cell.settings.outputs
        return self._once("memory", outputs, lambda: Kept(outputs))

    def bench(self, cell: Cell) -> Bench:
        """The cell's model, loaded; the one that was there before is let go.

        Raises:
            Refusal: it cannot be used; from then on it is not loaded again.
        """
        key = _key(cell.parts.checkpoint)
        if key in self._unfit:
            raise self._unfit[key]
        if self._resident is None or self._resident[0] != key:
            self._let_go()
            try:
                with under("model"):
                    model = load(cell.parts.checkpoint, scratch(cell.settings.outputs, "stream"))
            except Refusal as refusal:
                self._unfit[key] = copy(refusal)  # without the trace, whose frames have the model
                raise
            tokenizer = self.tokenizer(cell.parts.checkpoint)
            memory = self.memory(cell)
            size, folder = cell.settings.batch_size, cell.parts.checkpoint.folder()
            bench = Bench(model, tokenizer, size, self.progress, memory, folder)
            self._resident = (key, bench)
        return self._resident[1]

    def _let_go(self) -> None:
        """The model that was loaded leaves the memory, in which the next one may need its room.

        Those that are streamed, and some of others' code, hold themselves in cycles.
        """
        if self._resident is None and not self._unfit:
            return
        self._resident = None
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def unfit(self, cell: Cell) -> Refusal | None:
        """Why the cell's model could not be used when it was loaded; None: it was not, or could."""
        return self._unfit.get(_key(cell.parts.checkpoint))

    def gathered(self, cell: Cell, windows: Windows | None) -> OnDisk | None:
        """Statistics of the dense model, which the cell's bench must be; None if it has its own.

        Those of one model, calibration, seed and scope are kept at a time.
        """
        own = kind_of(cell.parts.method)
        if windows is None or own is None or not from_dense(cell.parts.method):
            return None
        key = statistics_key(cell)
        if self._gathered is not None and self._gathered[0] == key:
            found = self._gathered[1]
            if own in found.kinds:
                return found
        if self._gathered is not None:
            self._gathered[1].clear()
            self._gathered = None
        alike = [
            other.parts.method
            for other in (cell, *self._expected)
            if from_dense(other.parts.method) and statistics_key(other) == key
        ]
        found = gather(
            self.bench(cell).model,
            alike,
            windows=(windows.ids, windows.mask),
            batch_size=cell.settings.batch_size,
            progress=self.progress,
            below=scratch(cell.settings.outputs, "statistics"),
        )
        self._gathered = key, found
        return found

    def _once(self, kind: str, key: str, make: Callable[[], T]) -> T:
        if (kind, key) not in self._made:
            self._made[kind, key] = make()
        found: T = self._made[kind, key]
        return found


@contextmanager
def _said_if_slow(what: str) -> Iterator[None]:
    """A line about what takes so long; none if it does not, and a refusal may be all there is."""
    said = threading.Timer(EVERY, log.info, ("%s", what))
    said.daemon = True
    said.start()
    try:
        yield
    finally:
        said.cancel()


class Bench:
    """A loaded model: dense, or for a while compressed.

    Args:
        model: the model with its dense weights.
        tokenizer: its tokenizer.
        batch_size: sequences in one forward pass.
        progress: shows how far a loop is.
        memory: keeps what must not be asked for twice.
        folder: from which the model was loaded.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_size: int,
        progress: Any,
        memory: Memory,
        folder: Path,
    ) -> None:
        self.folder = folder
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.progress = progress
        self.memory = memory
        self.dense = self._subject()
        self._original = stream.original(model) or Copied(model)

    @contextmanager
    def altered(self) -> Iterator[Subject]:
        """The model as a subject of its own whose linears may be changed; dense again after."""
        self._original.keep()
        self.dense.leave()
        self.dense.returned = self._returned
        try:
            yield self._subject()
        finally:
            self.reset()
            self.dense.come_back(self.model)
            self.dense.returned = nullcontext  # it would keep the bench, which keeps it, alive

    @contextmanager
    def _returned(self) -> Iterator[None]:
        """While altered, the dense weights for a while; then those that were there again."""
        if not self.dense.away:  # there is nothing to lend: the weights are dense
            yield
            return
        with self._original.lent():
            self.dense.come_back(self.model)
            try:
                yield
            finally:
                self.dense.leave()

    def reset(self) -> None:
        """The dense weights, as they were when the model was first altered."""
        self._original.restore()

    def weights_sha256(self) -> str:
        """Hash over the prunable weights as they are now."""
        return weights_sha256(self.model)

    def save(self, path: Path) -> None:
        """The model as it is now in Hugging Face format, safetensors.

        Beside it lie the files of its tokenizer, of the processor of a model that also sees, and
        their own code if they have such, as they were: the tokenizer here pads as measuring wants.
        """
        self._original.save(path)
        for file in [*matching(self.folder, (*TOKENIZER, *PROCESSOR)), *own_code(self.folder)]:
            shutil.copyfile(file, path / file.name)

    def adopt(self, path: Path, trust_remote_code: bool) -> None:
        """Take the linears' weights from a saved model.

        Raises:
            Refusal: it cannot be read, or is of another architecture; the weights here may be
                neither these nor those then, until `reset`.
        """
        check_weights(Local(str(path), trust_remote_code=trust_remote_code), self.model)
        self._original.adopt(path, trust_remote_code)

    def _subject(self) -> Subject:
        return Subject(
            self.model,
            self.tokenizer,
            batch_size=self.batch_size,
            progress=self.progress,
            memory=self.memory,
        )


def statistics_key(cell: Cell) -> str:
    """Equal for cells whose dense models are fed the same, and looked at in the same places."""
    config = cell.config
    fed = [config["calib"], cell.settings.seed, sorted(cell.without), config["method"].get("scope")]
    return digest([_key(cell.parts.checkpoint), *fed])


def _key(checkpoint: Checkpoint) -> str:
    """One string per model as it is loaded."""
    placed = [checkpoint.load, checkpoint.device, checkpoint.device_map, checkpoint.attention]
    read = [checkpoint.blocks, checkpoint.dense]
    return json.dumps([str(checkpoint.folder()), checkpoint.dtype, *placed, *read])
