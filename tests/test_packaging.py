"""What a user installs: a wheel with its options, its model and its launcher; ranges and pins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as pip would, in a folder that knows nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-q", "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder of its own, with the wheel's code before the checkout's."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_runs_the_grid_with_its_own_options_and_model(installed: Path) -> None:
    where = run(installed, "-c", "import sweep.config as c; print(c.CONF)")
    assert where.stdout.strip() == str(installed / "sweep" / "conf")
    words = ["method=magnitude,wanda", "calib.n_samples=4", "metric=[perplexity]"]
    size = "metric.perplexity.n_samples=2"
    done = run(installed, "-m", "sweep", *words, size, "tracker=none", "-m")
    assert done.returncode == 0, done.stderr
    assert (installed.parent / "outputs" / "cells").is_dir()
    (report,) = (installed.parent / "outputs" / "reports").glob("*/results.csv")
    assert len(report.read_text().splitlines()) == 4


def test_the_wheel_holds_what_it_needs_and_nothing_else(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"hydra_plugins", "sweep", "sweep_jobs"}
    assert not (installed / "hydra_plugins" / "__init__.py").exists()  # a namespace package
    (info,) = installed.glob("*.dist-info")
    assert "sweep = sweep.__main__:command" in (info / "entry_points.txt").read_text()
    assert sum(f.stat().st_size for f in (installed / "sweep/model/tiny/weights").iterdir()) <= 8e6


def test_the_console_script_is_the_module() -> None:
    script = Path(sys.executable).parent / "sweep"
    if not script.is_file():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([str(script), "seed=-1"], capture_output=True, text=True, check=False)
    assert done.stderr == "sweep: seed=-1: must not be negative\n"


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]
    return [
        Requirement(text) for text in (*project["dependencies"], *extra["test"], *extra["check"])
    ]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): pin for name, pin in pairs}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_requirement_has_a_tested_version_within_its_range(requirement: Requirement) -> None:
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert requirement.specifier.contains(pins()[name])


def test_torch_is_pinned_for_make_and_ranged_for_users() -> None:
    assert pins()["torch"] == "2.13.0"
    (torch,) = (r for r in requirements() if r.name == "torch")
    assert torch.specifier.contains("2.8.0")


def test_the_installed_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("compression-sweep") == project["version"]
