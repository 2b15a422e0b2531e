"""Preference tuning: which of two answers a language model should rather give.

Direct Preference Optimization (Rafailov et al., 2023, https://arxiv.org/abs/2305.18290): no model
of rewards and no sampling, but a loss on how much likelier the chosen answer has become than the
rejected one. The reference is the model as the training begins with it: with a new adapter that is
the base itself, since the adapter changes nothing yet; with `model.adapter` it is the base with
that adapter as it was. What it gives the answers is computed once, before the first step, and kept
as two numbers a pair: no second model is in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasllm.data.chat.conversations import open_preferences
from kerasllm.data.pairs import SIDES, Pairs
from kerasllm.data.split import split_stratified
from kerasllm.environment import store_dir
from kerasllm.models import likelihood as scoring
from kerasllm.models.decoder import load_text_side
from kerasllm.models.preference_lm import PreferenceLM
from kerasllm.recipe.preference import PreferenceRecipe
from kerasllm.tasks import causal_lm
from kerasllm.tasks.causal_lm import CausalLMData, choose_template, places_of, save  # noqa: F401
from kerasllm.tasks.reference_cache import ReferenceCache
from kerasllm.training.preference_loss import PreferenceLoss, rewards


def prepare_data(
    recipe: PreferenceRecipe,
    notify: Callable[[str], None] | None = None,
    *,
    folder: Path | None = None,
) -> CausalLMData:
    """Reads the pairs of a recipe; their reference is not known before there is a model.

    Args:
        recipe: The recipe.
        notify: Called with what is being done. Defaults to `None`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.

    Returns:
        Data whose parts are `Pairs`.

    Raises:
        KerasllmError: If the preset or the data is refused.
    """
    notify = notify or (lambda text: None)
    data, preset = recipe.data, recipe.model.preset
    notify(f"loading the tokenizer of {preset}")
    tokenizer, template = load_text_side(preset, notify)
    template = choose_template(data.chat_template, template, tokenizer, preset)
    stores = {
        part: open_preferences(
            spec,
            tokenizer,
            template,
            split=part,
            max_length=data.max_length,
            too_long=data.too_long,
            system=data.system,
            on_bad_row=data.on_bad_row,
            folder=folder or store_dir(),
            notify=notify,
        )
        for part in ("train", "validation", "test")
        if (spec := getattr(data, part)) is not None
    }
    parts = {part: Pairs(store) for part, store in stores.items()}
    if "validation" not in parts and data.validation_split:
        kept, out = split_stratified(
            np.zeros(len(parts["train"])), data.validation_split, recipe.training.seed
        )
        if len(out):
            parts["train"] = Pairs(stores["train"], kept)
            parts["validation"] = Pairs(stores["train"], out)
    return CausalLMData(
        tokenizer,
        template,
        parts["train"],
        parts.get("validation"),
        parts.get("test"),
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        conversations=True,
        packs=False,
    )


def build_model(recipe: PreferenceRecipe, data: CausalLMData, precision: str) -> PreferenceLM:
    """Builds the model of a recipe.

    Raises:
        KerasllmError: If the preset is refused, or rows are longer than what it reads.
    """
    return PreferenceLM(causal_lm.build_model(recipe, data, precision))


def prepare_reference(
    model: PreferenceLM, data: CausalLMData, recipe: PreferenceRecipe, *, zero: bool = False
) -> None:
    """Sets the reference of all pairs: the log-probabilities that the model gives as it is now.

    They are cached by the weights and the data, so that a run that is resumed, and the next one of
    the same model, do not compute them again.

    Args:
        model: The model, before its training.
        data: The data.
        recipe: The recipe.
        zero: Whether to set zeros instead, for a step whose numbers do not matter. Defaults to
            `False`.
    """
    training, buckets = recipe.training, recipe.data.buckets
    settings = [model.task.compute_dtype, buckets, training.loss_tokens, training.xla]
    cache = None if zero else ReferenceCache(model, settings)
    for pairs in data.parts.values():
        if zero:
            pairs.reference = np.zeros((len(pairs), SIDES), np.float32)
        else:
            pairs.reference = cache.get(
                pairs, functools.partial(log_probabilities, model, pairs, buckets=buckets)
            )


def build_loss(recipe: PreferenceRecipe) -> PreferenceLoss:
    """Returns the loss of a recipe."""
    training = recipe.training
    return PreferenceLoss(training.loss, training.beta, training.label_smoothing)


def log_probabilities(model: PreferenceLM, pairs: Pairs, *, buckets: int = 16) -> np.ndarray:
    """Returns how likely the model finds the answers, each as a whole.

    Args:
        model: The model.
        pairs: The answers.
        buckets: The most lengths to pad to. Defaults to `16`.

    Returns:
        float32 `[pairs, 2]`: the natural logarithms, of chosen and rejected.
    """
    scores = scoring.score(model, pairs.sides, buckets=buckets)
    return -scores[:, 0].reshape(-1, 2)


def evaluate(model: PreferenceLM, pairs: Pairs, *, buckets: int = 16) -> tuple[dict, np.ndarray]:
    """Measures a compiled model on some pairs.

    Args:
        model: The model.
        pairs: The pairs, with their reference.
        buckets: The most lengths to pad to. Defaults to `16`.

    Returns:
        `loss`; `accuracy`, the share of pairs whose chosen answer has the higher reward; `margin`,
        by how much; `chosen_reward`; `rejected_reward`; `pairs`; and the log-probabilities of the
        answers.
    """
    loss, found = model.item_loss, log_probabilities(model, pairs, buckets=buckets)
    each = {"loss": loss.call(pairs.reference, found)} | rewards(pairs.reference, found, loss.beta)
    means = {name: float(np.mean(values, dtype=np.float64)) for name, values in each.items()}
    return {**means, "pairs": len(pairs)}, found
