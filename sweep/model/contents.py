"""Which files of a model's folder are read, and the fingerprint over them.

A folder in the hub's cache is filled by several tools, each with what it wants: the same weights in
other formats, the files of an image processor. What is not read here changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

SAFETENSORS = "model.safetensors"
"""The file of weights; where there are several, an index beside them is called after it."""

PICKLE = "pytorch_model.bin"
"""The same, pickled."""

CONFIGS = (
    "config.json",
    "generation_config.json",
    "adapter*",  # read where peft is installed
    "training.json",  # of the embedded model: how it came to be
)

VOCABULARIES = ("tokenizer.json", "*.model", "*vocab*", "*.tiktoken", "*.spm", "tekken.json")
"""Files from which a tokenizer is made, one or several."""

TOKENIZER = (
    *VOCABULARIES,
    "tokenizer*",
    "merges*",
    "bpe.codes",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
"""All that says how text becomes tokens, and a conversation a text."""

CHAT_TEMPLATES = ("chat_template*", "tokenizer_config.json")
"""Those of them in which a chat template may stand."""

CARD = "README.md"
"""What its author says of it."""

CODE = ("*.py",)
"""Code that comes with a model, which is run only where that is allowed."""

PROCESSOR = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""How pictures and sounds become input, of models that also see or hear; not read here."""


def matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files right in a folder that one of the patterns matches, sorted by name."""
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)


def asks_for_the_date(folder: Path) -> bool:
    """Whether the chat template is one that puts the date into a chat."""
    return any(b"strftime_now" in file.read_bytes() for file in matching(folder, CHAT_TEMPLATES))


def weight_files(folder: Path) -> list[str]:
    """The files from which the weights are loaded, by name, the index of several left out.

    Safetensors if there are any, as transformers chooses; else pickles.

    Raises:
        ValueError: an index that cannot be used.
    """
    for whole in (SAFETENSORS, PICKLE):
        index = folder / f"{whole}.index.json"
        if (folder / whole).is_file():
            return [whole]
        if index.is_file():
            return _indexed(index)
    return []


def _indexed(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"its {index.name} cannot be used ({said[0]})") from error


def are_pickled(names: Iterable[str]) -> bool:
    """Whether all weights among the names of a model's files are pickled, and there are some."""
    known = list(names)
    stem = PICKLE.removesuffix(".bin")
    pickled = [name for name in known if name.startswith(stem)]
    return bool(pickled) and not any(name.endswith(".safetensors") for name in known)


def lacking(folder: Path, pickles: bool) -> str | None:
    """What a folder lacks to be loaded, in words; None: nothing.

    Args:
        folder: a model's.
        pickles: whether pickled weights count.
    """
    if not (folder / "config.json").is_file():
        return "config.json"
    try:
        weights = weight_files(folder)
    except ValueError:
        return None  # that is another error, and told where it is met
    if not weights or (are_pickled(weights) and not pickles):
        return "weights"
    missing = [name for name in weights if not (folder / name).is_file()]
    if missing:
        return f"{len(missing)} of {len(weights)} files of weights"
    return None if matching(folder, VOCABULARIES) else "a tokenizer"


def files_read(folder: Path) -> list[Path]:
    """Every file that can change what the model says, sorted by name; without code."""
    try:
        weights = [folder / name for name in weight_files(folder)]
    except ValueError:
        weights = []  # refused when it is checked
    there = [file for file in weights if file.is_file()]
    return sorted({*there, *matching(folder, (*CONFIGS, *TOKENIZER))})


def fingerprint(folder: Path) -> str:
    """sha256 over the names and bytes of the files that are read: the same wherever they lie."""
    return _hashed(files_read(folder))


def code_fingerprint(folder: Path) -> str:
    """The same of the code that comes with a model, which is run only where that is allowed."""
    return _hashed(matching(folder, CODE))


def own_code(folder: Path) -> list[Path]:
    """The code that comes with a model, where its model, tokenizer or processor is made by it."""
    making = matching(folder, ("config.json", "tokenizer_config.json", *PROCESSOR))
    told = any("auto_map" in file.read_text(encoding="utf-8") for file in making)
    return matching(folder, CODE) if told else []


def license_of(folder: Path) -> dict[str, str]:
    """What the model's card says of its licence: `license`, `license_name`, `license_link`.

    As far as they are there; nothing where it has no card, or one that cannot be read.
    """
    from huggingface_hub import ModelCard

    card = folder / CARD
    if not card.is_file():
        return {}
    try:
        said = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    names = ("license", "license_name", "license_link")
    return {name: said[name] for name in names if isinstance(said.get(name), str)}


def _hashed(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.name} {digest}\n".encode())
    return total.hexdigest()
