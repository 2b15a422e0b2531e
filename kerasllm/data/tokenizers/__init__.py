"""Tokenizers that read texts in bulk and give the reference's ids."""

from kerasllm.data.tokenizers.byte_level_bpe import ByteLevelBPE
from kerasllm.data.tokenizers.from_keras_hub import from_keras_hub
from kerasllm.data.tokenizers.keras_hub_tokenizer import KerasHubTokenizer
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.word_piece import WordPiece

__all__ = ["ByteLevelBPE", "KerasHubTokenizer", "Tokenizer", "WordPiece", "from_keras_hub"]
