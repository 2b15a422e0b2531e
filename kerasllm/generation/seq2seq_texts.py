"""Generates the targets of an encoder-decoder, from texts or from the token ids of sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kerasllm.errors import CommandError
from kerasllm.generation.encoder_decoder.generator import Seq2SeqGenerator
from kerasllm.generation.settings import GenerationSettings

if TYPE_CHECKING:
    from kerasllm.models.seq2seq_lm import Seq2SeqLM

# What generation_config.json of transformers calls the settings.
_THEIR_NAMES = {
    "num_beams": "beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_new_tokens",
    "min_new_tokens": "min_new_tokens",
}
_OUR_NAMES = ("max_length_ratio", "max_length_extra", "seed")
_SAMPLING = ("temperature", "top_k", "top_p")
# Sources that are written for at a time, where they come as a stream.
_TOGETHER = 256


class Written(NamedTuple):
    """A text that was written.

    Attributes:
        text: The text.
        tokens: How many tokens it has.
        finish_reason: `"stop"`, or `"length"` where it was cut off by the limit.
    """

    text: str
    tokens: int
    finish_reason: str


def settings_of(model: Seq2SeqLM, **given: Any) -> GenerationSettings:
    """Returns how a model writes: what its `generation` says, and what is given over it.

    Args:
        model: The model.
        **given: Of `GenerationSettings`; `None` is as not given.

    Raises:
        CommandError: If a setting is out of range, or there is no such setting.
    """
    generation = model.parts.generation
    found = {"max_new_tokens": model.max_target_length}
    # Those of transformers count the token that the decoder begins with.
    if generation.get("max_length"):
        found["max_new_tokens"] = generation["max_length"] - 1
    if generation.get("min_length"):
        found["min_new_tokens"] = max(generation["min_length"] - 1, 0)
    for theirs, ours in {**_THEIR_NAMES, **dict.fromkeys(_OUR_NAMES, None)}.items():
        if generation.get(theirs) is not None:
            found[ours or theirs] = generation[theirs]
    if generation.get("do_sample"):
        found |= {name: generation[name] for name in _SAMPLING if generation.get(name) is not None}
    given = {name: value for name, value in given.items() if value is not None}
    known = [field.name for field in dataclasses.fields(GenerationSettings)]
    for name in given:
        if name not in known:
            raise CommandError(
                f"There is no setting {name!r}", fix=f"the settings are: {', '.join(known)}"
            )
    found |= given
    if any(name in given for name in (*_SAMPLING, "min_p")) and "beams" not in given:
        found.pop("beams", None)
    return GenerationSettings(**{name: value for name, value in found.items() if name in known})


def generation_config(settings: GenerationSettings) -> dict[str, Any]:
    """Returns settings as a model keeps them: in the words of transformers, and in ours beside.

    Args:
        settings: How the model is to write.
    """
    found = {theirs: getattr(settings, ours) for theirs, ours in _THEIR_NAMES.items()}
    found |= {name: getattr(settings, name) for name in (*_OUR_NAMES, *_SAMPLING)}
    found["do_sample"] = settings.samples
    return {name: value for name, value in found.items() if value is not None}


def described(settings: GenerationSettings) -> str:
    """Says in words how texts are written.

    Example:

    >>> described(GenerationSettings(beams=4, max_new_tokens=60))
    'beam search with 4 beams, length penalty 1; at most 60 tokens'
    """
    if settings.samples:
        how = "sampled: " + ", ".join(
            f"{name} {getattr(settings, name):g}"
            for name in _SAMPLING
            if getattr(settings, name) is not None
        )
    elif settings.beams > 1:
        how = f"beam search with {settings.beams} beams, length penalty {settings.length_penalty:g}"
    else:
        how = "greedy decoding"
    most = f"at most {settings.max_new_tokens} tokens"
    if settings.max_length_ratio is not None:
        most += f", and {settings.max_length_ratio:g} x the source + {settings.max_length_extra}"
    return f"{how}; {most}"


def write_targets(
    model: Seq2SeqLM,
    sources: Sequence[Sequence[int]],
    *,
    notify: Callable[[str], None] | None = None,
    trained: bool = True,
    **settings: Any,
) -> list[Written]:
    """Writes a text for each source.

    Args:
        model: The model.
        sources: Token ids, as `Seq2SeqLM.encode_sources` gives them.
        notify: Called with how far it is. Defaults to `None`.
        trained: Whether the weights may have changed since the last call. Defaults to `True`.
        **settings: See `settings_of`.

    Returns:
        The texts, in the order of the sources.
    """
    chosen = settings_of(model, **settings)

    def done(count: int) -> None:
        notify(f"generating: {count:,} of {len(sources):,} texts")

    generated = generator_of(model, trained=trained).generate(
        sources, chosen, on_done=done if notify else None
    )
    return [
        Written(model.tokenizer.decode(each.tokens).strip(), len(each.tokens), each.finish_reason)
        for each in generated
    ]


def generator_of(model: Seq2SeqLM, *, trained: bool = True) -> Seq2SeqGenerator:
    """Returns what generates with a model, made once.

    Args:
        model: The model.
        trained: Whether its weights may have changed since the last call. Defaults to `True`.
    """
    generator = model.__dict__.get("_generator")
    if generator is None:
        generator = Seq2SeqGenerator(model.parts)
        # Keras would track what it is made of as layers of the model.
        model.__dict__["_generator"] = generator
    elif trained:
        generator.refresh()
    return generator


def write_texts(model: Seq2SeqLM, texts: Sequence[str], **settings: Any) -> list[Written]:
    """Writes a text for each source text; see `write_targets`."""
    return write_targets(model, model.encode_sources(texts), **settings) if texts else []


def text_stream(
    model: Seq2SeqLM,
    texts: Iterable[str],
    *,
    chunk: int = 2048,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Writes texts for sources as they come, in memory that does not grow with their number.

    Args:
        model: The model.
        texts: The sources, read as they are needed.
        chunk: Sources that are computed together. Defaults to `2048`.
        settings: See `settings_of`. Defaults to `None`.

    Yields:
        For each source `text`, the source; `output`, what was written; and `finish_reason`.
    """
    from kerasllm.models.classify import chunks

    for some in chunks(texts, min(chunk, _TOGETHER)):
        written = write_texts(model, some, trained=False, **(settings or {}))
        for source, each in zip(some, written, strict=True):
            yield {"text": source, "output": each.text, "finish_reason": each.finish_reason}
