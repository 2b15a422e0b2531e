"""The page of the docstrings of public names; mkdocstrings writes them."""

from __future__ import annotations

# What all models have, and what else a class is for. The rest of a class is for kerasllm's own fit.
_MODEL = ("from_preset", "compile", "fit", "evaluate", "predict", "save_to_preset", "export")
MEMBERS: dict[str, tuple[str, ...] | None] = {
    "finetune": None,
    "load": None,
    "TrainedModel": None,
    "Dataset": None,
    "TextClassifier": (*_MODEL, "labels", "classify"),
    "TokenClassifier": (*_MODEL, "labels", "tag"),
    "AnswerModel": (*_MODEL, "answer"),
    "Seq2SeqLM": (*_MODEL, "generate"),
    "MaskedLM": (*_MODEL, "fill"),
    "CausalLM": (*_MODEL, "generate", "log_likelihood"),
    "FineTunedModel": ("compile", "fit", "evaluate", "predict", "export"),
    "bert_classifier": None,
    "gpt_causal_lm": None,
    "distribution.strategy": None,
    "errors": (
        *("KerasllmError", "CommandError", "RecipeError", "DataError", "PresetError"),
        *("SignatureError", "StorageError", "RunError", "JobError", "Interrupted"),
    ),
}
"""The names in the order of the page, and the members that are shown; `None`: all public ones."""


def pages() -> dict[str, str]:
    """Returns the page by its name on the site."""
    text = ["# Python reference", "", "How they work together: [the Python API](python_api.md)."]
    for name, members in MEMBERS.items():
        text += ["", f"::: kerasllm.{name}"]
        if members:
            text += ["    options:", f"      members: [{', '.join(members)}]"]
            text += ["      inherited_members: true"]
    return {"python_reference.md": "\n".join(text) + "\n"}
