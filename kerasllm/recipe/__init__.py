"""Recipes: the schema, the YAML files, settings over them, and what is refused.

What all tasks share is here; the rest of a recipe's schema stands in the file of its task. Nothing
here imports TensorFlow, so that a mistake in a recipe is told at once.
"""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.recipe.files import names as names
    from kerasllm.recipe.files import path_of as path_of
    from kerasllm.recipe.loader import load as load
    from kerasllm.recipe.loader import older_settings as older_settings
    from kerasllm.recipe.loader import refuse_missing_data as refuse_missing_data
    from kerasllm.recipe.loader import schema_of as schema_of
    from kerasllm.recipe.loader import validate as validate
    from kerasllm.recipe.lora import Lora as Lora
    from kerasllm.recipe.schema import WholeRecipe as WholeRecipe
    from kerasllm.recipe.schema import together as together
    from kerasllm.recipe.training import EarlyStopping as EarlyStopping
    from kerasllm.recipe.training import Training as Training

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("load", "older_settings", "refuse_missing_data"), "loader"),
        **dict.fromkeys(("schema_of", "validate"), "loader"),
        **dict.fromkeys(("names", "path_of"), "files"),
        **dict.fromkeys(("WholeRecipe", "together"), "schema"),
        "Lora": "lora",
        "EarlyStopping": "training",
        "Training": "training",
    },
)
