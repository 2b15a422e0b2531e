"""One tokenizer for source and target texts, trained on both."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from kerasllm.data.tokenizers.sentence_pieces import unigram_json_of_model
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson

BPE, UNIGRAM = "bpe", "unigram"

# As in BART and mBART, whose ids these are.
START, PAD, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
_SPECIAL = [START, PAD, END, UNKNOWN]
_BYTES = 256
_THREADS = 4


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, kind: str = BPE, *, min_frequency: int = 2
) -> TokenizerJson:
    """Trains a tokenizer of an encoder-decoder on source and target texts together.

    `<s>` starts a target, `</s>` ends both, `<pad>` pads; they have the first ids.

    Args:
        texts: The texts, of both sides.
        vocabulary_size: The number of tokens to end up with. Fewer come out of too little text.
        kind: `"bpe"`, on bytes: every text can be written and comes back as it was; or
            `"unigram"`, SentencePiece's on characters: texts are normalized (NFKC, single spaces),
            and a character that the training texts did not have becomes `<unk>`. Defaults to
            `"bpe"`.
        min_frequency: How often a pair must stand in the texts to be merged (`"bpe"`). Defaults to
            `2`.

    Raises:
        ValueError: If there is no such kind, or the vocabulary is too small for it.

    References:
        [Sennrich et al., 2016](https://arxiv.org/abs/1508.07909) (BPE),
        [Kudo, 2018](https://arxiv.org/abs/1804.10959) (unigram)

    Example:

    ```python
    tokenizer = train_tokenizer([*english, *german], 8000)
    ```
    """
    if kind not in (BPE, UNIGRAM):
        raise ValueError(f"`kind` must be {BPE!r} or {UNIGRAM!r}. Received: kind={kind!r}")
    least = len(_SPECIAL) + (_BYTES if kind == BPE else 1)
    if vocabulary_size < least:
        raise ValueError(
            f"A vocabulary of this kind has at least {least} tokens, {len(_SPECIAL)} of them "
            f"special. Received: vocabulary_size={vocabulary_size}"
        )
    content = (
        _byte_pairs(texts, vocabulary_size, min_frequency)
        if kind == BPE
        else _pieces(texts, vocabulary_size)
    )
    return TokenizerJson(
        content,
        end_token=END,
        pad_token=PAD,
        named_tokens={"bos_token": START, "unk_token": UNKNOWN},
    )


def _byte_pairs(texts: Iterable[str], vocabulary_size: int, min_frequency: int) -> str:
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_frequency,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return engine.to_str()


def _pieces(texts: Iterable[str], vocabulary_size: int) -> str:
    # Not by `tokenizers`, whose unigrams differ each time.
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            max_sentence_length=1 << 20,
            # Sums of floating-point numbers depend on it.
            num_threads=_THREADS,
            minloglevel=2,
            **{
                f"{name}_{part}": value
                for name, id, piece in zip(("bos", "pad", "eos", "unk"), range(4), _SPECIAL)
                for part, value in (("id", id), ("piece", piece))
            },
        )
    except RuntimeError as error:
        raise ValueError(
            f"No unigram vocabulary of {vocabulary_size} tokens can be made of these texts: {error}"
        ) from error
    return json.dumps(unigram_json_of_model(written.getvalue()), ensure_ascii=False)
