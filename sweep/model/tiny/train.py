"""Trains the embedded model from nothing: `python -m sweep.model.tiny.train --out DIR`.

Everything comes from seeds: the corpora, the tokenizer, the weights and the order of the windows.
The schedule counts steps, never seconds, so a slow machine trains the same model as a fast one. An
interrupted run goes on from its last checkpoint if `--checkpoint` names the file.
"""

import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers

from sweep import world
from sweep.model.tiny import tokenizer as tiny_tokenizer
from sweep.model.tiny.mixture import pack, rows
from sweep.model.tiny.recipe import Recipe, new_model, new_optimizers
from sweep.model.tiny.validation import validation_windows
from sweep.options import Options

logger = logging.getLogger(__name__)


class Training:
    """A model on its way through the recipe's steps."""

    def __init__(self, recipe: Recipe, checkpoint: Path | None) -> None:
        self.recipe = recipe
        self.checkpoint = checkpoint
        self.tokenizer = tiny_tokenizer.train(recipe.seed, recipe.tokenizer_rows)
        self.windows = pack(
            rows(recipe.seed), self.tokenizer, recipe.steps * recipe.batch, recipe.window
        )
        self.validation = validation_windows(recipe, self.tokenizer)
        self.model = new_model(recipe, self.tokenizer)
        self.optimizers = new_optimizers(recipe, self.model)
        self.log: list[dict[str, float]] = []
        self.seconds = 0.0
        self.step = 0
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def run(self) -> None:
        """All steps that are still to come."""
        recipe = self.recipe
        hidden_states: Callable[..., Any] = torch.compile(self.model.model, dynamic=False)
        head = self.model.lm_head
        started = time.perf_counter() - self.seconds
        running: list[float] = []
        for step in range(self.step, recipe.steps):
            batch = slice(step * recipe.batch, (step + 1) * recipe.batch)
            inputs = self.windows.inputs[batch].long()
            targets = self.windows.targets[batch].long().flatten()
            weights = self.windows.weights[batch].flatten()
            hidden = hidden_states(input_ids=inputs, use_cache=False).last_hidden_state
            losses = F.cross_entropy(head(hidden).flatten(0, 1), targets, reduction="none")
            loss = (losses * weights).sum() / weights.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            self._move(step)
            running.append(loss.item())
            self.step = step + 1
            self.seconds = time.perf_counter() - started
            if self.step % 100 == 0 or self.step == recipe.steps:
                self._report(sum(running) / len(running))
                running.clear()
            if self.step % 300 == 0:
                self._save_checkpoint()

    def _move(self, step: int) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate_at(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _report(self, loss: float) -> None:
        entry = {"step": self.step, "loss": loss, **self.validation.measure(self.model)}
        entry["tokens"] = self.step * self.recipe.batch * self.recipe.window
        entry["seconds"] = self.seconds
        self.log.append({name: round(value, 4) for name, value in entry.items()})
        logger.info(
            "step %d/%d loss %.3f prose %.3f response %.3f accuracy %.3f, %.0f tokens/s, %.0f s",
            self.step,
            self.recipe.steps,
            loss,
            entry["prose_loss"],
            entry["response_loss"],
            entry["response_accuracy"],
            entry["tokens"] / self.seconds,
            self.seconds,
        )

    def _save_checkpoint(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "log": self.log,
            "seconds": self.seconds,
            "step": self.step,
        }
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    def _resume(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{checkpoint} belongs to another recipe: {state['recipe']}")
        self.model.load_state_dict(state["model"])
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.log, self.seconds, self.step = state["log"], state["seconds"], state["step"]

    def save(self, out: Path) -> None:
        """Weights in fp16, tokenizer, and what was done to get them."""
        self.model.half().save_pretrained(out)
        self.tokenizer.save_pretrained(out)
        (out / "model.safetensors").chmod(0o644)  # written for the owner alone otherwise
        record = {
            "recipe": asdict(self.recipe),
            "world_version": world.VERSION,
            "rows": self.windows.rows,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seconds": round(self.seconds),
            "log": self.log,
        }
        (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """The command."""
    parser = Options("sweep.model.tiny.train", "Train the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument("--checkpoint", type=Path, help="file to save to and to resume from")
    for option in fields(Recipe):
        name = "--" + option.name.replace("_", "-")
        parser.add_argument(name, type=type(option.default), default=option.default)
    options = vars(parser.parse_args())
    out, checkpoint = options.pop("out"), options.pop("checkpoint")
    recipe = Recipe(**options)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)
    training = Training(recipe, checkpoint)
    logger.info("%d windows, from step %d", len(training.windows.inputs), training.step)
    training.run()
    training.save(out)


if __name__ == "__main__":
    main()
