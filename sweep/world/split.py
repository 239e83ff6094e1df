"""Which split a row belongs to: decided by its content alone, so that splits cannot overlap.

A row's *content* is the text of a document, or what a question asks whatever its wording. Its hash
puts it into exactly one split, for every seed, every length of the stream and every corpus that
asks the same question in other words. Questions about closed facts can only be answered by a model
that was trained on them: they train all together, and share out calibration and evaluation.
"""

from hashlib import sha256
from typing import Literal

Split = Literal["train", "calibration", "evaluation"]
Kind = Literal["recall", "skill"]

HELD_OUT_SHARE = 0.08  # of documents and skill questions, for evaluation; as much for calibration
_HASH_BITS = 64


def position(content: tuple[str, ...]) -> float:
    """The content's fixed place in [0, 1), uniform over contents."""
    digest = sha256("\x1f".join(content).encode()).digest()
    return int.from_bytes(digest[: _HASH_BITS // 8], "big") / float(2**_HASH_BITS)


def belongs(split: Split, kind: Kind, content: tuple[str, ...]) -> bool:
    """Whether a row with this content may appear in `split`; documents count as skill."""
    if kind == "recall":
        if split == "train":
            return True
        return (position(content) < 0.5) == (split == "evaluation")
    place = position(content)
    if split == "evaluation":
        return place < HELD_OUT_SHARE
    if split == "calibration":
        return HELD_OUT_SHARE <= place < 2 * HELD_OUT_SHARE
    return place >= 2 * HELD_OUT_SHARE
