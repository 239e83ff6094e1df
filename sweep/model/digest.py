"""Which weights a model has: a hash over its matrices, in memory or in its files.

A result names the weights that it was measured on by this hash. It is over what can be pruned, so
it tells a compressed model from every other one of the same dense model, and from that one.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from sweep.model import anatomy
from sweep.model.checkpoint import Checkpoint
from sweep.model.reading import skeleton
from sweep.model.stream import Place, Shelf, Stream
from sweep.model.weights import are_converted, check_weights, load, stored


def weights_sha256(model: nn.Module) -> str:
    """Hash over the prunable weights as they are now, in the order of their names."""
    total = hashlib.sha256()
    for name, matrix in sorted(anatomy.prunable(model).items()):
        weight = matrix.weight.detach().cpu().contiguous()
        total.update(name.encode())
        total.update(weight.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def sha256_on_disk(checkpoint: Checkpoint) -> str:
    """The same of a model's files.

    Where they hold each matrix as it is in the model, one is read at a time; else, as with experts
    that are one tensor in either, the model is loaded.

    Raises:
        Refusal: files that are missing, damaged or cut short, or not those of this architecture.
    """
    bones = skeleton(checkpoint)
    check_weights(checkpoint, bones)
    folder, files = checkpoint.folder(), stored(checkpoint)
    places = {name: Place(folder / file, name) for file in files for name in files[file]}
    names = {module: name for name, module in bones.named_modules()}
    matrices = anatomy.prunable(bones).values()
    as_they_are = all(
        matrix.expert is None and f"{names[matrix.module]}.{matrix.parameter}" in places
        for matrix in matrices
    )
    if not as_they_are or are_converted(places, bones):
        return weights_sha256(load(checkpoint))
    Stream(bones, Shelf(places, None, folder), torch.device("cpu"))
    return weights_sha256(bones)
