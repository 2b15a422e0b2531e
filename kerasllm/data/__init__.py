"""From files to batches: sources, tokenizers, the token store, the batch plan, tf.data."""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.data.batch_plan import EpochPlans as EpochPlans
    from kerasllm.data.batch_plan import plan_batches as plan_batches
    from kerasllm.data.chat.conversations import open_conversations as open_conversations
    from kerasllm.data.documents import Documents as Documents
    from kerasllm.data.documents import open_documents as open_documents
    from kerasllm.data.length_batches import map_by_length as map_by_length
    from kerasllm.data.padded_lengths import bucket_boundaries as bucket_boundaries
    from kerasllm.data.pipeline import prediction_dataset as prediction_dataset
    from kerasllm.data.pipeline import training_dataset as training_dataset
    from kerasllm.data.readers.sources import Source as Source
    from kerasllm.data.rows import ArraySpec as ArraySpec
    from kerasllm.data.rows import Rows as Rows
    from kerasllm.data.rows import row_generator as row_generator
    from kerasllm.data.sequences import full_blocks as full_blocks
    from kerasllm.data.sequences import packed_rows as packed_rows
    from kerasllm.data.sequences import whole_rows as whole_rows
    from kerasllm.data.tokenizers import train_byte_level_bpe as train_byte_level_bpe

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ArraySpec": "rows",
        "Documents": "documents",
        "EpochPlans": "batch_plan",
        "Rows": "rows",
        "Source": "readers.sources",
        "bucket_boundaries": "padded_lengths",
        "full_blocks": "sequences",
        "map_by_length": "length_batches",
        "open_conversations": "chat.conversations",
        "open_documents": "documents",
        "packed_rows": "sequences",
        "plan_batches": "batch_plan",
        "prediction_dataset": "pipeline",
        "row_generator": "rows",
        "train_byte_level_bpe": "tokenizers",
        "training_dataset": "pipeline",
        "whole_rows": "sequences",
    },
)
