"""`python -m sweep.track [outputs …]`: what is on disk and not in Weights & Biases, sent there.

So a cluster whose nodes have no network gets its dashboard: run it on the login node, while the
sweep runs or after it, as often as you like. The server is asked what it has; only what differs is
sent, a few cells at a time, and the client waits where the server asks it to.

Exit code 0: everything is there; 1: something is not, and why is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.files import Folder
from sweep.refusal import Stop
from sweep.track import offline, server
from sweep.track.shown import Shown, of_cell, of_sweep, sweeps_of

PATIENCE = 120.0
"""Seconds in which a server that asks for patience must open a run, and take the rest of it."""

CALL = 10.0
"""Seconds in which a server must say anything at all."""


@dataclass(frozen=True)
class Found:
    """What is below a folder of outputs.

    Attributes:
        outputs: the folder.
        cells: what is in every cell.yaml, with the cell's folder.
        sweeps: names of the sweeps of each cell, by the cell's name.
    """

    outputs: Path
    cells: list[tuple[dict[str, Any], Folder]]
    sweeps: dict[str, list[str]]

    @classmethod
    def below(cls, outputs: Path) -> Found:
        """Read the folder."""
        folders = [Folder(outputs, file.parent.name) for file in outputs.glob("cells/*/cell.yaml")]
        said = [(folder.cell(), folder) for folder in sorted(folders, key=lambda f: f.path.name)]
        return cls(outputs, [(s, f) for s, f in said if s is not None], sweeps_of(outputs))

    def shown(self) -> Iterator[Shown]:
        """Every cell, then every sweep."""
        members: dict[str, list[tuple[Mapping[str, Any], Folder]]] = {}
        for said, folder in self.cells:
            cell = of_cell(folder, said, self.sweeps.get(folder.path.name, ()))
            for name in dict.fromkeys([cell.group, *self.sweeps.get(folder.path.name, ())]):
                if name:
                    members.setdefault(name, []).append((said, folder))
            yield cell
        for name, cells in members.items():
            yield of_sweep(name, self.outputs, cells)


def tracker_of(found: list[Found]) -> tuple[str, str | None]:
    """Project and entity as the cells were told, the last of them first."""
    nodes = [said["config"].get("tracker") or {} for one in found for said, _ in one.cells]
    named = [node for node in nodes if node.get("project")]
    node = named[-1] if named else {}
    return node.get("project", "compression-sweep"), node.get("entity")


def folders(words: list[str], command: str) -> list[Found]:
    """What is below the folders given; ends the program where there is nothing."""
    found = [Found.below(Path(word).absolute()) for word in words or ["outputs"]]
    for word, one in zip(words or ["outputs"], found, strict=True):
        if not one.cells:
            sys.exit(f"{command}: {word}: holds no cells; give a folder of outputs")
    return found


def ready(found: list[Found], command: str) -> None:
    """Ends the program where there is no login, or no server."""
    server.prepare(found[0].outputs / "wandb")
    if (lacks := server.login()) is not None:
        sys.exit(f"{command}: {lacks}")
    if not server.answers(CALL):
        sys.exit(f"{command}: {server.address()} does not answer; run it where there is a network")


def send(shown: Shown, outputs: Path, project: str, entity: str | None) -> None:
    """Make or continue a run on the server until it holds this.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    run = server.open_run(
        shown,
        "online",
        outputs / "wandb",
        project=project,
        entity=entity,
        patience=PATIENCE,
        wait=PATIENCE,
    )
    try:
        server.fill(run, shown)
    finally:
        run.finish(exit_code=0 if shown.done or shown.alive else 1)
    offline.mark_sent(outputs, shown)


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sweep.track",
        description="Send to Weights & Biases what is on disk and not there yet: a run for every "
        "cell, and one for every sweep. As often as you like; nothing is sent twice.",
    )
    parser.add_argument("outputs", nargs="*", help="folders of outputs (default: outputs)")
    parser.add_argument("--project", help="default: as in the cells' tracker.project")
    parser.add_argument("--entity", help="user or team; default: tracker.entity, or the login's")
    parser.add_argument("--jobs", type=int, default=4, help="runs sent at once (default: 4)")
    given = parser.parse_args(words)
    if given.jobs < 1:
        parser.error("--jobs: must be at least 1")
    return given


def main(words: list[str]) -> int:
    """Send what is missing below the folders given; the exit code."""
    given = _parsed(words)
    command = "sweep.track"
    found = folders(given.outputs, command)
    ready(found, command)
    project, entity = tracker_of(found)
    project, entity = given.project or project, given.entity or entity
    everything = [(shown, one.outputs) for one in found for shown in one.shown()]
    try:
        owner, has = server.there([shown.id for shown, _ in everything], project, entity)
    except Exception as error:  # noqa: BLE001 - the client raises many kinds
        sys.exit(f"{command}: {server.address()}: {server.in_words(error)}")
    own = [shown for shown, _ in everything if shown.online]
    todo = [(s, o) for s, o in everything if not s.online and has.get(s.id) != s.digest]
    for shown, outputs in everything:
        if has.get(shown.id) == shown.digest:
            offline.mark_sent(outputs, shown)
    failed = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        sending = {pool.submit(send, s, o, project, entity): s for s, o in todo}
        for number, task in enumerate(as_completed(sending), 1):
            shown, wrong = sending[task], task.exception()
            failed += wrong is not None
            what = "sent" if wrong is None else f"failed: {server.in_words(wrong)}"
            name = shown.name if shown.name == shown.id else f"{shown.name}-{shown.id[:8]}"
            _say(f"[{number}/{len(todo)}] {name}: {what}")
            if wrong is not None and not server.answers(CALL):
                pool.shutdown(wait=True, cancel_futures=True)
                _say(f"{server.address()} does not answer any more; the same command goes on")
                failed += sum(task.cancelled() for task in sending)
                break
    for one in found:
        server.clean(one.outputs / "wandb")
    already = len(everything) - len(todo) - len(own)
    live = f", {len(own)} shown by their own process" if own else ""
    _say(f"{len(todo) - failed} sent, {already} already there, {failed} failed{live}")
    _say(f"{server.app_address()}/{owner}/{project}")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        sys.exit(f"sweep.track: {stop}")
    except KeyboardInterrupt:
        sys.exit("sweep.track: interrupted; the same command goes on from here")
