"""The W&B client: whether there is a login and a server, opening a run, and filling it.

Nothing here prompts, and the client's own lines are off. A run is filled so that doing it again
changes nothing: rows of the history go by their numbers, of which the server knows the last; values
and tables are in the summary, which is replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sweep.track.shown import Shown, image_digest

HELP = "no login; run `wandb login`, or set WANDB_API_KEY"

LOOK = 3.0
"""Seconds in which a server must answer to be there."""

SENT = "sent"
"""The key of the summary that says what a run holds: digests of each table and figure, and in `of`
of all that each folder of outputs has given it (`Shown.digest`, by `Shown.origin`)."""


class Held(NamedTuple):
    """What the server has of a run.

    Attributes:
        digests: of what folders of outputs have given it, by their origins; none if the run is not
            closed, and so may lack files of which its summary speaks.
        group, tags: which it has.
    """

    digests: Mapping[str, str] = {}
    group: str = ""
    tags: frozenset[str] = frozenset()

    def holds(self, shown: Shown) -> bool:
        """Whether there is nothing to send."""
        return self.digests.get(shown.origin) == shown.digest and self.tags >= {*shown.tags}


def prepare(folder: Path) -> None:
    """What the client writes for itself goes below `folder`, and it prints nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["WANDB_SILENT"] = "true"
    # else it asks the server even where it is offline, and reports its own doings to it
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
    os.environ.setdefault("WANDB_CONFIG_DIR", str(folder / "config"))
    os.environ["WANDB_DATA_DIR"] = str(_copies(folder))


def clean(folder: Path) -> None:
    """Copies of tables that this process has sent: the client leaves them behind."""
    shutil.rmtree(_copies(folder), ignore_errors=True)


def _copies(folder: Path) -> Path:
    return folder / "data" / str(os.getpid())


def login() -> str | None:
    """What is wrong with the login; None if there is one. The server is not asked."""
    import wandb

    try:
        return None if wandb.login(prompt=False, verify=False) else HELP
    except wandb.errors.Error as error:
        return f"no login: {in_words(error)}"


def address() -> str:
    """Of the server."""
    import wandb

    return str(wandb.setup().settings.base_url).rstrip("/")


def app_address() -> str:
    """Of what people look at."""
    import wandb

    return str(wandb.setup().settings.app_url).rstrip("/")


def answers(seconds: float | None = None) -> bool:
    """Whether the server says anything at all, soon. In a thread: a name may take long to find.

    Args:
        seconds: how long it may take; None: `LOOK`.
    """
    seconds = seconds or LOOK
    heard: list[bool] = []
    ended = threading.Event()
    url = address()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            heard.append(True)
        except urllib.error.HTTPError:
            heard.append(True)  # which is an answer
        except (OSError, ValueError):
            pass
        finally:
            ended.set()

    threading.Thread(target=ask, daemon=True).start()
    return ended.wait(seconds) and bool(heard)


def late(error: BaseException) -> bool:
    """Whether it says that the server took too long, and the server is there."""
    # the client's own kinds: TimeoutError at the end, CommError at the beginning
    return "timed out" in str(error).lower() and answers()


