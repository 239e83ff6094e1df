"""`python -m benchmarks.compress`: the walk beside its published form and llmcompressor.

A Llama of four blocks with random weights, eight windows of 256 tokens, fp32; then the parts alone,
at the sizes of a 7B model. All sides get the same inputs in turns, and their results are compared.
llmcompressor runs in an environment of its own: `--peers PYTHON` names its Python (`pip install
torch==2.13.0 llmcompressor==0.14.0.1` makes one); without it, its rows say that they were not
measured. Writes benchmarks/compress.json.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import published
from benchmarks.contest import (
    Contest,
    Tensors,
    arguments,
    machine,
    peak_begins,
    resident,
    show,
    turns,
    write,
)
from benchmarks.phases import BOUNDS, phases
from sweep.method.method import Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.numerics.obs import WORTH, Factor, _kernel, factorise, prune_columns
from sweep.numerics.products import library, product
from sweep.options import positive
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured

METHODS: dict[str, tuple[Method, Any]] = {
    "sparsegpt": (SparseGPT(), published.SparseGPT),
    "wanda": (Wanda(), published.Wanda),
}
TITLES = {"sparsegpt": "SparseGPT 50 %, the walk", "wanda": "Wanda 50 %, the walk"}
FASTEST = f"products by {library()}"
HALF = Unstructured(0.5)
Multiply = Callable[[Tensor, Tensor], Tensor]


def llama(quick: bool) -> Any:
    """Four blocks with random weights, always the same ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner = (256, 704) if quick else (1024, 2816)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=4,
    )
    return LlamaForCausalLM(config).float().eval()


def windows() -> Tensor:
    """Eight times 256 tokens."""
    return torch.randint(2048, (8, 256), generator=torch.Generator().manual_seed(1))


def ours(model: Any, ids: Tensor, method: Method) -> None:
    """The walk of this project."""
    shown = torch.ones_like(ids, dtype=torch.bool)
    walk(model, method, HALF, windows=(ids, shown))


