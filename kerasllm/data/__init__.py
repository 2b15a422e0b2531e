"""From files to batches: sources, tokenizers, the token store, the batch plan, tf.data."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "EpochPlans": "batch_plan",
        "Source": "sources",
        "bucket_boundaries": "batch_plan",
        "plan_batches": "batch_plan",
        "prediction_dataset": "pipeline",
        "training_dataset": "pipeline",
    },
)
