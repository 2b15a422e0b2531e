"""Causal language modelling: what comes next, in text or in what an assistant says."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from kerasllm.data.chat.conversations import open_conversations
from kerasllm.data.chat.shapes import shape_of
from kerasllm.data.chat.templates import BUILT_IN, ChatTemplate, built_in, own
from kerasllm.data.documents import Documents, open_documents
from kerasllm.data.readers.records import first_keys
from kerasllm.data.sequences import (
    Sequences,
    full_blocks,
    packed_rows,
    separate_pieces,
    whole_rows,
)
from kerasllm.data.split import split_stratified
from kerasllm.data.token_store import TokenStore
from kerasllm.data.tokenizers import TokenizerJson, train_byte_level_bpe
from kerasllm.environment import store_dir
from kerasllm.errors import DataError, RecipeError
from kerasllm.models.adapters import add_adapter, load_adapter
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoder import can_pack, gpt_causal_lm, load_causal_lm, load_text_side
from kerasllm.models.likelihood import evaluate  # noqa: F401 - what every task has
from kerasllm.recipe.causal_lm import CausalData, CausalRecipe
from kerasllm.run import Run, whole_folder
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy


@dataclass(frozen=True, eq=False)
class CausalLMData:
    """The data of a run.

    Attributes:
        tokenizer: The preset's, or one that was trained on the text.
        template: How conversations are written; `None` where the data are plain text and the
            model has no template.
        train: What the model trains on.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        stores: The tokens, by the name of the part.
        fingerprints: What tells the data of each part from others.
        conversations: Whether the data are conversations.
        packs: Whether several texts share a row, without seeing each other.
    """

    tokenizer: TokenizerJson
    template: ChatTemplate | None
    train: Sequences
    validation: Sequences | None
    test: Sequences | None
    stores: dict[str, TokenStore]
    fingerprints: dict[str, str]
    conversations: bool
    packs: bool

    @property
    def parts(self) -> dict[str, Sequences]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def prepare_data(
    recipe: CausalRecipe,
    notify: Callable[[str], None] | None = None,
    *,
    folder: Path | None = None,
) -> CausalLMData:
    """Reads the data of a recipe, and trains a tokenizer on it where the model is a new one.

    Args:
        recipe: The recipe.
        notify: Called with what is being done. Defaults to `None`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.

    Raises:
        KerasllmError: If the preset or the data is refused.
    """
    notify = notify or (lambda text: None)
    folder = folder or store_dir()
    data, preset = recipe.data, recipe.model.preset
    conversations = _are_conversations(data)
    tokenizer = template = None
    if preset is not None:
        notify(f"loading the tokenizer of {preset}")
        tokenizer, template = load_text_side(preset, notify)
    elif conversations:
        raise DataError(
            "A new model cannot begin with conversations",
            where="data.train",
            fix="name model.preset, or train on plain text first",
        )
    packs = _packs(recipe)
    if conversations:
        template = choose_template(data.chat_template, template, tokenizer, preset)
        return _conversations(recipe, tokenizer, template, packs, folder, notify)
    return _texts(recipe, tokenizer, template, packs, folder, notify)


def choose_template(
    wanted: str,
    found: ChatTemplate | None,
    tokenizer: TokenizerJson,
    preset: str | None,
    *,
    where: str = "data.chat_template",
) -> ChatTemplate:
    """Returns the chat template that a recipe or an option asks for.

    Args:
        wanted: `auto`, the name of a built-in one, or a file.
        found: The model's own, or `None`.
        tokenizer: The tokenizer, whose special tokens a template names.
        preset: The preset, for messages.
        where: The key or option that asks. Defaults to `"data.chat_template"`.

    Raises:
        RecipeError: If there is no such template.
    """
    if wanted in BUILT_IN:
        return built_in(wanted, tokenizer)
    if wanted != "auto":
        if not os.path.isfile(wanted):
            raise RecipeError(
                f"{wanted} is neither a chat template that kerasllm brings along nor a file",
                where=where,
                fix=f"choose {', '.join(BUILT_IN)}, auto, or a file of Jinja",
            )
        return own(Path(wanted).read_text(encoding="utf-8"), tokenizer, where=wanted)
    if found is None:
        raise RecipeError(
            f"{preset} has no chat template of its own",
            where=where,
            fix=f"choose one with {where}: {', '.join(BUILT_IN)}, or a file of Jinja",
        )
    return found


def build_model(recipe: CausalRecipe, data: CausalLMData, precision: str) -> CausalLM:
    """Builds the model of a recipe, for its data.

    Raises:
        KerasllmError: If the preset is refused, or rows are longer than what it reads.
    """
    settings = recipe.model
    model = gpt_causal_lm(
        settings.preset,
        tokenizer=data.tokenizer,
        layers=settings.layers,
        heads=settings.heads,
        width=settings.width,
        feedforward=settings.feedforward,
        max_length=recipe.data.max_length,
        dropout=settings.dropout,
        freeze=settings.freeze,
        precision=precision,
        rematerialize=recipe.training.rematerialize,
    )
    if model.max_length is not None and recipe.data.max_length > model.max_length:
        raise RecipeError(
            f"The model reads {model.max_length} tokens at most, and rows of "
            f"{recipe.data.max_length} are asked for",
            where="data.max_length",
            fix=f"set data.max_length to {model.max_length} or less",
        )
    model.chat_template = data.template
    model.packs = data.packs
    # Packs are nearly full: one length pads no more than several, and is compiled once.
    model.pad_to = recipe.data.max_length if data.packs else None
    # In mixed precision frozen matrices would be cast in every step.
    cast = precision.startswith("mixed")
    if settings.lora is not None:
        model.adapters = add_adapter(
            model.backbone,
            **settings.lora.model_dump(),
            quantize=settings.quantize,
            cast=cast,
            seed=recipe.training.seed,
        )
    elif settings.adapter is not None:
        model.adapters = load_adapter(model.backbone, settings.adapter, cast=cast)
    if recipe.training.loss_tokens:
        model.loss_tokens = recipe.training.loss_tokens
    return model


def build_loss(recipe: CausalRecipe) -> keras.losses.Loss:
    """Returns the loss of a recipe."""
    return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)


def save(recipe: CausalRecipe, model: CausalLM, run: Run) -> None:
    """Writes the trained model into a run: `model/`, and `adapter/` where an adapter was trained.

    Then `model/` holds the base with the adapter merged into it, in float32, whatever the
    precision of the training was.
    """
    if model.adapters is None:
        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)
        return
    with whole_folder(run.adapter) as folder:
        model.adapters.save(folder, base_name=recipe.model.preset)
    merged = load_causal_lm(recipe.model.preset)
    merged.chat_template = model.chat_template
    load_adapter(merged.backbone, run.adapter, quantize=recipe.model.quantize).merge()
    with whole_folder(run.model) as folder:
        merged.save_to_preset(folder)


def places_of(sequences: Sequences, numbers: np.ndarray) -> list[tuple[str, int]]:
    """Returns the file and the line of each text in some rows."""
    return [place for number in numbers for place in sequences.places(int(number))]


def _are_conversations(data: CausalData) -> bool:
    """Tells by a recipe's format, or by the keys of the first rows, what the training data are."""
    if data.format != "auto" or data.text is not None:
        return data.format not in ("auto", "text")
    shape = shape_of(first_keys(data.train, "train"))
    if shape == "preference":
        raise DataError(
            "The rows are preferences: each has an answer that was chosen and one that was rejected",
            where="data.train",
            fix="train on them with a recipe whose task is preference, such as gpt_dpo",
        )
    return shape is not None


