"""From files to batches: sources, tokenizers, the token store, the batch plan, tf.data."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "ArraySpec": "rows",
        "Documents": "documents",
        "EpochPlans": "batch_plan",
        "Rows": "rows",
        "Source": "readers.sources",
        "bucket_boundaries": "batch_plan",
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
