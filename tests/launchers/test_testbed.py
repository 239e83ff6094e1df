"""The testbed is a SLURM: what tests of launchers rely on, and that it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from launchers.testbed import slurm
from launchers.testbed.slurm import Cluster

LISTEN = "0A"  # as /proc/net/tcp writes it


def submit(cluster: Cluster, *words: str) -> str:
    """A job of 100 MB; its id. What it prints goes to a file of `output`."""
    to = f"--output={cluster.folder}/%j.txt"
    return cluster.run("sbatch", "--parsable", "--mem=100", to, *words)


def output(cluster: Cluster, job: str) -> str:
    path = cluster.folder / f"{job}.txt"
    return path.read_text() if path.exists() else ""


def queued(cluster: Cluster, job: str) -> str:
    """The state by squeue, which knows at once."""
    return cluster.run("squeue", f"--jobs={job}", "--states=all", "--noheader", "--format=%T")


def accounted(cluster: Cluster, job: str) -> str:
    """The state by sacct, which knows seconds later that a job runs."""
    return cluster.run("sacct", "-nPX", f"--jobs={job}", "--format=state")


def until(ready: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)


def running(cluster: Cluster, *words: str) -> str:
    """A job that runs; its id."""
    job = submit(cluster, *words)
    until(lambda: queued(cluster, job) == "RUNNING")
    return job


def ended(cluster: Cluster, job: str) -> str:
    """The state of a job once it has ended, by sacct."""
    until(lambda: accounted(cluster, job) not in {"", "PENDING", "RUNNING", "REQUEUED"})
    return accounted(cluster, job)


def listening(pids: Iterable[int]) -> list[str]:
    """The addresses on which these processes wait for TCP connections, in the kernel's digits."""
    links = [str(link.readlink()) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    rows = [line.split() for line in tables.splitlines()]
    return [row[1] for row in rows if row[3] == LISTEN and f"socket:[{row[9]}]" in links]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.fixture(scope="module")
def overdue(cluster: Cluster) -> str:
    """A job whose time is up while other tests run: SLURM looks only every 30 s."""
    job = running(cluster, "--partition=urgent", "--time=1", "--wrap=sleep 100")
    cluster.run("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    return job


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(slurm.Unavailable, match="mariadb-server munge slurm-wlm slurmdbd"):
        Cluster(tmp_path).up()


def test_every_daemon_listens_on_the_loopback_address_only(cluster: Cluster, overdue: str) -> None:
    until(lambda: {*cluster.processes().values()} == {*slurm.PACKAGES, "slurmstepd", "job"})
    addresses = listening(cluster.processes())
    assert len(addresses) == 3  # slurmdbd, slurmctld and slurmd; the others have sockets in files
    assert {address[:8] for address in addresses} <= {"0100007F", "0101007F"}  # 127.0.[01].1


def test_a_job_sees_the_gpu_that_it_asked_for(cluster: Cluster) -> None:
    assert cluster.run("srun", "--gres=gpu:1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES") == "0"


def test_an_array_longer_than_the_cluster_allows_is_refused(cluster: Cluster) -> None:
    array = submit(cluster, "--array=0-4", "--wrap=true")
    with pytest.raises(subprocess.CalledProcessError):
        submit(cluster, "--array=0-5", "--wrap=true")
    until(lambda: accounted(cluster, array).split() == ["COMPLETED"] * 5)


def test_accounting_tells_how_a_job_ended(cluster: Cluster) -> None:
    greedy = f'srun {sys.executable} -c "import time; x = bytes([1]) * 10**9; time.sleep(30)"'
    good = submit(cluster, "--wrap=true")
    bad = submit(cluster, "--wrap=exit 3")
    never = submit(cluster, f"-dafterok:{bad}", "--kill-on-invalid-dep=yes", "--wrap=true")
    after = submit(cluster, f"-dafterany:{bad}", "--wrap=true")
    big = submit(cluster, f"--wrap={greedy}")
    unwanted = running(cluster, "--wrap=sleep 100")
    cluster.run("scancel", unwanted)
    assert ended(cluster, good) == "COMPLETED"
    assert ended(cluster, bad) == "FAILED"
    assert ended(cluster, never) == "CANCELLED"
    assert ended(cluster, after) == "COMPLETED"
    assert ended(cluster, unwanted) == "CANCELLED by 0"
    assert ended(cluster, big) == "FAILED"  # SLURM knows OUT_OF_MEMORY only from cgroups
    assert "exceeded memory limit" in output(cluster, big)


def test_a_requeued_job_runs_again(cluster: Cluster) -> None:
    job = running(cluster, "--wrap=echo $SLURM_RESTART_COUNT; sleep 2")
    cluster.run("scontrol", "requeue", job)
    assert ended(cluster, job) == "COMPLETED"
    assert output(cluster, job).split()[-1] == "1"


def test_a_preempted_job_gets_its_signal_before_it_is_requeued(cluster: Cluster) -> None:
    said = cluster.folder / "preempted.txt"  # what srun still had to pass on may be lost
    said.write_text("")
    script = cluster.folder / "preempted.sh"
    script.write_text(
        f"exec >> {said}; [ $SLURM_RESTART_COUNT ] && exit\n"
        "trap 'echo warned; scontrol requeue $SLURM_JOB_ID' USR2\n"  # as submitit does
        "echo ready; while :; do sleep 0.1; done\n"
    )
    wide = "--cpus-per-task=3"  # of four: one has the job that is overdue
    job = submit(cluster, wide, "--signal=USR2@10", f"--wrap=srun bash {script}")
    until(lambda: said.read_text() == "ready\n")
    urgent = submit(cluster, wide, "--partition=urgent", "--wrap=true")
    assert ended(cluster, urgent) == "COMPLETED"
    assert said.read_text() == "ready\nwarned\n"
    assert ended(cluster, job) == "COMPLETED"


def test_the_queue_outlives_the_controller(cluster: Cluster) -> None:
    first = running(cluster, "--wrap=sleep 5")
    second = submit(cluster, f"--dependency=afterok:{first}", "--wrap=true")
    cluster.stop("slurmctld")
    assert "slurmctld" not in cluster.processes().values()
    cluster.start("slurmctld")
    assert queued(cluster, first) == "RUNNING"
    assert ended(cluster, first) == "COMPLETED"
    assert ended(cluster, second) == "COMPLETED"


def test_a_job_out_of_time_is_told_from_a_failed_one(cluster: Cluster, overdue: str) -> None:
    assert ended(cluster, overdue) == "TIMEOUT"


def test_a_lost_node_takes_its_jobs_and_comes_back(cluster: Cluster) -> None:
    job = running(cluster, "--no-requeue", "--wrap=sleep 100")
    cluster.kill_node()
    assert set(cluster.processes().values()) == slurm.PACKAGES.keys() - {"slurmd"}
    cluster.run("scontrol", "update", f"nodename={slurm.NODE}", "state=down", "reason=test")
    assert ended(cluster, job) == "NODE_FAIL"
    cluster.start("slurmd")
    assert cluster.run("srun", "echo", "back") == "back"


def test_down_ends_what_up_started_and_nothing_else(cluster: Cluster, short: Path) -> None:
    """By the command line, on a host whose name has no address."""
    folder, script = short / "slurm", [sys.executable, slurm.__file__]
    hidden = ["unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$@"', "sh"]
    up = subprocess.run([*hidden, *script, "up", folder], capture_output=True, text=True)
    assert up.stdout == f"export SLURM_CONF={folder}/slurm.conf\n", up.stderr
    conf = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
    words = "--wrap=setsid sleep 100 & env --ignore-environment sleep 100"
    subprocess.run(["sbatch", f"--output={folder}/%j.txt", words], env=conf, check=True)
    other = Cluster(folder)
    until(lambda: [*map(command, other.processes())].count("sleep") == 2)
    bystander = subprocess.Popen(["sleep", "100"], env=conf)  # has the environment, and is no job
    before = cluster.processes()
    subprocess.run([*script, "down", folder], check=True)
    assert not other.processes()
    assert cluster.processes() == before
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_down_ends_what_a_killed_up_left(cluster: Cluster, short: Path) -> None:
    script, killed = [sys.executable, slurm.__file__], Cluster(short / "slurm")
    with subprocess.Popen([*script, "up", killed.folder]) as up:
        until(lambda: bool(killed.processes()))  # the database is being made
        up.kill()
    killed.down()
    assert not killed.processes()
    assert set(cluster.processes().values()) >= set(slurm.PACKAGES)