def _packs(recipe: CausalRecipe) -> bool:
    """Returns whether rows hold several texts."""
    packing = recipe.data.packing
    if packing is False:
        return False
    possible = can_pack(recipe.model.preset)
    if packing is True and not possible:
        raise RecipeError(
            f"{recipe.model.preset} cannot keep texts in one row from seeing each other",
            where="data.packing",
            fix="set data.packing to auto or false: texts of like length then share a batch",
        )
    return possible


def _texts(
    recipe: CausalRecipe,
    tokenizer: TokenizerJson | None,
    template: ChatTemplate | None,
    packs: bool,
    folder: Path,
    notify: Callable[[str], None],
) -> CausalLMData:
    data, seed = recipe.data, recipe.training.seed
    documents = {
        part: Documents(spec, split=part, text=data.text, on_bad_row=data.on_bad_row)
        for part in ("train", "validation", "test")
        if (spec := getattr(data, part)) is not None
    }
    share = 0.0 if "validation" in documents else data.validation_split
    stretches = {part: found.cut(0.0)[0] for part, found in documents.items()}
    stretches["train"], held_out = documents["train"].cut(share)
    if held_out is not None:
        stretches["validation"] = held_out
    if tokenizer is None:
        notify("training the tokenizer")
        tokenizer = train_byte_level_bpe(stretches["train"].texts(), data.vocabulary_size)
    stores = {
        part: open_documents(stretch, tokenizer, folder=folder, notify=notify)
        for part, stretch in stretches.items()
    }

    def rows(part: str) -> Sequences | None:
        if part not in stores:
            return None
        store = stores[part]
        blocks = full_blocks(store, data.max_length, seed=seed if part == "train" else None)
        blocks = blocks if packs else separate_pieces(blocks)
        return replace(blocks, text_bytes=store.remarks[0])

    parts = [rows(part) for part in ("train", "validation", "test")]
    return CausalLMData(
        tokenizer,
        template,
        *parts,
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        conversations=False,
        packs=any(part is not None and part.is_packed for part in parts),
    )


def _conversations(
    recipe: CausalRecipe,
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    packs: bool,
    folder: Path,
    notify: Callable[[str], None],
) -> CausalLMData:
    data = recipe.data
    stores = {
        part: open_conversation_rows(data, spec, tokenizer, template, part, folder, notify)
        for part in ("train", "validation", "test")
        if (spec := getattr(data, part)) is not None
    }
    chosen = {part: np.arange(len(store)) for part, store in stores.items()}
    held_out = stores.get("validation")
    if held_out is None and data.validation_split:
        kept, out = split_stratified(
            np.zeros(len(stores["train"])), data.validation_split, recipe.training.seed
        )
        if len(out):
            chosen["train"], chosen["validation"] = kept, out
            held_out = stores["train"]

    def rows(part: str, store: TokenStore | None) -> Sequences | None:
        if store is None:
            return None
        if packs and part == "train":
            return packed_rows(store, data.max_length, chosen[part])
        return whole_rows(store, chosen[part])

    train = rows("train", stores["train"])
    return CausalLMData(
        tokenizer,
        template,
        train,
        rows("validation", held_out),
        rows("test", stores.get("test")),
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        conversations=True,
        packs=train.is_packed,
    )


def open_conversation_rows(
    data: CausalData,
    spec: str | Sequence[str],
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    part: str,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the conversations of some files as a recipe wants them: see `open_conversations`."""
    return open_conversations(
        spec,
        tokenizer,
        template,
        split=part,
        format=data.format,
        max_length=data.max_length,
        too_long=data.too_long,
        train_on_prompt=data.train_on_prompt,
        system=data.system,
        on_bad_row=data.on_bad_row,
        folder=folder,
        notify=notify,
    )
