"""Model builders, and presets with their weights and tokenizers."""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.models.causal_lm import CausalLM as CausalLM
    from kerasllm.models.decoder import gpt_causal_lm as gpt_causal_lm
    from kerasllm.models.decoder import load_causal_lm as load_causal_lm
    from kerasllm.models.encoder import load_tokenizer as load_tokenizer
    from kerasllm.models.new_classifier import bert_classifier as bert_classifier
    from kerasllm.models.text_classifier import TextClassifier as TextClassifier

__getattr__, __dir__, __all__ = lazy_names(
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
