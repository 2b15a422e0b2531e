"""Model builders, and the presets that give them weights and a tokenizer."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "TextClassifier": "text_classifier",
        "bert_classifier": "text_classifier",
        "load_tokenizer": "bert",
    },
)
