"""Recipes: the schema, the YAML files, settings over them, and what is refused.

What all tasks share is here; the rest of a recipe's schema stands in the file of its task. Nothing
here imports TensorFlow, so that a mistake in a recipe is told at once.
"""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("load", "older_settings", "schema_of", "together", "validate"), "loader"),
        **dict.fromkeys(("names", "path_of"), "files"),
        "WholeRecipe": "schema",
        "Lora": "lora",
        "EarlyStopping": "training",
        "Training": "training",
    },
)
