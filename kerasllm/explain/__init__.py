"""Which words a prediction depends on: attributions that are checked."""

from kerasllm.explain.explanation import Explanation, Faithfulness, Word

__all__ = ["Explanation", "Faithfulness", "Word"]
