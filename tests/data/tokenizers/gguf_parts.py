"""The tokenizers of the toy GGUF files in tests/reference/chat/gguf.json."""

import json
from pathlib import Path
from types import SimpleNamespace

REFERENCE = Path(__file__).parents[2] / "reference" / "chat"


def gguf_parts(made_as: str, **changes) -> SimpleNamespace:
    """Returns the parts of one kind, with texts and the reference's ids."""
    every = json.loads((REFERENCE / "gguf.json").read_text(encoding="utf-8"))
    parts = next(one for one in every if one["model"] == made_as)
    return SimpleNamespace(**{**parts, **changes})
