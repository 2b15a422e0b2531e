"""A tokenizer that is a `tokenizer.json`: what causal language models come with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers

from kerasllm.data.tokenizers.literal_tokens import LiteralTokens
from kerasllm.data.tokenizers.pairs import PairTemplate, leading_ids
from kerasllm.data.tokenizers.spans import engine_spans, trims_of
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.word_cache import BulkEngine
from kerasllm.errors import PresetError
from kerasllm.json_files import parse_json

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
GENERATION_FILE = "generation_config.json"


class TokenizerJson(Tokenizer):
    """Hugging Face's `tokenizers` on the content of a `tokenizer.json`.

    The file says how texts become ids. Its truncation and its padding are left aside: they are the
    caller's. Of its post-processor three things count:

    - `start_token` is all that `encode` puts before a text, and nothing is put after it;
    - pairs follow its template for two texts, if the one for a single text starts as `encode` does;
      without a template, one text follows the other after `start_token`;
    - `encode_offsets` and `encode_pairs` leave spaces out of spans if it says `trim_offsets`.

    Special tokens are recognised where they are written in a text, as in the reference.

    Args:
        content: The content of a `tokenizer.json`.
        start_token: The token that `encode` puts before each text. Defaults to `None`: none.
        end_token: The token that ends a text, which `encode` does not add. Defaults to `None`.
        pad_token: The padding token. Defaults to `None`: `end_token`, or id 0.
        stop_tokens: More tokens at which generation stops. Defaults to `()`.
        named_tokens: More tokens that have a name (`{"bos_token": "<s>"}`): chat templates
            may ask for them. Defaults to `None`.
        where: The place to name in errors. Defaults to `None`.

    Attributes:
        content: As given.
        start_token_id: The id of `start_token`, or `None`.
        end_of_text_id: The id of `end_token`, or `None`.
        pad_token_id: The padding id.
        stop_token_ids: Ids at which generation stops, `end_of_text_id` first.
        special_token_ids: The ids of all special tokens, a `frozenset`.
        special_tokens: The ids of special tokens by the tokens, those of spaces alone left out.
        added_tokens: The tokens that a text is split at before all else, special or not.
        named_tokens: Name to token, of all that have one: `bos_token`, `eos_token`, `pad_token`...
        vocabulary_size: The number of rows that an embedding needs: the largest id and one.

    Raises:
        PresetError: If the content cannot be read, or a token that is named is not in it.

    Example:

    ```python
    tokenizer = TokenizerJson(Path("model/tokenizer.json").read_text(), end_token="<|im_end|>")
    tokenizer.decode(tokenizer.encode_whole("Call me Ishmael."))  # "Call me Ishmael."
    ```
    """

    def __init__(
        self,
        content: str,
        *,
        start_token: str | None = None,
        end_token: str | None = None,
        pad_token: str | None = None,
        stop_tokens: Iterable[str] = (),
        named_tokens: Mapping[str, str] | None = None,
        where: str | None = None,
    ):
        self.content = content
        self._engine_content = _without_framing(content, where)
        self._engine = _engine(self._engine_content, where)
        self._bulk = BulkEngine(self._engine)
        # A second engine, made on first use: the setting is one for all threads.
        self._literal_engine: tokenizers.Tokenizer | None = None
        self._where = where
        pad_token = pad_token if pad_token is not None else end_token
        names = {"bos_token": start_token, "eos_token": end_token, "pad_token": pad_token}
        named = {**names, **(named_tokens or {})}
        self.named_tokens = {name: token for name, token in named.items() if token is not None}
        self.start_token = start_token
        self.end_token = end_token
        self.pad_token = pad_token
        self.end_of_text_id = self._named_id("end_token", end_token)
        stops = [self._named_id("stop token", token) for token in stop_tokens]
        if self.end_of_text_id is not None:
            stops.insert(0, self.end_of_text_id)
        self.stop_token_ids = tuple(dict.fromkeys(stops))
        added = self._engine.get_added_tokens_decoder()
        self.added_tokens = tuple(token.content for token in added.values())
        self.special_token_ids = frozenset(id for id, token in added.items() if token.special)
        self.special_tokens = {
            token.content: id
            for id, token in added.items()
            if token.special and not token.content.isspace()
        }
        self.vocabulary_size = max(self._engine.get_vocab().values(), default=-1) + 1
        processor = json.loads(content).get("post_processor")
        start_token_id = self._named_id("start_token", start_token)
        template = None
        if leading_ids(processor) == (() if start_token_id is None else (start_token_id,)):
            template = PairTemplate.from_post_processor(processor)
        self._trims = trims_of(processor)
        framing = [trim.__getstate__().decode() for trim in self._trims]
        if template not in (None, PairTemplate.plain(start_token_id, None)):
            framing.append(template.pieces)
        super().__init__(
            start_token_id=start_token_id,
            end_token_id=None,
            pad_token_id=self._named_id("pad_token", pad_token) or 0,
            description=f"{_kind(content)}, {self.vocabulary_size:,} tokens",
            identity=[self._engine_content, framing] if framing else self._engine_content,
            pair_template=template,
            # The library runs on all cores by itself.
            threads=1,
        )

    def encode_whole(self, text: str, *, special: bool = True) -> list[int]:
        """Returns the ids of a text, with nothing before or after it and nothing cut.

        Args:
            text: The text.
            special: Whether special tokens that are written in the text are recognised, as in
                the text that a chat template gave; if not, they are read as plain letters, as in
                what a stranger wrote. Defaults to `True`.
        """
        if special:
            return self._engine.encode(text, add_special_tokens=False).ids
        if self._literal_engine is None:
            self._literal_engine = _engine(self._engine_content, self._where)
            self._literal_engine.encode_special_tokens = True
        return self._literal_engine.encode(text, add_special_tokens=False).ids

    @cached_property
    def literal_tokens(self) -> LiteralTokens:
        """Encodes texts in which some special tokens are letters."""
        return LiteralTokens(self._engine_content, self.special_tokens)

    def encode_spans(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of a text and the characters that each stands for.

        Args:
            text: The text; special tokens in it are recognised. See `literal_tokens` for others.

        Returns:
            The ids, int32 `[tokens]`, and where each token's characters start and end in `text`,
            int64 `[tokens, 2]`. The tokens of a character that takes several have the same span.
            Spaces belong to the token that they became part of, regardless of `trim_offsets`.
        """
        ids, spans, _ = engine_spans(self._engine, [text])
        return ids, spans.astype(np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray, *, skip_special: bool = True) -> str:
        """Returns the text of ids.

        Args:
            ids: Token ids.
            skip_special: Whether special tokens are left out. Defaults to `True`.
        """
        return self._engine.decode([int(id) for id in ids], skip_special_tokens=skip_special)

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it, or `None`."""
        return self._engine.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """The token of an id as the vocabulary writes it, or `None`."""
        return self._engine.id_to_token(int(id))

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer so that `from_folder` and transformers' `AutoTokenizer` read it.

        Args:
            folder: Where `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`
                (which holds the stop tokens) are written.
        """
        folder = Path(folder)
        written = json.loads(self._engine_content)
        # It is what tells both transformers and `from_folder` of the start token.
        written["post_processor"] = self._post_processor()
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.named_tokens,
        }
        generation = {"eos_token_id": list(self.stop_token_ids), "pad_token_id": self.pad_token_id}
        _write_json(folder / TOKENIZER_FILE, written)
        _write_json(folder / CONFIG_FILE, settings, indent=2)
        _write_json(folder / GENERATION_FILE, generation, indent=2)

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self._bulk.ids(texts)

    def _tokenize_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return engine_spans(self._engine, texts, self._trims)

    def _named_id(self, name: str, token: str | None) -> int | None:
        if token is None:
            return None
        found = self._engine.token_to_id(token)
        if found is None:
            raise PresetError(
                f"The {name} {token!r} is not in the vocabulary",
                where=self._where,
                fix="use the tokenizer that belongs to the model, or name a token that it has",
            )
        return found

    def _post_processor(self) -> dict | None:
        """The post-processor for transformers: special tokens before a text and around a pair."""
        steps = [json.loads(trim.__getstate__()) for trim in self._trims]
        template = self.pair_template
        if self.start_token is not None or template != PairTemplate.plain(None, None):
            pieces = {"A": ("Sequence", "A"), "B": ("Sequence", "B")}
            special = [piece for piece, _ in template.pieces if piece not in pieces]
            tokens = {id: self.id_to_token(id) for id in {self.start_token_id, *special} - {None}}
            pieces.update((id, ("SpecialToken", token)) for id, token in tokens.items())

            def part(piece: int | str, segment: int) -> dict:
                kind, name = pieces[piece]
                return {kind: {"id": name, "type_id": segment}}

            single = [piece for piece in (self.start_token_id, "A") if piece is not None]
            steps.append(
                {
                    "type": "TemplateProcessing",
                    "single": [part(piece, 0) for piece in single],
                    "pair": [part(*piece) for piece in template.pieces],
                    "special_tokens": {
                        token: {"id": token, "ids": [id], "tokens": [token]}
                        for id, token in tokens.items()
                    },
                }
            )
        if len(steps) > 1:
            return {"type": "Sequence", "processors": steps}
        return steps[0] if steps else None


