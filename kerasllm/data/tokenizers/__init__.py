"""Tokenizers that read texts in bulk and give the reference's ids."""

from kerasllm.data.tokenizers.byte_level import train_byte_level_bpe
from kerasllm.data.tokenizers.byte_level_bpe import ByteLevelBPE
from kerasllm.data.tokenizers.decoder_of_keras_hub import decoder_of_keras_hub
from kerasllm.data.tokenizers.encoding import Encoding
from kerasllm.data.tokenizers.from_folder import from_folder, has_tokenizer
from kerasllm.data.tokenizers.from_gguf import from_gguf
from kerasllm.data.tokenizers.from_keras_hub import from_keras_hub
from kerasllm.data.tokenizers.keras_hub_tokenizer import KerasHubTokenizer
from kerasllm.data.tokenizers.pairs import PairTemplate
from kerasllm.data.tokenizers.stream_decoder import StreamDecoder
from kerasllm.data.tokenizers.to_huggingface import save_huggingface_tokenizer
from kerasllm.data.tokenizers.to_keras_hub import to_keras_hub
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson, check_fits
from kerasllm.data.tokenizers.word_piece import WordPiece

__all__ = [
    "ByteLevelBPE",
    "Encoding",
    "KerasHubTokenizer",
    "PairTemplate",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerJson",
    "WordPiece",
    "check_fits",
    "decoder_of_keras_hub",
    "from_folder",
    "from_gguf",
    "from_keras_hub",
    "has_tokenizer",
    "save_huggingface_tokenizer",
    "to_keras_hub",
    "train_byte_level_bpe",
]
