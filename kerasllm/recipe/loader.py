"""A recipe: the one file that says what a run does, and the schema that checks it.

Defaults, ranges and what each key means stand here, those of `training` in `recipe_training`, and
nowhere else: errors, `kerasllm recipes show` and the run directory all speak from this schema.
Nothing here imports TensorFlow, so that a mistake in a recipe is told at once.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from kerasllm.errors import RecipeError
from kerasllm.recipe import files as recipe_files
from kerasllm.recipe import yaml_file as recipe_yaml
from kerasllm.recipe.causal_lm import CausalRecipe, needs_validation
from kerasllm.recipe.compression import (
    CompressionRecipe,
    DistillationRecipe,
    PruningRecipe,
    QuantizationRecipe,
)
from kerasllm.recipe.files import names, path_of
from kerasllm.recipe.preference import PreferenceRecipe
from kerasllm.recipe.schema import WholeRecipe, problems, refusal
from kerasllm.recipe.training import EarlyStopping, Training
from kerasllm.recipe.types import (
    Count,
    Files,
    LabelNames,
    LabelWeights,
    Positive,
    Section,
    Share,
    Text,
    WholeNumber,
)

__all__ = [
    "SCHEMAS",
    "AnyRecipe",
    "CausalRecipe",
    "Data",
    "EarlyStopping",
    "Lora",
    "Model",
    "PreferenceRecipe",
    "Recipe",
    "Training",
    "load",
    "names",
    "path_of",
    "together",
    "validate",
]

_SECTIONS = (
    *("model", "data", "training"),
    *("quantization", "pruning", "student", "distillation"),
)


class Lora(Section):
    """Low-rank adaptation: train two thin matrices beside each target (Hu et al., 2021,
    https://arxiv.org/abs/2106.09685)."""

    rank: Count = Field(8, description="width of the two matrices; more can learn more")
    alpha: Positive = Field(16.0, description="the update is scaled by alpha / rank")
    targets: Annotated[list[Text], Field(min_length=1), "a list of layer names"] = Field(
        ["query", "value"], description="layers of each block that get one"
    )


class Model(Section):
    """Which pretrained model, and how much of it trains."""

    preset: Text = Field(
        "minilm_l6_en_uncased",
        description="name in `kerasllm presets list`, hf://, kaggle://, pypi://, folder",
    )
    dropout: Share = Field(0.1, description="every dropout of the model")
    head_dropout: Share | None = Field(
        None, description="dropout before the classification layer; null: as dropout"
    )
    freeze: Literal["backbone"] | WholeNumber = Field(
        0, description="N: embeddings and N lowest layers; backbone: all but the head"
    )
    lora: Lora | None = Field(
        None, description="low-rank adaptation, {rank, alpha, targets}; null: none"
    )

    @field_validator("lora")
    @classmethod
    def _lora_needs_a_backbone(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        if lora and info.data.get("freeze") == "backbone":
            raise refusal(
                "lora trains layers that freeze: backbone keeps as they are",
                "remove model.lora, or set model.freeze to 0",
            )
        return lora


class Data(Section):
    """Which rows are read, and what they become."""

    train: Files = Field(
        description="csv, tsv, jsonl, parquet: file, glob, list of them or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; measured once, at the end; null: none")
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    label: Text | None = Field(
        None, description="column of the labels; null: found by common names"
    )
    label_names: LabelNames | None = Field(
        None, description="{label in the data: name to show}; null: labels as they are"
    )
    validation_split: Share = Field(
        0.1, description="part of train to hold out if validation is null, stratified"
    )
    max_length: Annotated[int, Field(ge=3, le=65536), "a whole number from 3 to 65536"] = Field(
        128, description="most tokens of a text, special tokens included; the rest is cut"
    )
    buckets: Count = Field(18, description="most sequence lengths that batches are padded to")
    class_weights: Literal["balanced"] | LabelWeights | None = Field(
        None, description="balanced: by rarity; {label or its name: weight}; null: all 1"
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row without text or label does to the run"
    )

    @field_validator("label")
    @classmethod
    def _label_is_not_the_text(cls, label: str | None, info: ValidationInfo) -> str | None:
        if label is not None and label == info.data.get("text"):
            raise refusal(f"the labels cannot be in the column of the texts, {label}")
        return label

    @field_validator("label_names")
    @classmethod
    def _names_differ(cls, label_names: dict[str, str] | None) -> dict[str, str] | None:
        label_of: dict[str, str] = {}
        for label, name in (label_names or {}).items():
            if name in label_of:
                raise refusal(f"labels {label_of[name]} and {label} are both named {name}")
            label_of[name] = label
        return label_names

    @field_validator("class_weights")
    @classmethod
    def _weights_are_of_labels(cls, weights, info: ValidationInfo):
        label_names = info.data.get("label_names")
        if label_names is None or not isinstance(weights, dict):
            return weights
        key_of: dict[str, str] = {}
        for key in weights:
            name = label_names.get(key, key)
            if name not in label_names.values():
                known = ", ".join(label_names.values())
                raise refusal(f"{key} is no label", f"the names in data.label_names are: {known}")
            if name in key_of:
                raise refusal(f"{key_of[name]} and {key} are the same label", "keep one of them")
            key_of[name] = key
        return weights


class Recipe(WholeRecipe):
    """What a run does that trains a classifier of texts.

    Example:

    >>> recipe = load("bert_cls", ["training.epochs=3"])
    >>> recipe.training.epochs, recipe.model.preset
    (3, 'minilm_l6_en_uncased')
    """

    task: Literal["text_classification"] = Field(description="what the model learns")
    model: Model = Field(Model(), description="the pretrained model, and how much of it trains")
    data: Data = Field(description="paths are relative to the folder that the command runs in")
    training: Training = Field(Training(), description="how the weights are trained")

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


AnyRecipe = Recipe | CausalRecipe | PreferenceRecipe

SCHEMAS: dict[str, type[WholeRecipe]] = {
    "text_classification": Recipe,
    "causal_lm": CausalRecipe,
    "preference": PreferenceRecipe,
    "quantization": QuantizationRecipe,
    "pruning": PruningRecipe,
    "distillation": DistillationRecipe,
}
"""The schema of each task's recipes."""


def load(
    name_or_file: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> AnyRecipe | CompressionRecipe:
    """Loads a recipe and checks it against the schema.

    Args:
        name_or_file: The name of a shipped recipe, or the path of a YAML file.
        overrides: Settings over the file's, each `"dotted.key=VALUE"`; a later one wins. Where
            `data.train` is set, the file's own validation and test data are dropped, unless they
            are set too: they belong to the other data. Defaults to `()`.

    Returns:
        The recipe, with each key that nobody wrote at its default.

    Raises:
        RecipeError: With every problem found, each with its place and what was expected.

    Example:

    >>> load("bert_cls", ["data.train=mine.csv"]).data.test is None
    True
    """
    recipe, found = _check(name_or_file, overrides)
    if recipe is None:
        raise together(found)
    return recipe


def validate(
    name_or_file: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> list[RecipeError]:
    """Returns every problem of a recipe, none if `load` would take it.

    Args:
        name_or_file: The name of a shipped recipe, or the path of a YAML file.
        overrides: As for `load`. Defaults to `()`.

    Returns:
        The problems. What stops the file from being read at all hides those that come after.
    """
    return _check(name_or_file, overrides)[1]


def together(found: Sequence[RecipeError]) -> RecipeError:
    """Returns one error that tells of all of them."""
    if len(found) == 1:
        return found[0]
    return RecipeError("\n".join([f"{len(found)} problems", *map(str, found)]))


def _check(
    name_or_file: str | os.PathLike[str], overrides: Sequence[str]
) -> tuple[AnyRecipe | CompressionRecipe | None, list[RecipeError]]:
    """Returns the recipe and no problems, or no recipe and all the problems."""
    try:
        written = recipe_yaml.read(recipe_files.find(name_or_file))
    except RecipeError as error:
        return None, [error]
    _override(written, overrides)
    task = written.values.get("task")
    if isinstance(task, str) and task not in SCHEMAS:
        # What the other keys should be is not known then.
        return None, [*written.problems, _unknown_task(task, written)]
    schema = SCHEMAS.get(task, Recipe) if isinstance(task, str) else Recipe
    for section in _SECTIONS:
        # Absent, or all its keys are commented out.
        if section in schema.model_fields and written.values.get(section) is None:
            written.values[section] = {}
    try:
        recipe = schema.model_validate(written.values)
    except ValidationError as error:
        written.problems += problems(schema, error, written)
    if written.problems:
        return None, sorted(written.problems, key=_line_in_file)
    return recipe, []


def _unknown_task(task: str, written: recipe_yaml.Written) -> RecipeError:
    near = difflib.get_close_matches(task, SCHEMAS, n=1)
    return RecipeError(
        f"task {task!r} is not known. Expected: {' or '.join(SCHEMAS)}",
        where=written.place_of(("task",)),
        fix=f"did you mean {near[0]}?" if near else None,
    )


def _line_in_file(problem: RecipeError) -> float:
    """Orders problems as they stand in the file, and those of settings behind."""
    line = re.search(r":(\d+)$", problem.where or "")
    return int(line[1]) if line and not problem.where.startswith("--set ") else math.inf


def _override(written: recipe_yaml.Written, overrides: Sequence[str]) -> None:
    """Puts the settings over the file's values, and notes those that are none."""
    settings = []
    for text in overrides:
        try:
            settings.append(recipe_yaml.parse_setting(text))
        except RecipeError as error:
            written.problems.append(error)
    keys = [setting.key for setting in settings]
    if ("data", "train") in keys:
        for other in (("data", "validation"), ("data", "test")):
            if other not in keys:
                written.drop(other)
    for setting in settings:
        if len(setting.key) == 1 and setting.key[0] in _SECTIONS:
            what = f"{setting.key[0]} is a section, and a setting sets one key"
            fix = f"name the key, such as --set {setting.key[0]}.KEY=VALUE"
            written.problems.append(RecipeError(what, where=setting.place, fix=fix))
        else:
            written.set(setting)
