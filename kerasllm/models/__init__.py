"""Model builders, and the presets that give them weights and a tokenizer."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "CausalLM": "causal_lm",
        "TextClassifier": "text_classifier",
        "bert_classifier": "new_classifier",
        "gpt_causal_lm": "decoder",
        "load_causal_lm": "decoder",
        "load_tokenizer": "encoder",
    },
)