def open_run(
    shown: Shown,
    mode: Literal["offline", "online"],
    folder: Path,
    *,
    project: str,
    entity: str | None,
    patience: float,
    wait: float,
) -> Any:
    """A run, new or continued; one that is continued keeps its tags, and gets those it lacks.

    Args:
        shown: whose it is.
        mode: whether it is on a server or in a file.
        folder: below which the client keeps it.
        project, entity: where it belongs.
        patience: seconds in which the server must answer.
        wait: seconds for what is left to be sent at the end.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    import wandb

    # The run ends with the cell; its console, code and machine are not W&B's business.
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=patience,
        finish_timeout=wait,
        finish_timeout_raises=True,
    )
    run = wandb.init(
        id=shown.id,
        name=shown.name,
        project=project,
        entity=entity,
        group=shown.group or None,
        job_type=shown.kind,
        tags=list(shown.tags) if mode == "offline" else None,
        config=dict(shown.config),
        dir=folder,
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=settings,
    )
    # online, given to `init`, they would replace those that the server has
    if lacking := [tag for tag in shown.tags if tag not in run.tags]:
        run.tags = (*run.tags, *lacking)
    return run


def fill(run: Any, shown: Shown, first: int | None = None) -> None:
    """Give a run what it does not have.

    Args:
        run: an open one.
        shown: what it is to hold.
        first: number of the first row that it lacks; None: the server has said so.
    """
    import wandb

    have = dict(run.summary.get(SENT) or {})
    given = dict(have.get("of") or {})
    run.config.update(dict(shown.config), allow_val_change=True)
    run.define_metric("layer/*", step_metric="layer/index")
    if not given or shown.origin in given:  # else its history is that of another folder's attempt
        log_rows(run, shown, run.starting_step if first is None else first)
    digests = {name: table.digest for name, table in shown.tables.items()}
    for name, table in shown.tables.items():
        if have.get(_flat(name)) != digests[name]:
            run.summary[name] = wandb.Table(columns=list(table.columns), data=table.rows)
    drawn = {name: image_digest(file) for name, file in shown.figures.items()}
    new = {name: f for name, f in shown.figures.items() if have.get(_flat(name)) != drawn[name]}
    if new:  # of images W&B shows those in the history
        run.log({name: wandb.Image(str(file)) for name, file in new.items()})
    gone = {"failure": None} if "failure" in run.summary.keys() else {}  # noqa: SIM118
    sent = {_flat(name): digest for name, digest in (digests | drawn).items()}
    given[shown.origin] = shown.digest
    run.summary.update({**gone, **shown.summary, SENT: {**have, **sent, "of": given}})


def log_rows(run: Any, shown: Shown, first: int) -> None:
    """The rows from number `first` on."""
    for row in shown.history:
        if row["step"] >= first:
            log_row(run, row)


def log_row(run: Any, row: Mapping[str, Any]) -> None:
    """One row of the history, with its own number and time."""
    values = {key: value for key, value in row.items() if key not in ("step", "time")}
    stamp = {"_timestamp": row["time"]} if "time" in row else {}
    if values:
        run.log({**values, **stamp}, step=row["step"])


def there(ids: list[str], project: str, entity: str | None) -> tuple[str, dict[str, Held]]:
    """The entity, and of the runs that the server has, what they hold.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    import wandb

    api = wandb.Api(timeout=60)
    owner = entity or api.default_entity
    found: dict[str, Held] = {}
    for start in range(0, len(ids), 500):
        wanted = {"name": {"$in": ids[start : start + 500]}}
        try:
            for run in api.runs(f"{owner}/{project}", wanted, per_page=100, lazy=False):
                closed = run.state in ("finished", "failed")
                digests = (run.summary_metrics.get(SENT) or {}).get("of") if closed else None
                found[run.id] = Held(digests or {}, run.group or "", frozenset(run.tags))
        except ValueError as error:
            if "Could not find project" not in str(error):
                raise
            break  # it is made with its first run
    return owner or "", found


def chart(name: str, title: str, spec: Mapping[str, Any], entity: str) -> str:
    """The id of a chart of one's own, which is made if it is not there.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    import wandb

    try:
        made = wandb.Api().create_custom_chart(
            entity=entity,
            name=name,
            display_name=title,
            spec_type="vega2",
            access="private",
            spec=dict(spec),
        )
    except wandb.errors.Error as error:
        # and not: its entity does not exist
        if not re.search(r"\balready exists\b", str(error)):
            raise
        return f"{entity}/{name}"
    return str(made)


def report_id(title: str, project: str, entity: str) -> str | None:
    """Of the report with this title, if there is one.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    import wandb

    reports = wandb.Api().reports(f"{entity}/{project}")
    return next((str(one.id) for one in reports if one.display_name == title), None)


def in_words(error: BaseException) -> str:
    """An error on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _flat(name: str) -> str:
    """A name as a key inside of a summary, where dots and slashes may mean something."""
    return name.replace("/", "_").replace(".", "_")
