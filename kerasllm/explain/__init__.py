"""Which words of a text moved what a model computes of it: attributions that are checked."""

from kerasllm.explain.explanation import Explanation, Faithfulness, Word

__all__ = ["Explanation", "Faithfulness", "Word"]
