"""The data of a masked language model: texts, tokenized and split into sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_hub

from kerasllm.data.documents import Documents, Sample
from kerasllm.data.language_models import unlike_parts
from kerasllm.data.loading import files_of
from kerasllm.data.masked_rows import MaskedRows, cut_rows, open_tokens, special_tokens_of
from kerasllm.data.masking import Masking
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.tokenizers import Tokenizer, from_keras_hub
from kerasllm.data.tokenizers.train_word_piece import train_word_piece
from kerasllm.data.tokenizers.vocabulary import Vocabulary
from kerasllm.errors import RecipeError


@dataclass(eq=False)
class MaskedData:
    """The data of a run.

    Attributes:
        tokenizer: The preset's, or one that was trained on the text.
        parts: The rows of each part that there is, by name.
        stores: The tokens, by the name of the part.
        fingerprints: What tells the data of each part from others.
        column: The column of the texts; `None` where files have none.
        remarks: What else a user should know of the data.
        held_out: What is held out for validation, where it has no file of its own.
    """

    tokenizer: Tokenizer
    parts: dict[str, MaskedRows]
    stores: dict[str, TokenStore]
    fingerprints: dict[str, str]
    column: str | None = None
    remarks: Sequence[str] = ()
    held_out: str = "the end"

    @property
    def train(self) -> MaskedRows:
        """What the model trains on."""
        return self.parts["train"]

    @property
    def validation(self) -> MaskedRows | None:
        """What is measured while it trains, or `None`."""
        return self.parts.get("validation")

    @property
    def test(self) -> MaskedRows | None:
        """What is measured at the end, or `None`."""
        return self.parts.get("test")


def load_data(
    recipe: Any,
    tokenizer: Tokenizer | None,
    folder: Path,
    notify: Callable[[str], None],
) -> MaskedData:
    """Reads texts, and trains a tokenizer on them where there is none.

    Args:
        recipe: A recipe with the keys of a masked language model.
        tokenizer: The preset's; `None` of a new model.
        folder: Where token stores are kept.
        notify: Called with what is being done.

    Raises:
        DataError: If a file is missing, broken or holds no text.
        RecipeError: If rows are too short for the special tokens.
    """
    data, seed = recipe.data, recipe.training.seed
    documents = {
        part: Documents(spec, split=part, text=data.text, on_bad_row=data.on_bad_row)
        for part in ("train", "validation", "test")
        if (spec := files_of(data, part)) is not None
    }
    share = 0.0 if "validation" in documents else data.validation_split
    stretches = {part: found.cut(0.0)[0] for part, found in documents.items()}
    stretches["train"], held_out = documents["train"].cut(share, seed)
    if held_out is not None:
        stretches["validation"] = held_out
    if tokenizer is None:
        notify("training the tokenizer")
        tokenizer = new_tokenizer(stretches["train"].texts(), data.vocabulary_size, data.lowercase)
    stores = {
        part: open_tokens(stretch, tokenizer, folder, notify) for part, stretch in stretches.items()
    }
    sentence_task = None if recipe.model.sentence_task == "none" else recipe.model.sentence_task
    settings = {
        "joined": data.join_documents,
        "masking": Masking(data.masking, data.mask_rate, data.mask_share, data.random_share),
        "sentence_task": sentence_task,
    }
    if data.max_length < special_tokens_of(tokenizer, sentence_task) + 2:
        raise RecipeError(
            f"A row of {data.max_length} tokens has room for special tokens only",
            where="data.max_length",
            fix="raise data.max_length",
        )
    vocabulary = Vocabulary.of(tokenizer.of_keras_hub)
    parts = {
        part: cut_rows(stores[part], tokenizer, vocabulary, data.max_length, **settings)
        for part in ("train", "validation", "test")
        if part in stores
    }
    return MaskedData(
        tokenizer,
        parts,
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        column=documents["train"].text_column,
        remarks=unlike_parts({part: store.lengths for part, store in stores.items()}, "text"),
        held_out="a sample" if isinstance(held_out, Sample) else "the end",
    )


def new_tokenizer(texts, vocabulary_size: int, lowercase: bool) -> Tokenizer:
    """Trains the tokenizer of a new BERT.

    Args:
        texts: The texts.
        vocabulary_size: The maximum number of tokens.
        lowercase: Whether texts are lower-cased and lose their accents.
    """
    vocabulary = train_word_piece(texts, vocabulary_size, lowercase=lowercase)
    of_keras_hub = keras_hub.models.BertTokenizer(
        vocabulary=vocabulary, lowercase=lowercase, strip_accents=lowercase
    )
    tokenizer = from_keras_hub(of_keras_hub)
    tokenizer.of_keras_hub = of_keras_hub
    return tokenizer
