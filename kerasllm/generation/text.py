"""Generates text from prompts: tokens in and out, stop texts, and streaming."""

from __future__ import annotations

import dataclasses
import difflib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasllm.data.chat.messages import BadRow, to_answer, without_mark
from kerasllm.errors import DataError
from kerasllm.generation.generator import Generator
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text_stream import TextPieces, first_stop


@dataclass(frozen=True)
class Text:
    """The text generated for a prompt.

    Attributes:
        text: The text, without the stop text that ended it.
        tokens: Its tokens.
        finish_reason: `"stop"`: a stop token or text came; `"length"`: the maximum number of new
            tokens came.
    """

    text: str
    tokens: list[int]
    finish_reason: str


class TextGenerator:
    """Generates texts with a causal language model.

    Args:
        model: A `kerasllm.models.causal_lm.CausalLM`, or anything that has its `task` and
            `tokenizer`.
        settings: How.
        batch_size: Prompts per batch. Defaults to `8`.

    Attributes:
        settings: As given; may be set.
        generator: What computes the tokens.
        tokenizer: The model's.

    Example:

    ```python
    generator = TextGenerator(model, GenerationSettings(max_new_tokens=20, top_p=0.9))
    generator.generate([generator.encode("Call me")])[0].text
    ```
    """

    def __init__(self, model, settings: GenerationSettings, *, batch_size: int = 8):
        self.settings = settings
        longest = getattr(model, "max_length", None)
        self.generator = Generator(model.task, batch_size=batch_size, longest=longest)
        self.tokenizer = model.tokenizer
        self._template = getattr(model, "chat_template", None)
        self._conversational = getattr(model, "conversational", False)

    @property
    def has_chat_template(self) -> bool:
        """Whether `encode_chat` works."""
        return self._template is not None

    @property
    def chats(self) -> bool:
        """Whether a prompt is a user's message, as the model was tuned on conversations."""
        return self._conversational and self.has_chat_template

    def encode(self, prompt: str) -> list[int]:
        """Returns the tokens of a prompt, after the start token if the tokenizer has one.

        A byte-order mark at its beginning is of the file that it comes from, and is left out.
        """
        ids = self.tokenizer.encode_whole(without_mark(prompt))
        start = self.tokenizer.start_token_id
        return ids if start is None else [start, *ids]

    def encode_chat(self, messages: Sequence[dict]) -> list[int]:
        """Returns the tokens of a conversation, up to where the assistant's answer begins.

        Args:
            messages: `{"role": ..., "content": ...}`; the last one is not the assistant's.
        """
        text = self._template.render(messages, add_generation_prompt=True)
        return self.tokenizer.encode_whole(text)

    def generate(self, prompts: Sequence[Sequence[int]], *, chat: bool = False) -> list[Text]:
        """Generates what follows each prompt.

        Args:
            prompts: Tokens, of `encode` or `encode_chat`.
            chat: Whether what ends an answer in the chat template ends a text. Defaults to `False`.
        """
        settings = self.settings_of(self.settings, chat=chat)

        def ends(tokens: list[int]) -> bool:
            return first_stop(self.tokenizer.decode(tokens), settings.stop) is not None

        made = self.generator.generate(prompts, settings, ends=ends if settings.stop else None)
        return [self._text(each, settings.stop) for each in made]

    def stream(self, prompt: Sequence[int], *, chat: bool = False) -> Iterator[str]:
        """Generates text for one prompt and yields it in chunks, as it is computed.

        Args:
            prompt: Tokens, of `encode` or `encode_chat`.
            chat: As in `generate`.
        """
        settings = self.settings_of(self.settings, chat=chat)
        pieces = TextPieces(self.tokenizer, settings)
        for token in self.generator.stream(prompt, settings):
            yield pieces.step(token)
            if pieces.stopped:
                break
        yield pieces.finish()

    def settings_of(self, settings: GenerationSettings, *, chat: bool) -> GenerationSettings:
        """Returns settings with everything that ends a text.

        Args:
            settings: As asked for.
            chat: Whether what ends an answer in the chat template ends a text.
        """
        tokenizer = self.tokenizer
        stops = settings.stop_token_ids
        tokens = list(tokenizer.stop_token_ids if stops is None else stops)
        texts = list(settings.stop)
        for text in self._template.stop if chat and self._template else ():
            id = tokenizer.token_to_id(text)
            texts.append(text) if id is None else tokens.append(id)
        unique = tuple(dict.fromkeys(tokens))
        return dataclasses.replace(settings, stop=tuple(texts), stop_token_ids=unique)

    def _text(self, made, stop: tuple[str, ...]) -> Text:
        text, tokens, reason = self.tokenizer.decode(made.tokens), made.tokens, made.finish_reason
        end = first_stop(text, stop)
        if end is not None:
            # The tokens after the stop text were computed in the same batch of steps.
            while first_stop(self.tokenizer.decode(tokens[:-1]), stop) is not None:
                tokens = tokens[:-1]
            text, reason = text[:end], "stop"
        return Text(text, tokens, reason)


