"""Real texts of a run, on which exported files are compared with the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from kerasllm.data.chat_templates import ChatTemplate
from kerasllm.data.conversation_shapes import BadRow, read_row, shape_of
from kerasllm.data.documents import Documents
from kerasllm.data.files import find_files
from kerasllm.data.records import first_keys, records
from kerasllm.data.sources import Source
from kerasllm.errors import DataError
from kerasllm.export.facts import without_folder
from kerasllm.models.causal_lm import CausalLM
from kerasllm.recipe import AnyRecipe, Recipe

# What a prompt is: longer ones would make large models slow to compare.
_PROMPT_TOKENS = 64
_SHORTEST_TEXT = 20
_PARTS = ("test", "validation", "train")


def classified_rows(recipe: Recipe, count: int | None) -> tuple[list[str], str]:
    """Reads texts of a classifier's run: of its test data, else validation, else training.

    Where none of these files is there any more, the bundled movie reviews stand in.

    Args:
        recipe: The run's recipe.
        count: How many; `None`: all.

    Returns:
        The texts, and what they are in words.
    """
    data = recipe.data
    for part, spec in _specs(recipe):
        try:
            source = Source(spec, split=part, text=data.text, label=data.label, on_bad_row="skip")
            texts = (text for batch in source.batches() for text in batch.texts)
            return _taken(texts, count, part, source.files)
        except DataError:
            continue
    source = Source("starter:movie_reviews", split="test")
    texts = (text for batch in source.batches() for text in batch.texts)
    return _taken(texts, count, "the run's own data are not there", source.files)


def prompt_rows(
    recipe: AnyRecipe | None, model: CausalLM, count: int | None
) -> tuple[list[str], str]:
    """Reads short texts for a language model, such as prompts are.

    They come from the run's test data, else validation, else training: of conversations what is
    said before the last answer, behind the chat template; of plain text its paragraphs. For a
    preset, and where the files are not there any more, bundled data stand in.

    Args:
        recipe: The run's recipe, or `None` for a preset.
        model: The model.
        count: How many; `None`: all.

    Returns:
        The texts, of 64 tokens at most, and what they are in words.
    """
    for part, spec in _specs(recipe) if recipe else ():
        try:
            return _prompts(spec, part, part, recipe.data, model, count)
        except DataError:
            continue
    why = "the run's own data are not there" if recipe else "a preset has no data"
    if model.chat_template is not None:
        return _prompts("starter:chat", "test", why, None, model, count)
    return _prompts("starter:moby_dick", "train", why, None, model, count)


def _specs(recipe: AnyRecipe) -> list[tuple[str, str | list[str]]]:
    found = [(part, getattr(recipe.data, part, None)) for part in _PARTS]
    return [(part, spec) for part, spec in found if spec is not None]


def _taken(
    texts: Iterator[str], count: int | None, part: str, files: tuple[str, ...]
) -> tuple[list[str], str]:
    rows = list(itertools.islice(texts, count))
    names = ", ".join(map(without_folder, files))
    if not rows:
        raise DataError("There are no texts in it", where=names)
    which = f"the first {len(rows):,} rows" if count == len(rows) else f"all {len(rows):,} rows"
    return rows, f"{which} of {names} ({part})"


def _prompts(
    spec, split: str, part: str, data, model: CausalLM, count: int | None
) -> tuple[list[str], str]:
    text = getattr(data, "text", None)
    plain = text is not None or getattr(data, "format", "auto") == "text"
    shape = None if plain else shape_of(first_keys(spec, split))
    if shape is None:
        documents = Documents(spec, split=split, text=text, on_bad_row="skip")
        texts, files = _paragraphs(documents), documents.files
    else:
        found = find_files(spec, split)
        files = tuple(file.name for file in found)
        system = getattr(data, "system", None)
        texts = (text for file in found for text in _asked(file, shape, system, model))
    limit = min(_PROMPT_TOKENS, max((model.max_length or _PROMPT_TOKENS) // 2, 1))
    return _taken(_cut(texts, model, limit), count, part, files)


def _paragraphs(documents: Documents) -> Iterator[str]:
    for document in documents:
        for paragraph in document.text.split("\n\n"):
            text = paragraph.strip()
            if len(text) >= _SHORTEST_TEXT:
                yield text


def _asked(file, shape: str, system: str | None, model: CausalLM) -> Iterator[str]:
    for _, row, problem in records(file):
        try:
            found = None if problem else read_row(row, shape, system)
        except BadRow:
            continue
        if found is None:
            continue
        messages = found.chosen[: found.prompt] if shape == "preference" else found[:-1]
        yield _written(messages, model.chat_template, model.tokenizer.start_token)


def _written(messages: list[dict], template: ChatTemplate | None, start: str | None) -> str:
    if template is None:
        return "\n".join(message["content"] for message in messages)
    text = template.render(messages, add_generation_prompt=True)
    # The tokenizer puts it there itself.
    return text.removeprefix(start) if start else text


def _cut(texts: Iterator[str], model: CausalLM, limit: int) -> Iterator[str]:
    for text in texts:
        ids = model.tokenizer.encode_whole(text)
        if len(ids) > limit:
            text = model.tokenizer.decode(ids[:limit], skip_special=False)
        if text.strip():
            yield text
