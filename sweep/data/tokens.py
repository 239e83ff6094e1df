"""Windows that are tokenised already: an integer tensor `[n, time]` in a safetensors file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from sweep.data.local import existing, file_sha256
from sweep.data.row import Row, Tokens
from sweep.data.source import Origin, Packing, Part, Source
from sweep.refusal import Refusal, listed


@final
@dataclass(frozen=True)
class TokenFile(Source):
    """A tensor of token ids.

    Attributes:
        path: the safetensors file.
        key: the tensor's name in it; None: the only one.
        corpus: the name in results.
    """

    path: str
    key: str | None = None
    corpus: str = "tokens"
    packing: ClassVar[Packing | None] = None
    is_file: ClassVar[bool] = True
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        """The file's sha256 and the tensor's name fix the windows."""
        revision = f"sha256:{file_sha256(self.path)}:{self.key or ''}"
        return Origin(self.corpus, "tokens", revision, self.path)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """One row per window, for either part: whoever uses one tensor twice is told so."""
        windows = self._windows()
        if seed is not None:
            random.Random(seed).shuffle(windows)
        for window in windows:
            yield Tokens(tuple(window))

    def _windows(self) -> list[list[int]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(existing(self.path), framework="pt") as file:
                names = list(file.keys())
                key = self.key or (names[0] if len(names) == 1 else None)
                if key not in names:
                    there = listed(names, self.key or "")
                    raise Refusal("key", self.key, f"{self.path} holds the tensors: {there}")
                tensor = file.get_tensor(key)
        except SafetensorError as error:
            raise Refusal("path", self.path, f"is no safetensors file ({error})") from error
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.dim() != 2 or not kind.startswith(("int", "uint")) or tensor.numel() == 0:
            reason = f"is {kind}{list(tensor.shape)}; must be integers of shape [n, time]"
            raise Refusal("key", key, reason)
        windows: list[list[int]] = tensor.tolist()
        return windows
