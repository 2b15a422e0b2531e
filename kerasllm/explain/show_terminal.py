"""An explanation in a terminal: the text with its words coloured, and the strongest of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kerasllm.explain.explanation import METHODS, Explanation, Word
from kerasllm.explain.global_words import MovingWords
from kerasllm.explain.safe_text import safe
from kerasllm.plurals import counted

_STRONGEST = 10
_BAR = 16
_WORD_WIDTH = 24
# From little to much; up and down are told apart by colour-blind people as well.
_UP = ("", "on #cfe3f5", "on #8fc1e8", "on #3b86c8")
_DOWN = ("", "on #fbdcc4", "on #f5ae78", "on #d96f1e")
_DARK = "black "


def rendered(found: Explanation) -> RenderableType:
    """Returns an explanation for a rich console."""
    parts: list[RenderableType] = [_heading(found)]
    largest = max((abs(word.score) for word in found.words if word.score is not None), default=0)
    for number, text in enumerate(found.texts):
        words = [word for word in found.words if word.text == number]
        if len(found.texts) > 1:
            parts.append(Text(f"{found.names[number]}:", style="dim"))
        parts.append(Padding(_coloured(text, words, largest), (0, 0, 0, 2)))
    parts += ["", _table(found, largest), ""]
    parts += [Text(safe(line)) for line in checks(found)]
    parts += [Text(f"note: {safe(remark)}") for remark in found.remarks]
    return Group(*parts)


def checks(found: Explanation) -> Iterator[str]:
    """Yields sentences on where the scores come from, and how far they can be relied on."""
    if found.baseline_value is not None:
        yield (
            f"{found.output} is {found.value:.4g}; with {found.baseline} for each word it is "
            f"{found.baseline_value:.4g}"
        )
    if found.completeness_error is not None:
        total = sum(word.score for word in found.words if word.score is not None) + found.other
        yield (
            f"the scores add up to {total:+.4g}: completeness error "
            f"{found.completeness_error:+.2g} ({found.relative_error:.2%}) in {found.steps} steps"
        )
    if found.faithfulness:
        area = found.faithfulness
        yield (
            f"deletion {area.deletion:.2f} (lower is better), insertion {area.insertion:.2f} "
            f"(higher is better); random order {area.random:.2f} ± {area.random_std:.2f}"
        )
    if found.occlusion_agreement is not None:
        yield f"rank correlation with occlusion {found.occlusion_agreement:.2f}"


def words_table(found: MovingWords) -> RenderableType:
    """Returns the words that move a class most for a rich console."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for side in ("raise it", "lower it"):
        table.add_column(side, no_wrap=True, overflow="ellipsis", max_width=20)
        table.add_column("mean", justify="right")
        table.add_column("count", justify="right")
    for both in itertools.zip_longest(found.up, found.down):
        cells: list[Text] = []
        for word, colour in zip(both, ("#3b86c8", "#d96f1e"), strict=True):
            values = ("", "", "")
            if word is not None:
                values = (safe(word.word), f"{word.score:+.3f}", f"{word.count:,}")
            cells += [Text(values[0]), Text(values[1], style=colour), Text(values[2])]
        table.add_row(*cells)
    heading = Text(safe(found.group), style="bold")
    heading.append(f": predicted of {counted(found.texts, 'text')}", style="not bold")
    return Group(heading, Padding(table, (0, 0, 0, 2)))


def _heading(found: Explanation) -> Text:
    heading = Text()
    heading.append(safe(found.predicted), style="bold")
    heading.append(f": words that moved {safe(found.output)}, by {METHODS[found.method]}")
    return heading


def _coloured(text: str, words: list[Word], largest: float) -> Text:
    shown, place = Text(), 0
    for word in words:
        shown.append(safe(text[place : word.start]))
        shown.append(safe(word.word), style=_style(word.score, largest))
        place = word.end
    shown.append(safe(text[place:]))
    return shown


def _style(score: float | None, largest: float) -> str:
    if score is None:
        return "dim"
    strength = round(3 * abs(score) / largest) if largest else 0
    colour = (_UP if score > 0 else _DOWN)[strength]
    return _DARK + colour if colour else ""


def _table(found: Explanation, largest: float) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("word", no_wrap=True, overflow="ellipsis", max_width=_WORD_WIDTH)
    table.add_column("score", justify="right")
    table.add_column("")
    both = found.method != "occlusion" and any(word.occlusion is not None for word in found.words)
    if both:
        table.add_column("occlusion", justify="right")
    for word in found.strongest(_STRONGEST):
        bar = "█" * (round(_BAR * abs(word.score) / largest) if largest else 0)
        colour = "#3b86c8" if word.score > 0 else "#d96f1e"
        cells: list[Text | str] = [
            Text(safe(word.word)),
            f"{word.score:+.4f}",
            Text(bar, style=colour),
        ]
        if both:
            cells.append(f"{word.occlusion:+.4f}")
        table.add_row(*cells)
    return table
