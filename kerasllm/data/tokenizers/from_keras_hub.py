"""From the tokenizer of a KerasHub preset to the one that reads texts in bulk."""

from __future__ import annotations

import keras_hub

from kerasllm.data.tokenizers.byte_level_bpe import ByteLevelBPE
from kerasllm.data.tokenizers.keras_hub_tokenizer import KerasHubTokenizer
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.word_piece import WordPiece
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers

# By name and not by inheritance: other subclasses of these (ESM, CLIP, Llama 3...) split text by
# rules of their own.
_WORD_PIECE = (_hub.BertTokenizer, _hub.DistilBertTokenizer, _hub.ElectraTokenizer)
_BYTE_LEVEL_BPE = (
    _hub.BytePairTokenizer,
    _hub.RobertaTokenizer,
    _hub.BartTokenizer,
    _hub.GPT2Tokenizer,
)


def from_keras_hub(tokenizer: keras_hub.tokenizers.Tokenizer) -> Tokenizer:
    """Returns the tokenizer that does a KerasHub tokenizer's work in bulk.

    BERT, DistilBERT and ELECTRA become `WordPiece`, RoBERTa, BART and GPT-2 become
    `ByteLevelBPE`; their ids are those of Hugging Face `tokenizers` for the same vocabulary, also
    where KerasHub's differ. All others become `KerasHubTokenizer`.

    KerasHub's settings hold, with one exception: special tokens are recognized where they are
    written in a text, as the reference does, regardless of `special_tokens_in_strings`. Note that
    a lower-casing tokenizer of the reference removes accents unless it is told otherwise, and one
    of KerasHub keeps them: `strip_accents` must be set.

    Args:
        tokenizer: A tokenizer with its vocabulary.

    Raises:
        PresetError: If the tokenizer has no vocabulary, or a setting that cannot be honoured.

    Example:

    ```python
    hub_tokenizer = keras_hub.tokenizers.BertTokenizer.from_preset("bert_base_en_uncased")
    ids, offsets = from_keras_hub(hub_tokenizer).encode(["a good film"], max_length=128)
    ```
    """
    if type(tokenizer) in _WORD_PIECE:
        return _word_piece(tokenizer)
    if type(tokenizer) in _BYTE_LEVEL_BPE:
        return _byte_level_bpe(tokenizer)
    return KerasHubTokenizer(tokenizer)


def _word_piece(tokenizer: keras_hub.tokenizers.WordPieceTokenizer) -> WordPiece:
    _refuse_empty(tokenizer)
    if not tokenizer.split:
        raise PresetError(
            f"{type(tokenizer).__name__} has split=False: it expects words and not texts",
            fix="make the tokenizer with split=True",
        )
    return WordPiece(
        tokenizer.get_vocabulary(),
        tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        split_on_cjk=tokenizer.split_on_cjk,
        suffix_indicator=tokenizer.suffix_indicator,
        unknown_token=tokenizer.oov_token,
        start_token=tokenizer.cls_token,
        end_token=tokenizer.sep_token,
        pad_token=tokenizer.pad_token,
        mask_token=tokenizer.mask_token,
        special_tokens=tokenizer.get_config()["special_tokens"] or (),
    )


def _byte_level_bpe(tokenizer: keras_hub.tokenizers.BytePairTokenizer) -> ByteLevelBPE:
    _refuse_empty(tokenizer)
    special = list(tokenizer.unsplittable_tokens or ())
    # The reference knows it as a special token; KerasHub does not list it.
    if "<unk>" in tokenizer.vocabulary:
        special.append("<unk>")
    return ByteLevelBPE(
        tokenizer.vocabulary,
        tokenizer.merges,
        start_token=getattr(tokenizer, "start_token", None),
        end_token=getattr(tokenizer, "end_token", None),
        pad_token=getattr(tokenizer, "pad_token", None),
        mask_token=getattr(tokenizer, "mask_token", None),
        special_tokens=special,
        add_prefix_space=tokenizer.add_prefix_space,
    )


def _refuse_empty(tokenizer: keras_hub.tokenizers.Tokenizer) -> None:
    if tokenizer.vocabulary is None:
        raise PresetError(
            f"{type(tokenizer).__name__} has no vocabulary",
            fix="load it from a preset, or give it a vocabulary",
        )
