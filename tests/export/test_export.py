"""A kept model, taken elsewhere: the same model there, and one clear line where that cannot be."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sweep import size
from sweep.export import bitmask
from sweep.export.__main__ import main
from sweep.export.kept import find
from sweep.model.embedded import WEIGHTS
from sweep.numerics import products

Said = Callable[..., str]

COMPARE = """
import sys
from pathlib import Path
import torch
import yaml
from safetensors.torch import load_file, save_file
said = load_file(sys.argv[1])
text = Path("README.md").read_text()
exec(text.split("```python")[1].split("```")[0])
assert "sweep" not in sys.modules
with torch.inference_mode():
    logits = model(input_ids=said["ids"]).logits
assert torch.equal(logits, said[sys.argv[2]]), (logits - said[sys.argv[2]]).abs().max()
assert tokenizer("a word")["input_ids"]
print("identical")
"""


def spoken(folder: Path, said: Path, which: str, program: str = COMPARE) -> str:
    """What a fresh process says that does as the card in the folder says, and knows no sweep."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(said), which],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What the command says on stderr when it refuses."""

    def said(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(words)
        assert isinstance(exit.value.code, str)
        assert capsys.readouterr().out == ""
        assert "\n" not in exit.value.code
        return exit.value.code

    return said


def test_a_cell_is_run_with_the_widest_arithmetic_and_says_so(swept: Any) -> None:
    assert swept.wide == (products.library() == "oneDNN")
    said = json.loads((swept.cell("wanda-50") / "compression.json").read_text())
    assert said["environment"]["products"] == products.library()
    card = (swept.cell("wanda-50") / "model" / "README.md").read_text()
    assert f"products {products.library()}" in card


def test_a_fresh_process_with_plain_transformers_gives_the_logits_of_the_model_in_memory(
    swept: Any, tmp_path: Path
) -> None:
    main([str(swept.cell("wanda-50")), "--to", "hf", "--out", str(tmp_path / "out")])
    assert spoken(tmp_path / "out", swept.said, "unstructured") == "identical\n"


def test_the_folder_is_whole_and_readable_for_others(swept: Any, tmp_path: Path) -> None:
    main([swept.cell("wanda-50").name, "--outputs", str(swept.outputs), "--to", "hf"])
    names = {file.name for file in (swept.cell("wanda-50") / "model").iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in ("tokenizer.json", "tokenizer_config.json"):  # as they were, how they pad included
        kept = swept.cell("wanda-50") / "model" / name
        assert kept.read_bytes() == (WEIGHTS / name).read_bytes()
    modes = {file.stat().st_mode for file in (swept.cell("wanda-50") / "model").iterdir()}
    assert modes == {(swept.cell("wanda-50") / "compression.json").stat().st_mode}


class TestBitmask:
    @pytest.mark.parametrize(
        ("part", "which"), [("wanda-50", "unstructured"), ("wanda-2of4", "2to4")]
    )
    def test_it_is_as_small_as_it_should_be_and_loads_back_equal(
        self, part: str, which: str, swept: Any, tmp_path: Path
    ) -> None:
        pytest.importorskip("compressed_tensors")
        cell, out = swept.cell(part), tmp_path / "out"
        main([str(cell), "--to", "compressed-tensors", "--out", str(out)])
        dense = load_file(cell / "model" / "model.safetensors")
        layers = json.loads((cell / "compression.json").read_text())["layers"]
        wanted = sum(tensor.numel() * 4 for tensor in dense.values())
        for layer in layers:
            weight = dense[f"{layer['name']}.weight"]
            kept = int((weight != 0).sum())
            rows, columns = weight.shape
            wanted += 4 * kept + rows * columns // 8 + 8 * rows + 16 - 4 * weight.numel()
        stored = out / "model.safetensors"
        header = 8 + int.from_bytes(stored.read_bytes()[:8], "little")
        assert stored.stat().st_size - header == wanted
        assert size.of_model(cell / "model", layers).bitmask == wanted
        config = json.loads((out / "config.json").read_text())["quantization_config"]
        structure = "2:4" if which == "2to4" else which
        assert config["sparsity_config"]["sparsity_structure"] == structure
        said = load_file(swept.said)
        with torch.inference_mode():
            logits = bitmask.load(out)(input_ids=said["ids"]).logits
        assert torch.equal(logits, said[which])
        if which == "unstructured":  # and as its card says, in a process that knows no sweep
            assert spoken(out, swept.said, which) == "identical\n"

    def test_what_is_read_back_is_compared(
        self, swept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compressor = pytest.importorskip("compressed_tensors.compressors").BitmaskCompressor
        wrong = compressor.compress_weight

        def flipped(self: Any, name: str, value: torch.Tensor) -> Any:
            return wrong(self, name, value.flip(0))

        monkeypatch.setattr(compressor, "compress_weight", flipped)
        with pytest.raises(SystemExit, match="is not read back as it was written"):
            main(
                [
                    str(swept.cell("wanda-50")),
                    "--to",
                    "compressed-tensors",
                    "--out",
                    str(tmp_path / "o"),
                ]
            )
        assert not list(tmp_path.iterdir())

    def test_a_layer_that_no_byte_divides_is_counted_as_it_is_stored(self) -> None:
        tensors = pytest.importorskip("compressed_tensors.compressors").BitmaskTensor
        weight = torch.randn(5, 13, generator=torch.Generator().manual_seed(0)).half()
        weight[weight.abs() < 0.7] = 0
        stored = tensors.from_dense(weight).dict("x")
        count = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
        assert count == size.bitmask_bytes((5, 13), int((weight == 0).sum()), 2)

    @pytest.mark.parametrize(
        "family", ["gemma3_text", "gpt2", "gpt_neox", "gpt_oss", "mixtral", "opt"]
    )
    @pytest.mark.parametrize("renamed", [False, True])
    def test_every_family_loads_back_equal_also_with_other_names_on_disk(
        self, family: str, renamed: bool, build: Any, tmp_path: Path
    ) -> None:
        pytest.importorskip("compressed_tensors")
        from sweep.model import anatomy

        model = build(family, intermediate_size=96).bfloat16()
        layers = []
        for name, linear in anatomy.prunable(model).items():
            weight = linear.weight.detach()
            weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.8] = 0
            zeros = int((weight == 0).sum())
            layers.append({"name": name, "shape": list(weight.shape), "zeros": zeros})
        if renamed:
            layers[0]["name"] = "of.another.name"
        dense, out = tmp_path / "dense", tmp_path / "out"
        model.save_pretrained(dense)
        out.mkdir()
        for file in ("config.json", "generation_config.json"):
            (out / file).write_text((dense / file).read_text())
        bitmask.write(dense, out, {"layers": layers, "sparsity": 0.8, "pattern": "80%"})
        names = size.headers(out)
        stored = len(layers)
        if family == "gpt_oss":  # its experts are one tensor, and stay dense
            stored = sum(".experts." not in layer["name"] for layer in layers)
            assert size.has_joint_experts(dense)
        assert sum(name.endswith(".bitmask") for name in names) == stored
        if not renamed:
            widths = {"BF16": 2, "I64": 8, "U8": 1}
            written = sum(prod(one["shape"]) * widths[one["dtype"]] for one in names.values())
            assert size.of_model(dense, layers).bitmask == written
        ids = torch.randint(3, 40, (2, 8), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            assert torch.equal(bitmask.load(out)(input_ids=ids).logits, model(input_ids=ids).logits)

    def test_settings_of_generation_are_loaded_too(self, swept: Any, tmp_path: Path) -> None:
        """As the command writes the folder, as `load` reads it, and as the card does."""
        pytest.importorskip("compressed_tensors")
        cell, out = tmp_path / "cells" / swept.cell("wanda-50").name, tmp_path / "out"
        shutil.copytree(swept.cell("wanda-50"), cell)
        settings = {"eos_token_id": [2, 7], "repetition_penalty": 1.3, "do_sample": False}
        (cell / "model" / "generation_config.json").write_text(json.dumps(settings))
        main([str(cell), "--to", "compressed-tensors", "--out", str(out)])
        found = bitmask.load(out).generation_config.to_dict()
        assert settings.items() <= found.items()
        check = (
            f"found = model.generation_config.to_dict(); assert {settings}.items() <= found.items()"
        )
        done = COMPARE.replace('assert "sweep"', f'{check}\nassert "sweep"')
        assert spoken(out, swept.said, "unstructured", done) == "identical\n"

    def test_a_model_in_several_files_stays_one(self, swept: Any, tmp_path: Path) -> None:
        pytest.importorskip("compressed_tensors")
        from transformers import AutoModelForCausalLM

        cell = swept.cell("wanda-50")
        parts, out = tmp_path / "parts", tmp_path / "out"
        model = AutoModelForCausalLM.from_pretrained(cell / "model")
        model.save_pretrained(parts, max_shard_size="2MB")
        assert len(list(parts.glob("*.safetensors"))) > 1
        out.mkdir()
        for file in ("config.json", "generation_config.json"):
            (out / file).write_text((parts / file).read_text())
        compression = json.loads((cell / "compression.json").read_text())
        bitmask.write(parts, out, compression)
        index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
        assert set(index.values()) == {file.name for file in out.glob("*.safetensors")}
        found = bitmask.load(out).state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())

    def test_the_versions_that_cannot_are_refused(
        self, said: Said, swept: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = (str(swept.cell("wanda-50")), "--to", "compressed-tensors")
        for found in ("0.14.0", "0.20.0", "0.9.1", "1.0"):
            monkeypatch.setattr(bitmask, "version", lambda name, found=found: found)
            assert f"the compressed-tensors {found} that is here is not of 0.12" in said(*words)

        def none(name: str) -> str:
            raise bitmask.PackageNotFoundError(name)

        monkeypatch.setattr(bitmask, "version", none)
        assert "needs pip install 'compression-sweep[export]'" in said(*words)

    def test_a_dense_cell_has_no_zeros_to_leave_out(
        self, said: Said, frozen: Any, tmp_path: Path
    ) -> None:
        pytest.importorskip("compressed_tensors")
        from sweep.grid import sweep

        small = ("metric=[perplexity]", "metric.perplexity.n_samples=2")
        sweep([frozen("method=dense", "keep=model", *small)])
        (cell,) = (tmp_path / "outputs" / "cells").iterdir()
        line = said(str(cell), "--to", "compressed-tensors")
        assert "is dense: there are no zeros to leave out; --to hf takes it as it is" in line


class TestWhatIsKept:
    """Whole, and the model that was measured; else it is not handed out."""

    @pytest.fixture
    def cell(self, swept: Any, tmp_path: Path) -> Path:
        """A copy of a cell, of which a test may make what it likes."""
        path = tmp_path / "outputs" / "cells" / swept.cell("wanda-50").name
        shutil.copytree(swept.cell("wanda-50"), path)
        return path

    @pytest.mark.parametrize("to", ["hf", "compressed-tensors"])
    @pytest.mark.parametrize(
        ("damage", "what"),
        [
            ("cut", "cannot be read (model.safetensors is damaged or cut short (Error while"),
            ("gone", "cannot be read (holds no weights (no *.safetensors)); delete"),
            ("lacking", "cannot be read (its weights lack model.norm.weight); delete"),
            ("dense", "is not the model that was measured; delete"),
            ("config", "cannot be read (its config.json cannot be used ("),
        ],
    )
    def test_a_model_that_is_damaged_or_another_one_is_not_handed_out(
        self, said: Said, cell: Path, damage: str, what: str, to: str
    ) -> None:
        if to == "compressed-tensors":
            pytest.importorskip("compressed_tensors")
        file, out = cell / "model" / "model.safetensors", cell.parents[2] / "out"
        before = (cell / "model" / "README.md").read_text()
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-100_000])
        elif damage == "gone":
            file.unlink()
        elif damage == "lacking":
            weights = load_file(file)
            del weights["model.norm.weight"]
            save_file(weights, file, metadata={"format": "pt"})
        elif damage == "dense":
            shutil.copy(WEIGHTS / "model.safetensors", file)
        else:
            (cell / "model" / "config.json").write_text("{")
        line = said(str(cell), "--to", to, "--out", str(out))
        assert line.startswith(f"sweep.export: {cell / 'model'}: {what}")
        again = f"method=wanda keep=model outputs={cell.parents[1]}"
        assert "; delete this folder, and it is made again by: python -m sweep calib.n_" in line
        assert line.endswith(again)
        assert not out.exists()
        assert (cell / "model" / "README.md").read_text() == before

    def test_a_model_with_a_card_of_another_cell_is_still_another_one(
        self, said: Said, swept: Any, cell: Path
    ) -> None:
        shutil.copytree(swept.cell("wanda-2of4") / "model", cell / "model", dirs_exist_ok=True)
        assert "is not the model that was measured" in said(str(cell), "--to", "hf")

    def test_a_model_that_was_made_again_with_other_last_digits_is_one_by_its_card(
        self, cell: Path
    ) -> None:
        """Of the first time `compression.json` tells, of this one the card, and so the results."""
        file = cell / "compression.json"
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "weights_sha256": "0" * 64}))
        assert find(str(cell), Path("nowhere")).weights == record["weights_sha256"]

    def test_of_code_that_comes_with_a_model_nothing_is_run(
        self, said: Said, cell: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record = cell / "cell.yaml"
        content = yaml.safe_load(record.read_text())
        content["config"]["model"]["trust_remote_code"] = True
        record.write_text(yaml.safe_dump(content))
        config = cell / "model" / "config.json"
        own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
        config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
        (cell / "model" / "own.py").write_text("raise SystemExit('this code was run')\n")
        main([str(cell), "--to", "hf"])
        assert "were not held against the record" in capsys.readouterr().out
        file = cell / "model" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        assert "model.safetensors is damaged or cut short" in said(str(cell), "--to", "hf")

    def test_a_cells_folder_is_taken_wherever_it_lies(
        self, said: Said, cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cell.rename(tmp_path / "moved")
        monkeypatch.chdir(tmp_path)
        main(["moved", "--to", "hf", "--out", "out"])
        assert (tmp_path / "out" / "model.safetensors").is_file()
        shutil.rmtree(tmp_path / "moved" / "model")
        line = said("moved", "--to", "hf")
        assert "moved: its model was not kept; this keeps it: python -m sweep" in line
        assert line.endswith("method=wanda keep=model")  # into nobody's folder of outputs

    def test_the_dense_values_on_the_card_are_those_of_the_same_model(
        self, swept: Any, cell: Path
    ) -> None:
        dense = cell.parent / swept.cell("dense").name
        shutil.copytree(swept.cell("dense"), dense)
        assert find(str(cell), Path("nowhere")).dense is not None
        record = dense / "cell.yaml"
        content = yaml.safe_load(record.read_text())
        content["about"]["weights"] = "of another model"
        record.write_text(yaml.safe_dump(content))
        assert find(str(cell), Path("nowhere")).dense is None


class TestBadInput:
    def test_a_cell_that_keeps_no_model_is_told_the_command_that_keeps_it(
        self, said: Said, swept: Any
    ) -> None:
        line = said(str(swept.cell("magnitude")), "--to", "hf")
        assert "its model was not kept; this keeps it: python -m sweep calib.n_samples=4" in line
        assert f"method=magnitude keep=model outputs={swept.outputs}" in line

    def test_a_cell_that_is_not_there_and_one_that_is_not_clear(
        self, said: Said, swept: Any
    ) -> None:
        where = ("--outputs", str(swept.outputs), "--to", "hf")
        assert "nothing: no such cell, neither a folder nor below" in said("nothing", *where)
        line = said("tiny-wanda", *where)
        assert re.search(r"is the beginning of tiny-wanda-2of4-c4-\w+, tiny-wanda-50-c4-\w+;", line)

    def test_the_id_names_the_cell_too(self, swept: Any, tmp_path: Path) -> None:
        id = json.loads((swept.cell("wanda-50") / "metrics" / "perplexity.json").read_text())[
            "cell"
        ]
        for i, word in enumerate((id, id[:8], id[:5])):
            out = tmp_path / str(i)
            main([word, "--outputs", str(swept.outputs), "--to", "hf", "--out", str(out)])
            assert (out / "model.safetensors").is_file()

    @pytest.mark.parametrize("to", ["hf", "compressed-tensors"])
    def test_what_would_upload_and_does_not_is_refused(self, said: Said, to: str) -> None:
        """Before the cell is looked for."""
        tail = f"belongs to --to hub; --to {to} uploads nothing"
        assert said("no-cell", "--to", to, "--repo", "a/b") == f"sweep.export: --repo a/b: {tail}"
        assert said("no-cell", "--to", to, "--public") == f"sweep.export: --public: {tail}"

    def test_a_folder_that_cannot_be_made_is_told_by_the_option_that_was_typed(
        self, said: Said, swept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        for out in (Path("/proc/x/y"), tmp_path / "file" / "out"):  # root may write anywhere else
            line = said("no-cell", "--to", "hf", "--out", str(out))  # before the cell is looked for
            assert line.startswith(f"sweep.export: --out {out}: cannot be written to (")
            assert line.endswith("; choose a folder that can")

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(shutil, "copytree", full)
        out = tmp_path / "out"
        line = said(str(swept.cell("wanda-50")), "--to", "hf", "--out", str(out))
        assert line == f"sweep.export: {out}: cannot be written (No space left on device)"

    def test_a_folder_with_something_in_it_is_left_alone(
        self, said: Said, swept: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").write_text("text")
        line = said(str(swept.cell("wanda-50")), "--to", "hf", "--out", str(tmp_path))
        assert f"--out {tmp_path}: is there already, and not empty" in line
        assert [file.name for file in tmp_path.iterdir()] == ["mine"]