def agreement(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    """How alike two results are, over the matrices of all blocks."""
    names = [name for name in one if name.endswith("proj.weight")]
    total = sum(one[name].numel() for name in names)
    same = sum(int(((one[name] == 0) == (other[name] == 0)).sum()) for name in names)
    apart = ((one[name].float() - other[name].float()).double() for name in names)
    squares = sum(float(difference.square().sum()) for difference in apart)
    norm = sum(float(other[name].double().square().sum()) for name in names)
    return f"masks {100 * same / total:.3f} %, weights {(squares / norm) ** 0.5:.1e}"


def against_float64(
    model: Any,
    dense: dict[str, Tensor],
    ids: Tensor,
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
) -> str:
    """How alike both are to the published form in float64.

    A weight that rounding moves over a threshold changes all that come after it, so that two right
    walks part from block to block; neither is to be further from the exact one than the other.
    """
    model.load_state_dict(dense)
    published.walk(model.double(), ids, published.SparseGPT)
    exact = {name: one.float() for name, one in model.state_dict().items()}
    model.float().load_state_dict(dense)
    words = ("ours", "published")
    both = [agreement(one, exact).split(",")[0] for one in (ours, theirs)]
    first = {name: one for name, one in ours.items() if ".layers.0." in name}
    said = [f"{word} {found}" for word, found in zip(words, both, strict=True)]
    return f"first block {agreement(first, theirs)}; of float64 {', '.join(said)}"


@torch.no_grad()
def products(gflop: float, multiply: Multiply, size: int = 2048) -> float:
    """Seconds of so many operations in products of large fp32 matrices, of whole ones the share."""
    each = 2 * size**3 / 1e9
    count = max(1, round(gflop / each))
    a, b = torch.randn(size, size), torch.randn(size, size)
    multiply(a, b)
    started = time.perf_counter()
    for _ in range(count):
        multiply(a, b)
    return (time.perf_counter() - started) * gflop / (count * each)


def product_rate(gflop: float = 100) -> float:
    """GFLOP/s of large products, by the library that the project asks."""
    return gflop / products(gflop, product)


def roofline(
    name: str, mine: Callable[[], object], reset: Callable[[], object], runs: int
) -> list[Contest]:
    """A method's walk, and each of its phases, beside as many operations in plain products."""
    split = [phases(mine, reset) for _ in range(runs)]
    flops = sum(one.gflop for one in split[0].values())
    rows: list[Contest] = []
    rate = 0.0
    plain, fastest = "as many operations in torch.mm", f"as many operations in {FASTEST}"
    bound = 0.8 if name == "wanda" else None
    for against, multiply, share in ((plain, torch.mm, bound), (fastest, product, None)):
        spent = turns(mine, partial(products, flops, multiply), runs, reset)
        rate = flops / statistics.median(spent[1])
        note = (
            f"{flops:.0f} GFLOP; products of 2048 x 2048 matrices, in turns, at {rate:.0f} GFLOP/s"
        )
        rows.append(Contest(TITLES[name], against, "s", share, *spent, note=note))
    for phase in split[0]:  # beside the faster of the two
        seconds = [one[phase].seconds for one in split]
        gflop = split[0][phase].gflop
        part = statistics.median(
            one[phase].seconds / sum(x.seconds for x in one.values()) for one in split
        )
        work = f"{TITLES[name]}: {phase}"
        note = f"{100 * part:.0f} % of the time, {gflop:.0f} GFLOP; beside them: {BOUNDS[phase]}"
        theirs = [gflop / rate] * runs
        rows.append(Contest(work, fastest, "s", None, seconds, theirs, note=note))
    return rows


def walks(name: str, runs: int, quick: bool, peers: Path | None) -> list[Contest]:
    """A method's rows: against the published form, the machine's rate, llmcompressor."""
    method, plain = METHODS[name]
    model, ids = llama(quick), windows()
    dense = copy.deepcopy(model.state_dict())
    reset: Callable[[], object] = lambda: model.load_state_dict(dense)  # noqa: E731

    def mine() -> None:
        ours(model, ids, method)

    mine()
    result = copy.deepcopy(model.state_dict())
    spent = turns(mine, lambda: published.walk(model, ids, plain), runs, reset)
    reset()
    published.walk(model, ids, plain)
    bound = {"sparsegpt": 4.0, "wanda": 2.0}[name]
    theirs = copy.deepcopy(model.state_dict())
    same = agreement(result, theirs)
    if name == "sparsegpt":
        same += f"; {against_float64(model, dense, ids, result, theirs)}"
    rows = [Contest(TITLES[name], "published, plain", "s", bound, *spent, agreement=same)]
    rows += roofline(name, mine, reset, runs)
    bound = {"sparsegpt": 4.5, "wanda": 2.2}[name]
    if peers is None:
        reason = "no --peers environment was given"
        return [*rows, Contest(TITLES[name], "llmcompressor", "s", bound, note=reason)]
    with tempfile.TemporaryDirectory() as folder:
        reset()
        model.save_pretrained(Path(folder) / "model")
        save_file({"ids": ids}, Path(folder) / "ids.safetensors")

        said: dict[str, Any] = {}

        def other() -> float:
            words = [str(peers), str(Path(__file__).with_name("oneshot.py")), folder, name]
            said.update(told(words))
            return float(said["seconds"])

        spent = turns(mine, other, runs, reset)
        same = agreement(result, load_file(Path(folder) / "llmcompressor.safetensors"))
    peer = f"llmcompressor {said['llmcompressor']}"
    note = f"it runs with torch {said['torch']}; the second of its two runs in a process counts"
    return [*rows, Contest(TITLES[name], peer, "s", bound, *spent, agreement=same, note=note)]


def has_llmcompressor(python: Path) -> bool:
    """Whether this is a Python that finds it."""
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('llmcompressor') is None)"
    try:
        return subprocess.run([python, "-c", find], check=False).returncode == 0
    except OSError:
        return False