def check_fits(tokenizer: TokenizerJson, rows: int) -> None:
    """Refuses a vocabulary with ids for which a model has no weights.

    Args:
        tokenizer: The tokenizer.
        rows: The number of rows of the model's token embedding.

    Raises:
        PresetError: If an id is not below `rows`.
    """
    if tokenizer.vocabulary_size > rows:
        last = tokenizer.vocabulary_size - 1
        raise PresetError(
            f"The tokenizer has ids up to {last} ({tokenizer.id_to_token(last)!r}), and the "
            f"model embeddings for {rows:,} tokens",
            fix="take the tokenizer and the weights from the same model",
        )


def _without_framing(content: str, where: str | None) -> str:
    try:
        parts = parse_json(content)
        parts.update(truncation=None, padding=None, post_processor=None)
    except (ValueError, AttributeError) as error:
        raise PresetError(
            f"The tokenizer is not a JSON object: {error}",
            where=where,
            fix="download tokenizer.json again",
        ) from error
    return json.dumps(parts, ensure_ascii=False)


def _engine(content: str, where: str | None) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # tokenizers has no exception class of its own
        raise PresetError(
            f"The tokenizer cannot be read: {error}",
            where=where,
            fix="download tokenizer.json again, or use a newer `tokenizers`",
        ) from error


def _kind(content: str) -> str:
    model = json.loads(content).get("model", {})
    kind = model.get("type", "tokenizer.json")
    if kind != "BPE":
        return kind
    return "BPE with byte fallback" if model.get("byte_fallback") else "byte-level BPE"


def _write_json(path: Path, value: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
