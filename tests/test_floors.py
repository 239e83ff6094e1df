"""The house: imports go down the floors only, and heavy packages stay behind their doors."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SWEEP = ROOT / "sweep"

FLOORS = (
    {"secret", "garbage"},
    {"refusal", "world"},
    {"sparsity", "options"},
    {"words", "numerics", "hub_errors", "scratch"},
    {"hub"},
    {"data", "model"},
    {"calib"},
    {"method", "metric"},
    {"build", "disk", "progress"},
    {"files"},
    {"attempt", "blocks", "config", "size"},
    {"cell", "submitted", "explain"},
    {"slurm", "environment", "workshop", "report"},
    {"record", "track", "card"},
    {"check", "run"},
    {"plan"},
    {"grid", "pack"},
    {"status", "worker"},
    {"__main__"},
    {"fetch", "dashboard", "export"},
)
"""From the ground up. A part imports from floors below its own, and from itself."""

DOORS = {
    "wandb": {"sweep/track/server.py"},
    "wandb_workspaces": {"sweep/dashboard.py"},
    "submitit": set(),
    "datasets": {"sweep/data/repository.py", "sweep/hub.py", "sweep/hub_errors.py"},
    "rich": {"sweep/report/typeset.py"},
    "pandas": {"sweep/report/latex.py"},
    "matplotlib": {
        "sweep/report/drawn.py",
        "sweep/report/curves.py",
        "sweep/report/figures.py",
        "sweep/report/scale.py",
    },
    "jinja2": {"sweep/report/page.py"},
    "openai": {"sweep/metric/judge_endpoint.py"},
    "compressed_tensors": {"sweep/export/bitmask.py"},
    "lm_eval": {
        "sweep/metric/harness.py",
        "sweep/metric/lm_eval_load.py",
        "sweep/metric/lm_eval_tasks.py",
    },
    "hydra": {"sweep/__main__.py", "sweep/card.py", "sweep/explain.py"},
}
"""Packages that only some files may import."""


def _modules() -> list[Path]:
    return sorted(SWEEP.rglob("*.py"))


@cache
def _imports(path: Path) -> list[tuple[str, bool]]:
    """Dotted names that a file imports, and whether at its top level (so at every start)."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", top) for alias in node.names]
    return found


def _part(name: str) -> str:
    return name.split(".")[1]


def _level(part: str) -> int:
    return next(level for level, parts in enumerate(FLOORS) if part in parts)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_the_floors(path: Path) -> None:
    relative = path.relative_to(SWEEP).with_suffix("")
    part = relative.parts[0]
    if part == "__init__":
        return
    for name, _ in _imports(path):
        if name.startswith("sweep.") and _part(name) != part:
            assert _level(_part(name)) < _level(part), f"{relative} imports {name}"


def test_every_part_has_its_floor() -> None:
    parts = {path.relative_to(SWEEP).with_suffix("").parts[0] for path in _modules()}
    assert parts - {"__init__", "conf"} == set().union(*FLOORS)


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_imported_behind_its_door_only(package: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in _modules()
        for name, _ in _imports(path)
        if name.split(".")[0] == package
    }
    assert users <= DOORS[package]


def test_the_command_starts_without_heavy_imports() -> None:
    heavy = {"torch", "transformers", "datasets", "wandb", "pydantic", "numpy", "pyarrow", "rich"}
    seen: set[str] = set()
    waiting = ["__main__"]
    while waiting:
        part = waiting.pop()
        if part in seen:
            continue
        seen.add(part)
        for name, top in _imports(SWEEP / f"{part}.py"):
            assert not (top and name.split(".")[0] in heavy), f"{part} imports {name} at its top"
            if top and name.startswith("sweep."):
                waiting.append(_part(name))
    assert {"explain", "config"} <= seen


def test_importing_the_project_changes_no_environment() -> None:
    paths = (path.relative_to(ROOT).with_suffix("") for path in _modules())
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    for compiler in ("triton", "numba"):  # the first comes with torch for CUDA, both with the tests
        if find_spec(compiler) is None:
            names.remove(f"sweep.numerics.obs_{compiler}")
    code = (
        "import importlib, os\n"
        "before = dict(os.environ)\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "changed = set(os.environ.items()) ^ set(before.items())\n"
        "changed = {n for n, _ in changed if not n.startswith('TORCHINDUCTOR')}  # set by torch\n"
        "assert not changed, changed\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interfaces_hold_no_code_and_what_implements_them_is_final() -> None:
    classes = [
        node
        for file in _modules()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    bases = {node.name: {ast.unparse(b).partition("[")[0] for b in node.bases} for node in classes}
    interfaces = {name for name, found in bases.items() if "ABC" in found}
    assert {"Checkpoint", "Source", "Calibration", "Method", "Metric", "Pattern"} <= interfaces
    for node in classes:
        marks = {ast.unparse(mark) for mark in node.decorator_list}
        if bases[node.name] & interfaces:
            assert "final" in marks, node.name
        for method in node.body if node.name in interfaces else ():
            if isinstance(method, ast.FunctionDef):
                words = method.body[0]
                assert len(method.body) == 1, f"{node.name}.{method.name}"
                assert isinstance(words, ast.Expr), f"{node.name}.{method.name}"
                assert isinstance(words.value, ast.Constant), f"{node.name}.{method.name}"
