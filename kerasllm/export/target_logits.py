"""What an export of an encoder-decoder is compared by: the logits of a few tokens of each target.

The rows of an export are sources. So that no targets are needed, and each token counts that the
encoder, the attention to it and the decoder compute with, the decoder reads its start token and
then the first tokens of the source.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from kerasllm.export.run_transformers import TARGET_TOKENS
from kerasllm.models.encoder_decoder import EncoderDecoder

_ROWS_AT_ONCE = 8


def target_logits(model: EncoderDecoder, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Returns the logits of the first tokens after each source.

    Args:
        model: The model.
        texts: The sources, with the prefix that the model is used with.
        max_length: The maximum number of tokens of a source. Its last token, which ends it, stays
            the last.

    Returns:
        float32 `[tokens, vocabulary]`, the rows one after the other; see `run_transformers`.
    """
    sources = [
        row if len(row) <= max_length else [*row[: max_length - 1], row[-1]]
        for row in model.encode_source(texts)
    ]
    found = []
    for start in range(0, len(sources), _ROWS_AT_ONCE):
        some = sources[start : start + _ROWS_AT_ONCE]
        targets = [[model.start_token_id, *row[: TARGET_TOKENS - 1]] for row in some]
        source, source_mask = _padded(some, model.pad_token_id)
        target, target_mask = _padded(targets, model.pad_token_id)
        outputs = model.backbone(
            {
                "encoder_token_ids": source,
                "encoder_padding_mask": source_mask,
                "decoder_token_ids": target,
                "decoder_padding_mask": target_mask,
            },
            training=False,
        )
        logits = model.logits(outputs["decoder_sequence_output"])
        logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
        found += [row[: len(target)] for row, target in zip(logits, targets, strict=True)]
    return np.concatenate(found)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype("int32")
    ids = np.full(mask.shape, pad, "int32")
    ids[mask.astype(bool)] = np.concatenate([np.asarray(row, "int32") for row in rows])
    return ids, mask
