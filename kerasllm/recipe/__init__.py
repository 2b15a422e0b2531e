"""Recipes: the schema, the YAML files, settings over them, and what is refused.

Nothing here imports TensorFlow, so that a mistake in a recipe is told at once.
"""

from kerasllm._lazy import lazy_names

_NAMES = (
    *("SCHEMAS", "AnyRecipe", "CausalRecipe", "Data", "EarlyStopping", "Lora", "Model"),
    *("PreferenceRecipe", "Recipe", "Training", "load", "names", "path_of", "together"),
    "validate",
)

__getattr__ = lazy_names(__name__, dict.fromkeys(_NAMES, "loader"))