_generators: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def generate_text(model, prompts: Sequence[str], settings: GenerationSettings) -> list[str]:
    """Generates text for each prompt with the current weights of a model, such as during training.

    What was compiled for a model is kept for the next call; its weights are read again.

    Args:
        model: A `kerasllm.models.causal_lm.CausalLM`.
        prompts: Texts.
        settings: How.

    Returns:
        One text for each prompt, without the prompt.
    """
    generator = _generator_of(model, settings)
    return [made.text for made in generator.generate([generator.encode(p) for p in prompts])]


def generate_for_model(
    model,
    inputs: Any,
    *,
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    strip_prompt: bool = False,
    **options: Any,
) -> str | list[str]:
    """Generates texts; see `kerasllm.models.causal_lm.CausalLM.generate`."""
    known = {field.name for field in dataclasses.fields(GenerationSettings)}
    if strangers := sorted(set(options) - known):
        near = difflib.get_close_matches(strangers[0], known, n=1)
        raise TypeError(
            f"generate() has no setting {strangers[0]!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}")
        )
    if max_length is not None and max_new_tokens is not None:
        raise ValueError("`max_length` counts the prompt as well: give it or `max_new_tokens`.")
    inputs = inputs.tolist() if hasattr(inputs, "tolist") else inputs
    alone = isinstance(inputs, str) or (bool(inputs) and isinstance(inputs[0], Mapping))
    prompts = [inputs] if alone else list(inputs)
    chats = [not isinstance(prompt, str) for prompt in prompts]
    if any(chats) and not all(chats):
        raise ValueError("Give either texts or conversations, not both.")
    chat = bool(chats) and chats[0]
    settings = GenerationSettings(
        max_new_tokens=128 if max_new_tokens is None else max_new_tokens, **options
    )
    generator = _generator_of(model, settings)
    if chat and not generator.has_chat_template:
        raise DataError(
            "The model has no chat template, which conversations need",
            fix="give a text, or set model.chat_template",
        )
    if chat:
        tokens = [generator.encode_chat(_to_answer(n, each)) for n, each in enumerate(prompts)]
    else:
        tokens = [generator.encode(prompt) for prompt in prompts]
    texts = [""] * len(tokens)
    for room in sorted({_room(ids, max_length, settings) for ids in tokens}):
        chosen = [
            number for number, ids in enumerate(tokens) if _room(ids, max_length, settings) == room
        ]
        if room > 0:
            generator.settings = dataclasses.replace(settings, max_new_tokens=room)
            made = generator.generate([tokens[number] for number in chosen], chat=chat)
            for number, each in zip(chosen, made, strict=True):
                texts[number] = each.text
    if not chat and not strip_prompt:
        texts = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    return texts[0] if alone else texts


def _to_answer(number: int, messages: Any) -> list[dict]:
    try:
        return to_answer(messages)
    except BadRow as error:
        raise DataError(f"Conversation {number} cannot be answered: {error}") from None


def _room(tokens: Sequence[int], max_length: int | None, settings: GenerationSettings) -> int:
    """Returns how many tokens may follow a prompt."""
    if max_length is None:
        return settings.max_new_tokens
    return max(max_length - len(tokens), 0)


def _generator_of(model, settings: GenerationSettings) -> TextGenerator:
    """Returns the generator that is kept for a model, with the weights as they are now."""
    generator = _generators.get(model)
    if generator is None:
        generator = _generators[model] = TextGenerator(model, settings)
    else:
        generator.generator.refresh()
    generator.settings = settings
    return generator
