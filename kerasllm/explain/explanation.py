"""An explanation: words with scores, and their reliability."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

METHODS = {
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "attention": "attention received, which is not an explanation",
}
"""The methods by name, and each in words."""

MOST_STEPS = 8192
"""The maximum number of steps of an integral that are taken."""


@dataclass(frozen=True)
class Word:
    """A word of a text, and how far it moved the output.

    Attributes:
        text: The number of its text: 0, or 1 for the second text of a pair.
        start: Its first character in that text.
        end: The character after its last one.
        word: Its characters.
        score: How far it moved the output, in the output's own unit; `None` where the model did
            not read it.
        occlusion: How much lower the output is without it. Defaults to `None`: not computed.
    """

    text: int
    start: int
    end: int
    word: str
    score: float | None
    occlusion: float | None = None


@dataclass(frozen=True)
class Faithfulness:
    """Whether the output follows the words in the order of their scores, more than in any other.

    All areas are under curves that go from 1, the output of the text, to 0, that of the baseline,
    over the share of the words that were taken away, or from 0 to 1 where they are put back. An
    area may be outside of 0 and 1, as single words may move the output further.

    Attributes:
        deletion: The area as words are taken away, the most important first; lower is better.
        insertion: The area as they are put back, the most important first; higher is better.
        random: The mean of either area over random orders.
        random_std: The standard deviation over them.
        orders: How many random orders: those that were drawn and their reverses, so that both areas
            have the same mean.
    """

    deletion: float
    insertion: float
    random: float
    random_std: float
    orders: int


@dataclass(frozen=True)
class Explanation:
    """Why an output of a model is what it is: what each word of its texts added to it.

    Attributes:
        texts: The texts.
        names: Their names: `("text",)`, `("text", "text_pair")`...
        method: `"integrated_gradients"`, `"occlusion"` or `"attention"`.
        target: What was explained: a label, `"score"`, a span, a token.
        output: The number that was explained, in words: `"the logit of positive"`.
        predicted: What the model predicts, in words.
        words: The words of the texts, in order.
        value: The number that was explained.
        baseline: What each word is replaced by, to be taken away: `"[MASK]"`; `None` of attention.
        baseline_value: The number where all words are taken away; `None` of attention.
        other: What tokens added that are of no word, such as spaces.
        steps: Steps of the integral. Defaults to `None`: there is none.
        completeness_error: How far the sum of all scores is from `value - baseline_value`.
            Defaults to `None`: the method makes no such promise.
        relative_error: That error as a share of the sum of absolute scores. Defaults to `None`.
        occlusion_agreement: The rank correlation of the scores with those of occlusion. Defaults
            to `None`: not computed, or of fewer than three words.
        faithfulness: Defaults to `None`: not computed, or of fewer than two words.
        group: What it has in common with explanations of other texts, such as the label. Defaults
            to `None`: nothing.
        remarks: Sentences on what was left out. Defaults to none.
        attention: Mean attention over the heads of each layer, `[layers, tokens, tokens]`, as
            nested lists. Defaults to `None`.
        tokens: The tokens of `attention`, in words. Defaults to none.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    method: str
    target: str
    output: str
    predicted: str
    words: tuple[Word, ...]
    value: float
    baseline: str | None
    baseline_value: float | None
    other: float = 0.0
    steps: int | None = None
    completeness_error: float | None = None
    relative_error: float | None = None
    occlusion_agreement: float | None = None
    faithfulness: Faithfulness | None = None
    group: str | None = None
    remarks: tuple[str, ...] = ()
    attention: Any = None
    tokens: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns it as `json.dumps` takes it."""
        found = dataclasses.asdict(self)
        texts, names = found.pop("texts"), found.pop("names")
        for word in found["words"]:
            word["text"] = names[word["text"]]
        if self.attention is None:
            del found["attention"], found["tokens"]
        del found["group"]
        return {**dict(zip(names, texts, strict=True)), **found}

    def pieces(self, text: int = 0) -> list[tuple[str, float]]:
        """Returns a text in chunks, each with its score as a share of the largest one, -1 to 1.

        Args:
            text: The number of the text. Defaults to `0`.
        """
        largest = max((abs(word.score) for word in self.words if word.score), default=1.0)
        found, place = [], 0
        for word in self.words:
            if word.text == text:
                found.append((self.texts[text][place : word.start], 0.0))
                found.append((word.word, (word.score or 0.0) / largest))
                place = word.end
        return [piece for piece in [*found, (self.texts[text][place:], 0.0)] if piece[0]]

    def strongest(self, count: int) -> list[Word]:
        """Returns the words that moved the output most, up or down, the strongest first."""
        read = [word for word in self.words if word.score is not None]
        return sorted(read, key=lambda word: -abs(word.score))[:count]
