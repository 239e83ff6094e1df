"""How far the training is: losses on held-out windows, none of them of the evaluation split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from sweep import world
from sweep.model.tiny.mixture import Windows, pack
from sweep.model.tiny.recipe import Recipe

WINDOWS = 16


@dataclass(frozen=True)
class Validation:
    """Held-out windows of the calibration split; the evaluation split is left untouched."""

    prose: Windows
    exercises: Windows

    @torch.no_grad()
    def measure(self, model: LlamaForCausalLM) -> dict[str, float]:
        """Mean loss on prose, mean loss and share of right tokens on responses."""
        prose_losses, _ = _token_losses(model, self.prose)
        losses, right = _token_losses(model, self.exercises)
        answers = self.exercises.weights.flatten() >= 1
        return {
            "prose_loss": prose_losses.mean().item(),
            "response_loss": losses[answers].mean().item(),
            "response_accuracy": right[answers].float().mean().item(),
        }


def _token_losses(model: LlamaForCausalLM, windows: Windows) -> tuple[Tensor, Tensor]:
    logits = model(input_ids=windows.inputs.long(), use_cache=False).logits.flatten(0, 1)
    targets = windows.targets.long().flatten()
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


def validation_windows(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Validation:
    """Some windows of each corpus, wordings A only."""
    documents = world.prose("calibration", recipe.seed)
    exercises = world.instructions("calibration", recipe.seed)
    return Validation(
        pack(documents, tokenizer, WINDOWS, recipe.window),
        pack(exercises, tokenizer, WINDOWS, recipe.window),
    )
