"""`python -m sweep.track [outputs …]`: what is on disk and not in Weights & Biases, sent there.

So a cluster whose nodes have no network gets its dashboard: run it on the login node, while the
sweep runs or after it, as often as you like. The server is asked what it has; only what differs is
sent, a few cells at a time, and the client waits where the server asks it to.

Exit code 0: everything is there; 1: something is not, and why is said.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from sweep import garbage
from sweep.explain import in_one_line
from sweep.options import Options, positive
from sweep.report.entries import no_cells
from sweep.track import offline, server
from sweep.track.found import Found, Place
from sweep.track.send import send
from sweep.track.shown import Shown

CALL = 10.0
"""Seconds in which a server must say anything at all."""


PATIENCE = 120.0
"""Seconds in which a server that asks for patience must open a run, and take the rest of it."""


_One = tuple[Place, str]
"""What makes two runs the same on the server: where it is, and its id."""


class _Run(NamedTuple):
    """A run as it should be on the server, from which folder of outputs, and where."""

    shown: Shown
    outputs: Path
    place: Place

    @property
    def one(self) -> _One:
        """Equal for the same cell in two folders of outputs."""
        return self.place, self.shown.id

    def within(self, group: str) -> _Run:
        """The same in a group: a run stays in its first."""
        return self._replace(shown=replace(self.shown, group=group))


def asked_for(place: Place, project: str | None, entity: str | None) -> Place:
    """Where a run belongs, if the words of the command do not say otherwise."""
    return Place(project or place.project, entity or place.entity)


def folders(words: list[str], command: str) -> list[Found]:
    """What is below the folders given; ends the program where there is nothing."""
    found = [Found.below(Path(word).absolute()) for word in words or ["outputs"]]
    for word, one in zip(words or ["outputs"], found, strict=True):
        if not one.cells:
            sys.exit(f"{command}: {word}: {no_cells(Path(word))}")
    return found


def ready(found: list[Found], command: str) -> None:
    """Ends the program where there is no login, or no server."""
    server.prepare(found[0].outputs / "wandb")
    if (lacks := server.login()) is not None:
        sys.exit(f"{command}: {lacks}")
    if not server.answers(CALL):
        sys.exit(f"{command}: {server.address()} does not answer; run it where there is a network")


def _parsed(words: list[str]) -> Namespace:
    parser = Options(
        "sweep.track",
        "Send to Weights & Biases what is on disk and not there yet: a run for every "
        "cell, and one for every sweep. As often as you like; nothing is sent twice.",
    )
    parser.add_argument(
        "outputs",
        nargs="*",
        help="folders of outputs, or outputs/reports/<sweep> (default: outputs)",
    )
    parser.add_argument("--project", help="default: as in the cells' tracker.project")
    parser.add_argument("--entity", help="user or team; default: tracker.entity, or the login's")
    parser.add_argument("--jobs", type=positive, default=4, help="runs sent at once (default: 4)")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Send what is missing below the folders given; the exit code."""
    given = _parsed(words)
    command = "sweep.track"
    found = folders(given.outputs, command)
    ready(found, command)
    garbage.begin()
    everything = [
        _Run(shown, one.outputs, asked_for(place, given.project, given.entity))
        for one in found
        for shown, place in one.shown()
    ]
    has, owners = _there(everything, command)
    online = {run.one for run in everything if run.shown.online}
    own = [run for run in everything if run.one in online]
    todo: list[_Run] = []
    groups: dict[_One, str] = {}
    for run in everything:
        held = has.get(run.one, server.Held())
        if held.holds(run.shown):
            offline.mark_sent(run.outputs, run.shown)
        elif run.one not in online:
            group = held.group or groups.setdefault(run.one, run.shown.group)
            todo.append(run.within(group))
    apart = {run.one: Lock() for run in todo}  # the client opens a run once at a time
    failed = 0

    def sent(run: _Run) -> None:
        with apart[run.one]:
            send(*run, PATIENCE)

    with ThreadPoolExecutor(given.jobs) as pool:
        sending = {pool.submit(sent, run): run.shown for run in todo}
        for number, task in enumerate(as_completed(sending), 1):
            shown, wrong = sending[task], task.exception()
            failed += wrong is not None
            what = "sent" if wrong is None else f"failed: {server.in_words(wrong)}"
            if wrong is None and shown.kind == "sweep" and not shown.figures:
                what += ", and there are no figures: python -m sweep.report draws them"
            _say(f"[{number}/{len(todo)}] {shown.name}-{shown.id[:8]}: {what}")
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
    for place, owner in owners.items():
        _say(f"{server.app_address()}/{owner}/{place.project}")
    return 1 if failed else 0


def _there(
    everything: list[_Run], command: str
) -> tuple[dict[_One, server.Held], dict[Place, str]]:
    """What the server has of the runs, and whose each place is; ends the program if it refuses."""
    has: dict[_One, server.Held] = {}
    owners: dict[Place, str] = {}
    try:
        for place in dict.fromkeys(run.place for run in everything):
            ids = dict.fromkeys(run.shown.id for run in everything if run.place == place)
            owners[place], found = server.there([*ids], *place)
            has |= {(place, id): held for id, held in found.items()}
    except Exception as error:  # noqa: BLE001 - the client raises many kinds
        sys.exit(f"{command}: {server.address()}: {server.in_words(error)}")
    return has, owners


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with garbage.alone(), in_one_line("sweep.track"):
        sys.exit(main(sys.argv[1:]))
