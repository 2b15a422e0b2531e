"""The languages of texts, by py3langid."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

# A shorter text has too few letters to tell.
_FEWEST_LETTERS = 24
_SURE = 0.97
_READ = 600
_COMMON_SHARE = 0.1


def is_installed() -> bool:
    """Whether languages can be told here: py3langid is optional."""
    try:
        import py3langid  # noqa: F401
    except ImportError:
        return False
    return True


def language_of(text: str) -> str | None:
    """Returns the ISO 639-1 code of a text's language, or `None` where it is not clear.

    Args:
        text: The text; its first 600 characters are read.

    Example:

    >>> language_of("Der Film war leider viel zu lang und auch sonst nicht gut.")
    'de'
    """
    text = text[:_READ]
    if len(text) < _FEWEST_LETTERS and text.isascii():
        return None
    letters = sum(map(str.isalpha, text))
    # A letter of Chinese or Japanese says as much as a few of an alphabet.
    if letters < _FEWEST_LETTERS and (text.isascii() or letters < _FEWEST_LETTERS // 4):
        return None
    language, probability = _identifier().classify(text)
    return language if probability >= _SURE else None


def minority(languages: Sequence[str | None]) -> tuple[Counter, list[int]]:
    """Returns how often there is each language, and the items in one that is rare here.

    Args:
        languages: What `language_of` gave of each text.

    Returns:
        Texts by language, those that are not clear left out; and the numbers of the texts in a
        language that fewer than a tenth of the texts have.
    """
    counts = Counter(language for language in languages if language)
    total = sum(counts.values())
    rare = {one for one, count in counts.items() if count < _COMMON_SHARE * total}
    return counts, [row for row, language in enumerate(languages) if language in rare]


@functools.cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
