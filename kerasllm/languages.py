"""The suffixes that name the language of a text file: `test.en`, `test.de`."""

from __future__ import annotations

LANGUAGES = frozenset(
    f".{code}"
    for code in (
        "af am ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu ha he hi hr hu "
        "hy id ig is it ja ka kk km kn ko lt lv mk ml mn mr ms my ne nl no pa pl pt ro ru si sk sl "
        "so sq sr sv sw ta te th tl tr uk ur uz vi xh yo zh zu"
    ).split()
)
"""`.en` and other codes of ISO 639-1, but for those that other files end in, such as `.ps`."""
