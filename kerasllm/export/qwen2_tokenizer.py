"""Whether transformers will give a Qwen 2 the ids that the model was trained with.

transformers 5 leaves aside the rules in the `tokenizer.json` of every model of the type `qwen2`,
and makes Qwen's own tokenizer of its vocabulary and merges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import PresetError

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_RULES = {
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": _SPLIT},
                "behavior": "Isolated",
                "invert": False,
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        ],
    },
}
# Where rules for words differ: case, digits, spaces, line ends, accents apart, other scripts.
_PROBES = (
    "It's 1234.50 € -- I'LL\r\n\r\n  go,  naïve cafe\u0301!\t",
    "\n\n  def f(x):\n    return x ** 2  # 中文 テスト ﬁ ½\n",
)


def check_qwen2_tokenizer(tokenizer: TokenizerJson, texts: Sequence[str]) -> None:
    """Compares the ids of texts with those that transformers will give.

    Args:
        tokenizer: The tokenizer of a Qwen 2.
        texts: Real texts.

    Raises:
        PresetError: They differ, or it is a tokenizer of another kind.
    """
    content = json.loads(tokenizer.content)
    same = content["model"]["type"] == "BPE"
    if same:
        theirs = TokenizerJson(json.dumps({**content, **_RULES}, ensure_ascii=False))
        same = all(
            tokenizer.encode_whole(text) == theirs.encode_whole(text) for text in (*_PROBES, *texts)
        )
    if not same:
        raise PresetError(
            "transformers reads every model of the type qwen2 with Qwen's word splitting, but this "
            "model's tokenizer splits differently"
        )
