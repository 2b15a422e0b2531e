"""BLEU, chrF and ROUGE of generated texts, by the reference libraries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}
"""The keys of the ROUGE metrics, and what the library calls them."""

LEAD = 3
"""Sentences of the baseline of summaries."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_WORD = re.compile(r"[^\W_]+")
# Scripts that are written without spaces: each character is a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\uf900-\ufaff]")


def bleu_chrf(
    written: Sequence[str], references: Sequence[str], tokenize: str = "13a"
) -> dict[str, Any]:
    """Returns BLEU and chrF of a whole corpus, as sacreBLEU computes them.

    Args:
        written: The texts.
        references: What they should be, one for each.
        tokenize: How sacreBLEU makes words of texts: `13a`, `intl`, `zh`, `ja-mecab`, `ko-mecab`,
            `char`... Defaults to `"13a"`.

    Returns:
        `bleu` and `chrf`, from 0 to 100, and the signature of each, by which others can tell how it
        was computed.

    Reference:
        [Post, 2018](https://arxiv.org/abs/1804.08771).
    """
    from sacrebleu.metrics import BLEU, CHRF

    found: dict[str, Any] = {}
    for name, metric in (("bleu", BLEU(tokenize=tokenize)), ("chrf", CHRF())):
        score = metric.corpus_score(list(written), [list(references)])
        found[name] = float(score.score)
        found[f"{name}_signature"] = str(metric.get_signature())
    return found


def rouge(written: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Returns the mean F1 of ROUGE-1, -2, -L and -Lsum, as rouge-score computes them.

    Where all references are in the letters of English, words are those of the library, stemmed.
    Elsewhere it would leave letters out: words are then what Unicode says, and not stemmed, and a
    character of a script without spaces is one.

    Args:
        written: The texts.
        references: What they should be, one for each.

    Returns:
        Each from 0 to 100, and `rouge_signature`.

    Reference:
        [Lin, 2004](https://aclanthology.org/W04-1013/).
    """
    from importlib import metadata

    english = all(map(_is_english, references))
    words = "stemmed:yes" if english else "words:unicode|stemmed:no"
    signature = f"rouge-score:{metadata.version('rouge-score')}|{words}|sentences:punctuation"
    each = rouge_of_each(written, references)
    means = {name: sum(values) / max(len(written), 1) for name, values in each.items()}
    return {**means, "rouge_signature": signature}


def rouge_of_each(written: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """Returns the F1 of each text, 0 to 100, by the names of `ROUGE`; see `rouge`."""
    from rouge_score.rouge_scorer import RougeScorer

    english = all(map(_is_english, references))
    options = {"use_stemmer": True} if english else {"tokenizer": _UnicodeWords()}
    scorer = RougeScorer([*ROUGE.values()], **options)
    found: dict[str, list[float]] = {name: [] for name in ROUGE}
    for text, reference in zip(written, references, strict=True):
        # ROUGE-Lsum takes a line for a sentence.
        scores = scorer.score("\n".join(sentences(reference)), "\n".join(sentences(text)))
        for name, theirs in ROUGE.items():
            found[name].append(100 * scores[theirs].fmeasure)
    return found


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, by their punctuation and its lines.

    Example:

    >>> sentences("It rains. We stay!")
    ['It rains.', 'We stay!']
    """
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def lead(text: str, count: int = LEAD) -> str:
    """Returns the first sentences of a text: the baseline of summaries."""
    return " ".join(sentences(text)[:count])


def texts_report(
    written: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    *,
    tokenize: str = "13a",
) -> dict[str, Any]:
    """Returns all metrics of texts, and what needs no model beside them.

    Args:
        written: The texts.
        references: What they should be.
        sources: What they were made of.
        tokenize: See `bleu_chrf`. Defaults to `"13a"`.

    Returns:
        Those of `bleu_chrf` and `rouge`; `copy_bleu` and `copy_chrf`, of the sources as they are;
        and `lead_rouge_1`... of their first three sentences.
    """
    copied = bleu_chrf(sources, references, tokenize)
    leads = rouge([lead(source) for source in sources], references)
    return {
        **bleu_chrf(written, references, tokenize),
        **rouge(written, references),
        **{f"copy_{name}": copied[name] for name in ("bleu", "chrf")},
        **{f"lead_{name}": leads[name] for name in ROUGE},
    }


def _is_english(text: str) -> bool:
    return not any(letter.isalnum() and not letter.isascii() for letter in text)


class _UnicodeWords:
    """The words of any script, in lower case."""

    def tokenize(self, text: str) -> list[str]:
        words = []
        for word in _WORD.findall(text.lower()):
            spaced = _UNSPACED.sub(lambda found: f" {found[0]} ", word)
            words += spaced.split()
        return words
