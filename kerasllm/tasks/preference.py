"""Preference tuning: which of two answers a language model should prefer.

Direct Preference Optimization (Rafailov et al., 2023, https://arxiv.org/abs/2305.18290): no reward
model and no sampling, but a loss on how much more likely the chosen answer has become than the
rejected one. The reference is the model as the training begins with it: with a new adapter that is
the base itself, since the adapter changes nothing yet; with `model.adapter` it is the base with
that adapter as it was. What it gives the answers is computed once, before the first step, and kept
as two numbers a pair: no second model is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.plurals import counted
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import EarlyStopping, needs_validation
from kerasllm.recipe.types import (
    DELIMITER,
    ENCODING,
    Count,
    Delimiter,
    Encoding,
    Files,
    Positive,
    Section,
    Share,
    Text,
)
from kerasllm.tasks.causal_lm import CausalLanguageModelling, CausalModel, CausalTraining
from kerasllm.tasks.task import DataFacts, Evaluation, Headline

if TYPE_CHECKING:
    from kerasllm.data.language_models import LanguageModelData
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.preference_lm import PreferenceLM


class PreferenceData(Section):
    """Which pairs of answers are read, and what they become."""

    train: Files = Field(
        description="jsonl, json, parquet with prompt, chosen, rejected: file, glob, list or "
        "starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    validation_split: Share = Field(0.1, description="share of train's pairs to hold out")
    max_length: Annotated[int, Field(ge=4, le=1 << 20), "a whole number from 4 to 1048576"] = Field(
        256, description="maximum tokens of a prompt with an answer"
    )
    buckets: Count = Field(
        16, description="maximum number of sequence lengths that batches are padded to"
    )
    chat_template: Text = Field(
        "auto", description="auto: the model's own; chatml, llama3, gemma, mistral, plain or a file"
    )
    system: Text | None = Field(
        None, description="system message of conversations that have none; null: none"
    )
    special_tokens: Literal["once", "text", "keep"] = Field(
        "once",
        description="special tokens written in the data; once: not doubled; text: letters; keep: "
        "as they are",
    )
    too_long: Literal["cut", "drop"] = Field(
        "cut", description="what to do with pairs above max_length"
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field("error", description="what to do with a bad row")
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )


class PreferenceEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "accuracy", "margin"] = Field(
        "loss", description="metric that is monitored"
    )


class PreferenceTraining(CausalTraining):
    """How a language model is tuned to prefer."""

    beta: Positive = Field(
        0.1,
        description="strength of the KL penalty towards the reference model; lower: larger changes",
    )
    loss: Literal["sigmoid", "ipo", "hinge"] = Field(
        "sigmoid", description="of the margin: sigmoid is DPO; ipo; hinge is SLiC's"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5), "a number from 0 to below 0.5"] = Field(
        0.0, description="assumed share of pairs with swapped labels; sigmoid only"
    )
    early_stopping: PreferenceEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )

    @field_validator("loss")
    @classmethod
    def _wrong_pairs_are_of_sigmoid(cls, loss: str, info: ValidationInfo) -> str:
        if loss != "sigmoid" and info.data.get("label_smoothing"):
            raise refusal(
                f"{loss} does not support label smoothing",
                "set training.loss to sigmoid, or training.label_smoothing to 0",
            )
        return loss


class PreferenceRecipe(WholeRecipe):
    """What a run does that tunes a causal language model by preferences."""

    task: Literal["preference"] = Field(description="what the model learns")
    model: CausalModel = Field(description="the model, and how much of it trains")
    data: PreferenceData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: PreferenceTraining = Field(
        PreferenceTraining(), description="how the weights are trained"
    )

    @field_validator("model")
    @classmethod
    def _begins_with_a_model(cls, model: CausalModel) -> CausalModel:
        if model.preset is None:
            raise refusal(
                "a new model cannot be trained on preferences",
                "name a model tuned on conversations, or the model/ folder of such a run",
                key="preset",
            )
        return model

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training, info: ValidationInfo):
        return needs_validation(training, info.data.get("data"))


class PreferenceTuning(CausalLanguageModelling):
    """Answers that are chosen against answers that are rejected.

    What it leaves is a causal language model, which is opened, measured, exported and served as
    one.
    """

    name = "preference"
    Recipe = PreferenceRecipe
    headline = Headline("loss", higher_is_better=False)
    metrics = {
        **CausalLanguageModelling.metrics,
        "margin": "margin",
        "chosen_reward": "reward of chosen",
        "rejected_reward": "reward of rejected",
        "pairs": "pairs",
    }
    opens_presets = False
    compressions = ()

    def report_rows(self, recipe: PreferenceRecipe, part: str) -> ReportRows:
        from kerasllm.data.loading import files_of
        from kerasllm.data.report.rows import record_rows

        files = files_of(recipe.data, part)
        return record_rows(files, part, system=recipe.data.system, preferences=True)

    def load(
        self, recipe: PreferenceRecipe, notify: Callable[[str], None] | None = None
    ) -> LanguageModelData:
        import numpy as np

        from kerasllm.data.chat.conversations import open_preferences
        from kerasllm.data.chat.templates import choose_template
        from kerasllm.data.language_models import LanguageModelData, columns_of, unlike_parts
        from kerasllm.data.loading import files_of
        from kerasllm.data.pairs import Pairs
        from kerasllm.data.split import split_stratified
        from kerasllm.environment import store_dir
        from kerasllm.models.decoder import load_text_side

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
                special_tokens=data.special_tokens,
                folder=store_dir(),
                notify=notify,
            )
            for part in ("train", "validation", "test")
            if (spec := files_of(data, part)) is not None
        }
        parts = {part: Pairs(store) for part, store in stores.items()}
        if "validation" not in parts and data.validation_split:
            kept, out = split_stratified(
                np.zeros(len(parts["train"])), data.validation_split, recipe.training.seed
            )
            if len(out):
                parts["train"] = Pairs(stores["train"], kept)
                parts["validation"] = Pairs(stores["train"], out)
        return LanguageModelData(
            tokenizer,
            template,
            {part: parts[part] for part in ("train", "validation", "test") if part in parts},
            stores,
            {part: store.fingerprint for part, store in stores.items()},
            conversations=True,
            packs=False,
            columns=columns_of(stores["train"]),
            remarks=unlike_parts({part: pairs.lengths for part, pairs in parts.items()}, "pair"),
        )

    def build(
        self, recipe: PreferenceRecipe, data: LanguageModelData, precision: str
    ) -> PreferenceLM:
        from kerasllm.models.preference_lm import PreferenceLM

        return PreferenceLM(super().build(recipe, data, precision))

    def prepare_reference(
        self, recipe: PreferenceRecipe, model: PreferenceLM, data: LanguageModelData
    ) -> None:
        """Notes in the data what the model gives the answers as it is.

        It is cached by the weights and the data, so that a run that is resumed, and the next one of
        the same model, do not compute it again.
        """
        from functools import partial

        from kerasllm.models.likelihood import log_probabilities
        from kerasllm.models.reference_cache import ReferenceCache

        training, buckets = recipe.training, recipe.data.buckets
        cache = ReferenceCache(
            model, [model.task.compute_dtype, buckets, training.loss_tokens, training.xla]
        )
        for pairs in data.parts.values():
            compute = partial(log_probabilities, model, pairs, buckets=buckets)
            pairs.reference = cache.get(pairs, compute)

    def loss(self, recipe: PreferenceRecipe, data: LanguageModelData):
        from kerasllm.training.preference_loss import PreferenceLoss

        training = recipe.training
        return PreferenceLoss(training.loss, training.beta, training.label_smoothing)

    def evaluate(
        self,
        model: Any,
        rows: Any,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """Measures a model: pairs during the training, texts as any language model afterwards."""
        from kerasllm.data.pairs import Pairs

        if not isinstance(rows, Pairs):
            return super().evaluate(model, rows, buckets=buckets, notify=notify)
        from kerasllm.models.likelihood import log_probabilities
        from kerasllm.training.preference_loss import preference_report

        found = log_probabilities(model, rows, buckets=buckets)
        return Evaluation(preference_report(model.item_loss, rows.reference, found), found)

    def outcomes(self, recipe: Any, data: Any, evaluation: Evaluation) -> Outcomes:
        import numpy as np

        from kerasllm.evaluation.outcomes import Outcomes
        from kerasllm.evaluation.scored_rows import place_columns
        from kerasllm.training.preference_loss import rewards

        pairs, found = data.test, evaluation.outputs
        loss = self.loss(recipe, data)
        each = {"loss": loss.call(pairs.reference, found)}
        each |= rewards(pairs.reference, found, loss.beta)
        columns = {name: np.asarray(values, np.float32) for name, values in each.items()}
        places = (pairs.places(pair)[0] for pair in range(len(pairs)))
        columns["error"] = (columns["accuracy"] < 1).astype(np.uint8)
        columns = {**place_columns(places), "tokens": pairs.lengths, **columns}
        return Outcomes(columns, noun="pair", error="share of pairs ranked wrong")

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.scored_rows import means_of

        # Without the module of the loss, which imports Keras.
        rewards = ("accuracy", "margin", "chosen_reward", "rejected_reward")
        return means_of(outcomes, ("loss", *rewards))

    def contents(self, data: LanguageModelData) -> dict[str, str]:
        return {part: counted(len(pairs), "pair") for part, pairs in data.parts.items()}

    def facts(self, recipe: PreferenceRecipe, data: LanguageModelData) -> DataFacts:
        from kerasllm.data.language_models import remarks

        facts = [(part, _part(recipe, data, part)) for part in data.parts]
        facts += [("columns", data.columns)] if data.columns else []
        facts.append(("tokenizer", data.tokenizer.description))
        facts.append(("chat template", data.template.name))
        facts.append(("reference", _reference(recipe)))
        facts.append(
            ("rows", f"one pair per example: two answers of up to {recipe.data.max_length} tokens")
        )
        found = [
            f"{part}: {remark}"
            for part, store in data.stores.items()
            for remark in remarks(store, "pair")
        ]
        found += data.remarks
        return DataFacts(facts, remarks=found)


def _part(recipe: PreferenceRecipe, data: LanguageModelData, part: str) -> str:
    pairs = data.parts[part]
    tokens = f"{counted(len(pairs), 'pair')}, {int(pairs.sides.lengths.sum()):,} tokens"
    if part not in data.stores:
        return f"{tokens}, held out of train"
    where = getattr(recipe.data, part)
    files = where if isinstance(where, str) else ", ".join(where)
    return f"{files}: {tokens}" + " reused from the cache" * data.stores[part].reused


def _reference(recipe: PreferenceRecipe) -> str:
    settings = recipe.model
    if settings.adapter is not None:
        return f"{settings.preset} with {settings.adapter} as it is"
    return f"{settings.preset} as it is"