def told(command: list[str]) -> dict[str, Any]:
    """What a process says in its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def side(which: str, name: str, quick: bool) -> None:
    """One walk in this process, and its peak memory above the loaded model."""
    method, plain = METHODS[name]
    model, ids = llama(quick), windows()
    with torch.no_grad():
        model(ids[:1, :8])  # libraries are loaded
    if compiled := _kernel(torch.device("cpu"), WORTH, 128):
        compiled.team()
    before = peak_begins()

    def work() -> None:
        if which == "ours":
            ours(model, ids, method)
        else:
            published.walk(model, ids, plain)

    work()
    resident_mb = resident("VmHWM") - before
    with Tensors(model.parameters()) as tensors:
        work()
    print(json.dumps({"resident_mb": resident_mb, "tensors_mb": tensors.peak / 2**20}))


def memories(name: str, runs: int, quick: bool) -> list[Contest]:
    """Memory above the weights at its peak, each side in processes of its own."""
    sides: list[list[dict[str, float]]] = [[], []]
    for _ in range(runs):
        for which, found in zip(("ours", "published"), sides, strict=True):
            words = ["--side", which, "--method", name, *(["--quick"] if quick else [])]
            found.append(told([sys.executable, "-m", "benchmarks.compress", *words]))
    kinds = {
        "tensors_mb": ("tensors above the weights", ""),
        "resident_mb": (
            "resident memory above the weights",
            "with tens of MB that the allocator and libraries keep, other tens the next time",
        ),
    }
    return [
        Contest(
            f"{TITLES[name]}: {what}",
            "published, plain",
            "MB",
            1 / 0.6,
            *([one[kind] for one in side] for side in sides),
            note=note,
        )
        for kind, (what, note) in kinds.items()
    ]


def inputs(columns: int, generator: torch.Generator, tokens: int = 2048) -> Tensor:
    """Correlated, as a model's are; on the generator's device."""
    normal = partial(torch.randn, generator=generator, device=generator.device)
    x = normal(tokens, 256) @ normal(256, columns) / 16
    x += 0.3 * normal(tokens, columns)
    return x


def hessian(columns: int) -> Tensor:
    """Of such inputs."""
    x = inputs(columns, torch.Generator().manual_seed(columns))
    return x.T @ x


def inverted(root: Tensor, panel: int = 512) -> Tensor:
    """The inverse of an upper triangular matrix, in a third of a full product's arithmetic.

    Panel by panel: `X[:k, k] = -X[:k, :k] R[:k, k] X[k, k]`, without what is known to be zero.
    """
    inverse = torch.zeros_like(root)
    for start in range(0, len(root), panel):
        stop = min(start + panel, len(root))
        own = torch.linalg.solve_triangular(
            root[start:stop, start:stop], torch.eye(stop - start), upper=True
        )
        inverse[start:stop, start:stop] = own
        above = root[:start, start:stop] @ own
        for top in range(0, start, panel):
            rows = slice(top, top + panel)
            torch.mm(inverse[rows, top:start], above[top:], out=inverse[rows, start:stop]).neg_()
    return inverse


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parts(columns: int, rows: int, runs: int) -> list[Contest]:
    """The factor and the solver alone."""
    h = hessian(columns)
    weight = 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    damp = h.clone()
    published.damped(damp, weight.clone())
    upper: list[Tensor] = []
    spare = torch.empty_like(h)  # the factor takes its place

    def theirs() -> None:
        upper[:] = [published.inverse_factor(damp)]

    once = runs if columns < 8192 else 1  # theirs takes minutes
    mine = partial(factorise, spare, 0.01)
    spent = turns(mine, theirs, once, before=lambda: spare.copy_(h))
    factor = factorise(h, 0.01)
    root = factor.root
    full = inverted(root)
    off = float((full - upper[0]).norm() / upper[0].norm())
    del full
    inverting = min(_seconds(partial(inverted, root)) for _ in range(runs))
    del root
    rate = product_rate()
    reached = columns**3 / 3 / statistics.median(spent[0]) / 1e9 / rate
    found = [
        Contest(
            f"factor of the Hessian, {columns} columns",
            "Cholesky, inverse, Cholesky",
            "s",
            1.8,
            *spent,
            agreement=f"U {off:.1e}",
            note=f"R with U = inv(R): the solver needs no more; {100 * reached:.0f} % of the "
            "product's rate, bound by LAPACK's Cholesky",
        ),
        Contest(
            f"U itself, {columns} columns",
            "Cholesky, inverse, Cholesky",
            "s",
            1.8,
            [seconds + inverting for seconds in spent[0]],
            spent[1],
            agreement=f"U {off:.1e}",
            note="the same and one triangular inverse, which the walk does without",
        ),
    ]
    cases: list[tuple[Pattern, tuple[int, int] | None]] = [(HALF, None), (NofM(2, 4), (2, 4))]
    for pattern, n_of_m in cases:
        found.extend(
            solvers(weight, factor, upper[0].contiguous(), pattern, n_of_m, found[0], runs)
        )
    return found


def solvers(
    weight: Tensor,
    factor: Factor,
    upper: Tensor,
    pattern: Pattern,
    n_of_m: tuple[int, int] | None,
    factors: Contest,
    runs: int,
) -> list[Contest]:
    """The solver given the factor, and both together."""
    mine = partial(prune_columns, [weight], factor, [pattern])
    theirs = partial(published.column_loop, weight, upper, n_of_m)
    one, other = mine()[0], theirs()
    spent = turns(mine, theirs, runs)
    same = agreement({"proj.weight": one}, {"proj.weight": other})
    rows, columns = weight.shape
    rate = product_rate()
    reached = rows * columns**2 / statistics.median(spent[0]) / 1e9 / rate
    work = f"solver, {rows} x {columns}, {pattern.label}"
    note = (
        f"{100 * reached:.0f} % of the product's rate ({rate:.0f} GFLOP/s); both sides do the same "
        f"{rows * columns**2 / 1e9:.0f} GFLOP of matrix products, which bound the ratio at "
        f"{statistics.median(spent[1]) / (rows * columns**2 / 1e9 / rate):.1f}"
    )
    whole = [
        [seconds + statistics.median(x) for seconds in y]
        for x, y in zip((factors.ours, factors.theirs), spent, strict=True)
    ]
    return [
        Contest(work, "published column loop", "s", 5, *spent, agreement=same, note=note),
        Contest(f"{work}, from the Hessian", "published, with its factor", "s", 5, *whole),
    ]


def main() -> None:
    """Measure, print, write."""
    parser = arguments("benchmarks.compress", __doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the Python that has llmcompressor")
    parser.add_argument("--side", choices=("ours", "published"), help="one walk, its memory")
    parser.add_argument("--method", choices=tuple(METHODS), default="sparsegpt", help="of --side")
    parser.add_argument(
        "--columns", type=positive, nargs="*", default=[4096, 11008], help="of the parts"
    )
    options = parser.parse_args()
    if options.side:
        side(options.side, options.method, options.quick)
        return
    if options.peers is not None and not has_llmcompressor(options.peers):
        parser.error(f"--peers {options.peers}: must be a Python that has llmcompressor")
    where = machine()  # the code as it is now, whatever is edited meanwhile
    runs = 1 if options.quick else options.runs
    contests: list[Contest] = []
    for name in METHODS:
        contests += walks(name, runs, options.quick, options.peers)
        contests += memories(name, runs, options.quick)
    for columns in [512] if options.quick else options.columns:
        contests += parts(columns, 512 if options.quick else 4096, runs)
    show(contests, where)
    if not options.quick:
        write("compress", contests, where)


if __name__ == "__main__":
    main()
