"""How files are written: whole, or not at all; and read: whole, or taken as missing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from sweep.refusal import OutOfSpace, Refusal

log = logging.getLogger("sweep")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_FULL |= {errno.ENOTDIR, errno.EEXIST}  # a file where a folder should be


def write(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the whole new one.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written to, which then takes its place in one step.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            os.close(handle)
            Path(name).chmod(0o666 & ~umask())  # as open() would have made it
            yield Path(name)
            with open(name, "rb") as file:  # noqa: PTH123 - the file is synced, whoever wrote it
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to be filled, which then takes its place in one step.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        try:
            yield partial
            partial.chmod(path.parent.stat().st_mode)
            for file in partial.rglob("*"):  # safetensors are written for their owner only
                file.chmod((0o777 if file.is_dir() else 0o666) & ~umask())
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the disk into `OutOfSpace`."""
    try:
        yield
    except Exception as error:
        # safetensors has an error of its own, which holds the system's number in its text
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in _FULL:
            raise OutOfSpace(
                f"outputs: {path}: cannot be written ({os.strerror(number)})"
            ) from error
        raise


def once(path: Path, content: str) -> str:
    """What a file holds that is written once: this, unless somebody was there before.

    Raises:
        OutOfSpace: the disk takes no more.
    """
    if not path.exists():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".") as whole:
                whole.write(content)
                whole.flush()
                Path(whole.name).chmod(0o666 & ~umask())
                with contextlib.suppress(FileExistsError):
                    os.link(whole.name, path)
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One at a time; where the file system has no locks, as many as there are."""
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def umask() -> int:
    """Of this process. Read where Linux tells it: to set it and back would meet other threads."""
    try:
        said = re.search(r"^Umask:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        said = None
    if said is not None:
        return int(said[1], 8)
    before = os.umask(0o077)
    os.umask(before)
    return before


def check_writable(outputs: str) -> None:
    """Raises: Refusal: `outputs` cannot be made, or cannot be written to."""
    try:
        Path(outputs).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs) as probe:
            probe.write(b"0" * 4096)
            probe.flush()
    except OSError as error:
        reason = f"cannot be written to ({error.strerror}); choose a folder that can"
        raise Refusal("outputs", outputs, reason) from error


def json_text(record: Mapping[str, Any]) -> str:
    """A record as a file of JSON.

    Raises: ValueError: NaN or infinity, which no JSON holds.
    """
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_line(row: Mapping[str, Any]) -> str:
    """A row of a file that has one a line; see `json_text`."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _no_json(name: str) -> NoReturn:
    """Raises: ValueError: for NaN and its kin, which Python's reader would take."""
    raise ValueError(f"{name} is no JSON")


def read_rows(path: Path) -> list[dict[str, Any]] | None:
    """The objects in a file, one a line; None where they cannot be read, which is said."""
    try:
        # not splitlines(), which also splits at U+2028 and U+0085 inside an answer
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        say_damaged(path, str(error))
        return None


def read_json(path: Path, needs: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The object in a file; None where there is none, or one that was damaged from outside.

    Args:
        path: of the file.
        needs: what is in it at the least, and of which kind.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_json)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        reason = "is somebody else's, who keeps it private; ask for access, or take another folder"
        raise Refusal("outputs", path, reason) from error
    except ValueError as error:
        say_damaged(path, str(error))
        return None
    return whole(path, found, needs or {})


def whole(path: Path, found: Any, needs: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file holds, if it has what it needs; else None, and why is said."""
    lack = _lack(found, needs)
    if lack is not None:
        say_damaged(path, lack)
        return None
    record: dict[str, Any] = found
    return record


def _lack(found: Any, needs: Mapping[str, Any]) -> str | None:
    """What a record lacks of what it needs; None: nothing."""
    if not isinstance(found, dict):
        return "holds no object"
    for key, kind in needs.items():
        if isinstance(kind, Mapping):
            lack = _lack(found.get(key), kind)
            if lack is not None:
                return f"{key}: {lack}"
        elif not isinstance(found.get(key), kind) or key not in found:
            return f"lacks {key}"
    return None


@lru_cache(maxsize=1000)  # a report asks for a file a dozen times
def say_damaged(path: Path, why: str) -> None:
    """Once for each file and reason."""
    log.warning("%s: is damaged (%s), taken as missing", path, " ".join(why.split()))
