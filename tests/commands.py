"""Commands of the project in processes that need not import torch and transformers again.

Most of a small command's time goes into these imports, and they are the same for all. One process
of this file has them and forks for every command; what runs in a fork is what `python -m MODULE
WORDS` runs, in a folder and an environment of its own, from the first line of the project on. A
test of what a command imports, of an environment that those libraries read, or of signals starts
Python itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "TORCH", "OMP_", "MKL_", "CUDA_", "PYTHON")


def forked(
    *words: str,
    cwd: Path | None = None,
    module: str = "sweep",
    environment: Mapping[str, str] | None = None,
    umask: int = 0o022,
) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE WORDS` answers.

    Args:
        words: behind the module.
        cwd: where it runs.
        module: what runs.
        environment: in place of this process's.
        umask: of the process.
    """
    given = dict(os.environ if environment is None else environment)
    for name in {*given, *os.environ}:
        if name.startswith(READ_AT_IMPORT):
            assert given.get(name) == os.environ.get(name), f"{name} is read by what is imported"
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        asked = {
            "module": module,
            "words": words,
            "cwd": str(cwd or Path.cwd()),
            "environment": given,
            "umask": umask,
            "out": str(out),
            "err": str(err),
        }
        pipe = _forks()
        pipe.sendall(json.dumps(asked).encode() + b"\n")
        code = int.from_bytes(pipe.recv(1))
        return subprocess.CompletedProcess([module, *words], code, out.read_text(), err.read_text())


@cache
def _forks() -> socket.socket:
    """The line to the process that forks."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(pipe: socket.socket) -> dict[str, Any]:
    """Forks for each command; in the fork, returns what is to run."""
    with pipe, pipe.makefile() as lines:
        for line in lines:
            if (child := os.fork()) == 0:
                asked: dict[str, Any] = json.loads(line)
                return asked
            _, status = os.waitpid(child, 0)
            pipe.sendall(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
    raise SystemExit


def _run(asked: dict[str, Any]) -> NoReturn:
    for number, path in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(path, os.O_CREAT | os.O_RDWR), number)
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    sys.argv = [asked["module"], *asked["words"]]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    import sweep  # noqa: F401 - as in the command, before anything that asks to be called at the end

    gc.disable()
    for switch in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ[switch] = "1"  # as the project sets them before it imports these libraries
    import datasets  # noqa: F401
    import hydra  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
    import pandas  # noqa: F401
    import rich.console  # noqa: F401
    import rouge_score.scoring
    import rouge_score.tokenize  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401

    gc.freeze()  # a fork neither looks through what is imported nor copies it by looking
    gc.enable()
    atexit.register(gc.unfreeze)
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
