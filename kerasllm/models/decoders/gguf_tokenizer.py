"""The parts of the tokenizer that a GGUF file holds, as they are in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerasllm.errors import PresetError
from kerasllm.models.decoders.gguf_container import open_gguf

# Where the key is missing, llama.cpp adds a start token for these all the same.
_STARTS = ("llama3", "llama-v3", "llama-bpe", "tekken")


@dataclass(frozen=True)
class GGUFTokenizer:
    """A tokenizer, in the words of GGUF.

    Attributes:
        model: The kind: `"gpt2"` is byte-level BPE, `"llama"` is SentencePiece.
        pre: The name of the rules that split a text before BPE; `None`: the file does not say.
        tokens: The vocabulary, by id.
        token_types: For each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
            6 byte.
        merges: Pairs of BPE with a space between them; `None`: there are none.
        scores: SentencePiece's scores; `None`: there are none.
        bos_id: Id of the start token, `None` if there is none.
        eos_id: Id of the end token, `None` if there is none.
        unk_id: Id of the token for the unknown, `None` if there is none.
        pad_id: Id of the padding, `None` if there is none.
        add_bos: Whether texts begin with the start token.
        add_eos: Whether texts end with the end token.
        add_space_prefix: Whether SentencePiece puts a space before a text.
        chat_template: A Jinja template, `None` if there is none.
    """

    model: str
    pre: str | None
    tokens: list[str]
    token_types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str | None


def read_tokenizer(path: str | Path) -> GGUFTokenizer:
    """Reads the tokenizer's parts of a GGUF file.

    Args:
        path: The file.

    Raises:
        PresetError: The file is not GGUF, is truncated, or has no usable vocabulary.
    """
    path = Path(path)
    value = open_gguf(path).metadata.get
    model, tokens = value("tokenizer.ggml.model"), value("tokenizer.ggml.tokens")
    if not isinstance(model, str) or not isinstance(tokens, list) or not tokens:
        raise PresetError(
            f"{path.name} has no tokenizer in it",
            where=f"{path}: tokenizer.ggml.tokens",
            fix="use a file that contains the tokenizer",
        )
    types = value("tokenizer.ggml.token_type", [1] * len(tokens))
    scores, merges = value("tokenizer.ggml.scores"), value("tokenizer.ggml.merges")
    for key, listed in (("token_type", types), ("scores", scores), ("merges", merges)):
        short = key != "merges" and isinstance(listed, list) and len(listed) != len(tokens)
        if listed is not None and (not isinstance(listed, list) or short):
            count = len(listed) if isinstance(listed, list) else "no list of"
            _refuse(path, key, f"has {count} entries for {len(tokens)} tokens")
    ids = {}
    for name in ("bos", "eos", "unknown", "padding"):
        ids[name] = number = value(f"tokenizer.ggml.{name}_token_id")
        if number is not None and not (isinstance(number, int) and 0 <= number < len(tokens)):
            _refuse(path, f"{name}_token_id", f"is {number!r}, but there are {len(tokens)} tokens")
    pre = value("tokenizer.ggml.pre")
    starts = ids["bos"] is not None and (model == "llama" or pre in _STARTS)
    return GGUFTokenizer(
        model=model,
        pre=pre,
        tokens=tokens,
        token_types=types,
        merges=merges,
        scores=scores,
        bos_id=ids["bos"],
        eos_id=ids["eos"],
        unk_id=ids["unknown"],
        pad_id=ids["padding"],
        add_bos=bool(value("tokenizer.ggml.add_bos_token", starts)),
        add_eos=bool(value("tokenizer.ggml.add_eos_token", False)),
        add_space_prefix=bool(value("tokenizer.ggml.add_space_prefix", model == "llama")),
        chat_template=value("tokenizer.chat_template"),
    )


def _refuse(path: Path, key: str, what: str) -> None:
    raise PresetError(
        f"tokenizer.ggml.{key} {what}",
        where=f"{path}: tokenizer.ggml.{key}",
        fix="use another file",
    )
