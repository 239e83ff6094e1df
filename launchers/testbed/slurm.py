"""A real SLURM cluster of one node, so that a launcher is tested against SLURM and no fake.

    python launchers/testbed/slurm.py up DIR [--max-array-size N]   prints export SLURM_CONF=...
    python launchers/testbed/slurm.py down DIR                      DIR and its logs stay

It needs root, neither systemd nor cgroups, and of Debian

    apt-get install -y --no-install-recommends slurm-wlm slurmdbd munge mariadb-server

The node declares 4 CPUs, 16 GB and 2 GPUs, whatever the machine has. A job of partition `urgent`
requeues those of `main`, the default. All listen on the loopback address or on sockets in DIR; a
SLURM of the machine is neither read nor touched. What SLURM 22.05 rounds, and what helps:

- Time limits are whole minutes, looked at every 30 s: `scontrol update jobid=N EndTime=now+1` makes
  a running job time out at the next look. `--signal` may come a minute early.
- A requeued job waits for `cred_expire`, here 5 s, the least that SLURM takes, from the requeue on.
  An earlier `StartTime` starts it before slurmd has forgotten the killed one, and it fails.
- Memory is looked at every second: what is over its limit for less is not seen. A job that
  dies of it has FAILED in accounting: only cgroups know OUT_OF_MEMORY.
- sacct knows up to 5 s late that a job runs; squeue knows at once.
- While slurmctld is stopped, a command fails after 10 s, and a job that ends tells 15 s later.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Container, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PACKAGES = {
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
}
"""The daemons in the order of their start, and the Debian packages that bring them."""

NODE = "testbed"
JOBS = ("slurmstepd", "job")
PATIENCE = 60.0  # seconds for a daemon to answer or to end; an idle machine needs one
LONGEST = 74  # characters of DIR: the socket of a step, DIR/spool/testbed_JOB.STEP, has 107

SLURM_CONF = """\
ClusterName=testbed
SlurmctldHost={host}({address})
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/log/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MaxArraySize={max_array_size}
KillWait=2
ReturnToService=2
SlurmctldTimeout=5
SlurmdTimeout=5
NodeName={node} NodeHostname={host} NodeAddr={address} CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=main Nodes={node} Default=YES PriorityTier=1 GraceTime=5 DefMemPerCPU=1000
PartitionName=urgent Nodes={node} PriorityTier=2 PreemptMode=OFF DefMemPerCPU=1000
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdAddr={address}
DbdPort={slurmdbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
"""


class Unavailable(Exception):
    """The cluster cannot be had here; the text says in one line what would be right."""


def unavailable() -> str:
    """Why no cluster can be had on this machine; empty where one can."""
    missing = {package for daemon, package in PACKAGES.items() if not _program(daemon)}
    if missing:
        return f"missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}"
    return "" if os.geteuid() == 0 else "the daemons of SLURM need root"


class Cluster:
    """A cluster in a folder that is empty or not there yet; also a context manager.

    `environment` is what commands and jobs need to find it.
    """

    def __init__(self, folder: Path, *, max_array_size: int = 1001) -> None:
        self.folder = folder.resolve()
        self.environment = {"SLURM_CONF": f"{self.folder}/slurm.conf"}
        self._max_array_size = max_array_size
        self._address, self._prefix = _loopback()
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Return when the node is idle and accounting answers.

        Raises:
            Unavailable: something is missing or a daemon ended; nothing that was started is left.
        """
        if reason := unavailable():
            raise Unavailable(reason)
        if len(str(self.folder)) > LONGEST:
            raise Unavailable(f"{self.folder}: must have at most {LONGEST} characters")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise Unavailable(f"{self.folder}: must be empty")
        try:
            self._write()
            for daemon in PACKAGES:
                self.start(daemon)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End every process of this cluster, jobs included, and no other."""
        self._end(signal.SIGKILL, {*PACKAGES, *JOBS})

    def start(self, daemon: str) -> None:
        """Start a daemon, also after `stop` or `kill_node`, and return when it answers.

        Raises:
            Unavailable: it ended, or does not answer; the text has the last line of its output.
        """
        output = self.folder / "log" / f"{daemon}.out"
        with output.open("ab") as stream:
            child = subprocess.Popen(
                [*self._prefix, _program(daemon), *self._options(daemon)],
                cwd=self.folder,
                env=self._own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is meant for the tests
            )
        self._children.append(child)
        end = time.monotonic() + PATIENCE
        while not self._answers(daemon):
            if child.poll() is not None or time.monotonic() > end:
                said = output.read_text(errors="replace").split("\n")
                last = next((line for line in reversed(said) if line), "nothing")
                raise Unavailable(f"{daemon} does not answer; in {output} it says: {last}")
            time.sleep(0.05)

    def stop(self, daemon: str) -> None:
        """Stop a daemon as an administrator would: `slurmctld` saves its state, jobs run on."""
        self._end(signal.SIGTERM, {daemon})

    def kill_node(self) -> None:
        """What a power failure does: slurmd and all jobs are gone, and nobody is told.

        SLURM finds out in 25 to 45 s, or is told by `scontrol update nodename=testbed state=down
        reason=test`; `start("slurmd")` brings the node back.
        """
        self._end(signal.SIGKILL, {"slurmd", *JOBS})

    def run(self, *words: str) -> str:
        """What a command of SLURM prints; one that fails raises `CalledProcessError`."""
        words = (*self._prefix, *words)  # srun listens, too
        environment = {**_outside(), **self.environment}
        return subprocess.check_output(words, env=environment, text=True).strip()

    def processes(self) -> dict[int, str]:
        """The cluster's processes by id: which daemon each is, or `job`.

        They are told by their environment, which daemons have from here and jobs from slurmd: so
        nothing else is taken for one, and they are found when what started them is gone.
        """
        own = f"MYSQL_UNIX_PORT={self._socket('mariadbd')}".encode()
        job = {f"SLURM_CONF={self.folder}/slurm.conf".encode(), f"SLURMD_NODENAME={NODE}".encode()}
        found: dict[int, str] = {}
        parents: dict[int, int] = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = {*(process / "environ").read_bytes().split(b"\0")}
                name = (process / "exe").readlink().name.removesuffix("-wlm")
                status = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended, or is the kernel's
            pid = int(process.name)
            parents[pid] = int(status[1])
            if own in variables or job <= variables:
                found[pid] = name if name in {*PACKAGES, "slurmstepd"} else "job"
        return _with_descendants(found, parents)

    def _end(self, number: signal.Signals, kinds: Container[str]) -> None:
        """Signal these until none is left: one may be born while the others are looked for."""
        signalled: set[int] = set()
        end = time.monotonic() + PATIENCE
        while pids := {pid for pid, kind in self.processes().items() if kind in kinds}:
            if time.monotonic() > end:
                number, signalled = signal.SIGKILL, set()
            for pid in pids - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= pids
            time.sleep(0.05)
        self._children = [child for child in self._children if child.poll() is None]

    def _write(self) -> None:
        """Configuration, key, devices and an empty database."""
        for name in ("state", "spool", "log", "tmp"):
            (self.folder / name).mkdir(parents=True)
        fields = {
            "folder": self.folder,
            "address": self._address,
            "host": "localhost" if self._prefix else socket.gethostname().partition(".")[0],
            "node": NODE,
            "max_array_size": self._max_array_size,
            **_ports(self._address, "slurmctld", "slurmd", "slurmdbd"),
        }
        files = {
            "munge.key": secrets.token_hex(64),
            "slurm.conf": SLURM_CONF.format(**fields),
            "slurmdbd.conf": SLURMDBD_CONF.format(**fields),
            "gres.conf": f"Name=gpu File={self.folder}/gpu[0-1]\n",
        }
        for name, text in files.items():
            (self.folder / name).touch(0o600)  # munged and slurmdbd insist
            (self.folder / name).write_text(text)
        for gpu in ("gpu0", "gpu1"):  # SLURM wants devices; these are /dev/null by other names
            os.mknod(self.folder / gpu, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        words = [*self._prefix, _program("mariadb-install-db"), *self._database(), "--skip-test-db"]
        words += ["--auth-root-authentication-method=socket", "--force"]  # force: a host unnamed
        with (self.folder / "log" / "mariadb-install-db.out").open("wb") as stream:
            environment = self._own_environment()
            subprocess.run(words, check=True, env=environment, stdout=stream, stderr=stream)

    def _options(self, daemon: str) -> list[str]:
        return {
            "munged": [
                "--foreground",
                "--force",  # it would rather not live in a folder that others cannot enter
                f"--key-file={self.folder}/munge.key",
                f"--socket={self._socket('munge')}",
                f"--pid-file={self.folder}/munged.pid",
                f"--seed-file={self.folder}/munged.seed",
            ],
            "mariadbd": [
                *self._database(),
                "--skip-networking",
                f"--socket={self._socket('mariadbd')}",
                f"--pid-file={self.folder}/mariadbd.pid",
            ],
            "slurmdbd": ["-D"],
            "slurmctld": ["-D"],
            "slurmd": ["-D", "-N", NODE],
        }[daemon]

    def _answers(self, daemon: str) -> bool:
        question = {
            "munged": ["munge", "--no-input", f"--socket={self._socket('munge')}"],
            "mariadbd": ["mariadb", f"--socket={self._socket('mariadbd')}", "--execute="],
            "slurmdbd": ["sacctmgr", "--noheader", "show", "tres"],
            "slurmctld": ["scontrol", "ping"],
            "slurmd": ["sinfo", "--noheader", "--responding", "--states=idle,mixed,allocated"],
        }[daemon]
        environment = {**_outside(), **self.environment}
        done = subprocess.run(question, env=environment, capture_output=True, check=False)
        return done.returncode == 0 and (daemon != "slurmd" or NODE.encode() in done.stdout)

    def _own_environment(self) -> dict[str, str]:
        # at the end: a daemon that changes its title writes over what is before SLURM_CONF
        return {**_outside(), **self.environment, "MYSQL_UNIX_PORT": self._socket("mariadbd")}

    def _database(self) -> list[str]:
        small = "--innodb-log-file-size=4M"
        own = [f"--datadir={self.folder}/database", f"--tmpdir={self.folder}/tmp"]
        return ["--no-defaults", "--user=root", *own, small]

    def _socket(self, name: str) -> str:
        return f"{self.folder}/{name}.socket"


def _outside() -> dict[str, str]:
    """The environment without what a SLURM of the machine may have set in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
    return {**kept, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def _program(name: str) -> str:
    """The path of a program; empty where it is absent."""
    return shutil.which(name, path=_outside()["PATH"]) or ""


def _loopback() -> tuple[str, list[str]]:
    """The address to listen on, and the words before every command.

    SLURM listens on all addresses, or on that of the host's name. Where that is no loopback
    address, or none, the daemons and their jobs see the host named localhost; this takes the
    right to unshare, and `run` for an srun that is no job's.
    """
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(socket.gethostname())
        if address.startswith("127."):
            return address, []
    return "127.0.0.1", ["unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh"]


def _ports(address: str, *names: str) -> dict[str, int]:
    """Free ports, below those that the kernel lends: a stopped daemon finds its own again.

    Clusters that start at the same time begin their search at different places.
    """
    ports: dict[str, int] = {}
    port = 10_000 + len(names) * os.getpid() % 20_000
    while len(ports) < len(names):
        port += 1
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            if port not in ports.values():
                ports[names[len(ports)]] = port
    return ports


def _with_descendants(found: dict[int, str], parents: Mapping[int, int]) -> dict[int, str]:
    """Also the processes below these: a job may clear its environment."""
    while new := {pid for pid, up in parents.items() if up in found} - found.keys():
        found = found | dict.fromkeys(new, "job")
    return found


def main() -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-array-size", type=int, default=1001)
    given = parser.parse_args()
    cluster = Cluster(given.folder, max_array_size=given.max_array_size)
    try:
        if given.action == "up":
            cluster.up()
            print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}")  # noqa: T201
        else:
            cluster.down()
    except (Unavailable, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
