"""Schemes of tags, B-PER I-PER O and their like: which one data has, and the entities it means.

All that is computed here is computed on numbers of tags, so that a million words take a second.
Models learn IOB2 regardless of the scheme: B begins an entity, I continues it, O is outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kerasllm.errors import DataError

SCHEMES = ("iob1", "iob2", "bioes", "bilou", "io", "plain")
"""The schemes that tags may be in; plain tags, such as parts of speech, make no entities."""

OUTSIDE = "O"
UNTYPED = "entity"
"""The type of entities whose tags are B and I alone."""

_TAG = re.compile(r"([BIESLUMW])(?:[-_](.+))?", re.DOTALL)
# What the letters of other schemes are in BIOES.
_LETTERS = {"L": "E", "U": "S", "W": "S", "M": "I"}
_BEGIN, _INSIDE, _END, _SINGLE, _OUT = range(5)
_NUMBER = {"B": _BEGIN, "I": _INSIDE, "E": _END, "S": _SINGLE}
# Of all words so many are O where tags without a letter are the types of entities.
_MOSTLY = 0.5


class Tag(NamedTuple):
    """What a tag says: its letter, as in BIOES, and the type of its entity."""

    letter: str
    type: str


def parse_tag(tag: str) -> Tag | None:
    """Returns what a tag of entities says; `None` of one that has no letter.

    Example:

    >>> parse_tag("B-PER"), parse_tag("U-LOC"), parse_tag("O"), parse_tag("NN")
    (Tag(letter='B', type='PER'), Tag(letter='S', type='LOC'), Tag(letter='O', type=''), None)
    """
    if tag == OUTSIDE:
        return Tag(OUTSIDE, "")
    found = _TAG.fullmatch(tag)
    if found is None:
        return None
    letter, kind = found.groups()
    return Tag(_LETTERS.get(letter, letter), kind or UNTYPED)


@dataclass(frozen=True, eq=False)
class TaggedWords:
    """The tags of sentences, one after the other.

    Attributes:
        names: The tags that there are.
        tags: int `[words]`, the number of each word's tag in `names`.
        offsets: int `[sentences + 1]`, where the words of each sentence begin and end.
    """

    names: tuple[str, ...]
    tags: np.ndarray
    offsets: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """bool `[words]`, whether a word begins its sentence."""
        first = np.zeros(len(self.tags) + 1, bool)
        first[self.offsets[:-1]] = True
        return first[:-1]


@dataclass(frozen=True, eq=False)
class Converted:
    """Tags in IOB2, or plain ones.

    Attributes:
        scheme: The scheme that the data has, of `SCHEMES`.
        why: How it was found, in words.
        words: The tags, in IOB2 unless the scheme is `"plain"`.
        repaired: How many words had a tag that cannot stand where it stands.
        repaired_at: int, the numbers of the first such words.
    """

    scheme: str
    why: str
    words: TaggedWords
    repaired: int = 0
    repaired_at: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def convert(words: TaggedWords, scheme: str = "auto") -> Converted:
    """Converts the tags of sentences to IOB2; plain tags stay as they are.

    Entities are those that conlleval finds: one begins at B and S, after O, E and S, at the start
    of a sentence, and where the type changes. So a tag that cannot stand where it stands, as I
    after O in IOB2, is repaired, and counted.

    Args:
        words: The tags.
        scheme: The scheme that they are in. Defaults to `"auto"`: it is detected.

    Raises:
        DataError: If a tag is none of the scheme.

    Reference:
        [conlleval](https://www.clips.uantwerpen.be/conll2000/chunking/output.html);
        [Ramshaw and Marcus, 1995](https://arxiv.org/abs/cmp-lg/9505040), for the letters.
    """
    found, why = (scheme, "as data.scheme says") if scheme != "auto" else detect_scheme(words)
    if found == "plain":
        return Converted(found, why, words)
    parsed = [
        Tag("I" if name != OUTSIDE else OUTSIDE, name if name != OUTSIDE else "")
        if found == "io" and parse_tag(name) is None
        else parse_tag(name)
        for name in words.names
    ]
    for name, tag in zip(words.names, parsed, strict=True):
        if tag is None:
            raise DataError(
                f"The tag {name!r} has no prefix, unlike others (scheme {found}: {why})",
                where="data.scheme",
                fix="correct the tags, or set data.scheme=plain, if they are not entities, or io, "
                "if they are entity types",
            )
    types = sorted({tag.type for tag in parsed if tag.letter != OUTSIDE})
    letters = np.array([_NUMBER.get(tag.letter, _OUT) for tag in parsed], np.int8)
    kinds = np.array([types.index(tag.type) if tag.type else -1 for tag in parsed], np.int32)
    letter, kind = letters[words.tags], kinds[words.tags]
    before, kind_before = _shifted(letter, _OUT), _shifted(kind, -1)
    before[words.starts], kind_before[words.starts] = _OUT, -1
    begins = _begins(letter, kind, before, kind_before)
    wrong = _wrong(found, letter, kind, before, kind_before, words)
    tags = np.where(letter == _OUT, 0, 2 * kind + 2 - begins).astype(np.int32)
    names = (OUTSIDE, *(f"{one}-{each}" for each in types for one in "BI"))
    places = np.flatnonzero(wrong)
    return Converted(found, why, TaggedWords(names, tags, words.offsets), len(places), places[:10])


def detect_scheme(words: TaggedWords) -> tuple[str, str]:
    """Returns the scheme that tags are in, and why, in words."""
    counts = np.bincount(words.tags, minlength=len(words.names))
    used = [name for name, count in zip(words.names, counts, strict=True) if count]
    inside = [name for name in used if name != OUTSIDE]
    parsed = {name: parse_tag(name) for name in inside}
    outside = counts[words.names.index(OUTSIDE)] if OUTSIDE in used else 0
    typed = [name for name in inside if parsed[name] and len(name) > 1]
    letters = {name[0] for name in inside if parsed[name]}
    bare = [name for name in inside if len(name) == 1 and parsed[name]]
    if len(typed) > len(inside) / 2 or (
        inside and len(bare) == len(inside) and outside and letters & set("BI")
    ):
        return _lettered(words, letters)
    if outside and inside and outside >= _MOSTLY * len(words.tags):
        return "io", "tags are entity types, and most words are O"
    return "plain", "tags have no prefixes such as B- and I-"


def _lettered(words: TaggedWords, letters: set[str]) -> tuple[str, str]:
    if letters & set("LU") and not letters & set("ES"):
        return "bilou", f"tags have the prefixes {', '.join(sorted(letters))}"
    if letters & set("ESMWLU"):
        return "bioes", f"tags have the prefixes {', '.join(sorted(letters))}"
    parsed = [parse_tag(name) or Tag(OUTSIDE, "") for name in words.names]
    letter = np.array([_NUMBER.get(tag.letter, _OUT) for tag in parsed], np.int8)[words.tags]
    types = {tag.type: number for number, tag in enumerate(parsed)}
    kind = np.array([types[tag.type] for tag in parsed], np.int32)[words.tags]
    before, kind_before = _shifted(letter, _OUT), _shifted(kind, -1)
    before[words.starts], kind_before[words.starts] = _OUT, -1
    continues = (before != _OUT) & (kind == kind_before)
    by_inside = int(((letter == _INSIDE) & ~continues).sum())
    by_begin = int(((letter == _BEGIN) & ~continues).sum())
    if by_inside > by_begin:
        return "iob1", f"entities that begin with I-: {by_inside:,}, with B-: {by_begin:,}"
    begun = int((letter == _BEGIN).sum())
    return "iob2", f"entities that begin with B-: {begun:,}" + (
        f", with I-: {by_inside:,}" if by_inside else ""
    )


def _begins(letter, kind, before, kind_before) -> np.ndarray:
    """Returns where entities begin, bool `[words]`, by conlleval's rule."""
    opens = (letter == _BEGIN) | (letter == _SINGLE)
    closed = (before == _OUT) | (before == _END) | (before == _SINGLE) | (kind != kind_before)
    return (letter != _OUT) & (opens | closed)


def _wrong(scheme, letter, kind, before, kind_before, words: TaggedWords) -> np.ndarray:
    """Returns which words have a tag that cannot stand where it stands, bool `[words]`."""
    goes_on = (letter == _INSIDE) | (letter == _END)
    same = kind == kind_before
    opened = (before == _BEGIN) | (before == _INSIDE)
    if scheme in ("bioes", "bilou"):
        # What is opened must be continued, to its end.
        wrong = (goes_on & ~(opened & same)) | (~goes_on & opened)
        last = words.offsets[1:][np.diff(words.offsets) > 0] - 1
        wrong[last] |= (letter[last] == _BEGIN) | (letter[last] == _INSIDE)
        return wrong
    if scheme == "iob1":
        return (letter == _BEGIN) & ~(opened & same)
    if scheme == "iob2":
        return (letter == _INSIDE) & ~(opened & same)
    return np.zeros(len(letter), bool)


def _shifted(values: np.ndarray, first: int) -> np.ndarray:
    return np.concatenate([np.array([first], values.dtype), values[:-1]])


class Spans(NamedTuple):
    """Entities of sentences.

    Attributes:
        sentences: int `[entities]`, the sentence of each.
        starts: int `[entities]`, its first word, counted over all sentences.
        ends: int `[entities]`, the word after its last one.
        types: int `[entities]`, its type.
    """

    sentences: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    types: np.ndarray


def spans_of(letters: np.ndarray, types: np.ndarray, offsets: np.ndarray) -> Spans:
    """Returns the entities that tags in any scheme mean, by conlleval's rule.

    Args:
        letters: int8 `[words]`, the letters; see `TagSet.letters`.
        types: int `[words]`, the types, -1 of O.
        offsets: int `[sentences + 1]`.
    """
    starts_sentence = TaggedWords((), letters, offsets).starts
    before, type_before = _shifted(letters, _OUT), _shifted(types, -1)
    before[starts_sentence], type_before[starts_sentence] = _OUT, -1
    begins = _begins(letters, types, before, type_before)
    first = np.flatnonzero(begins)
    inside = letters != _OUT
    # An entity ends before the next word that begins one, is outside, or begins a sentence.
    breaks = np.flatnonzero(np.append(begins | ~inside | starts_sentence, True))
    ends = breaks[np.searchsorted(breaks, first, side="right")]
    sentences = np.searchsorted(offsets, first, side="right") - 1
    return Spans(sentences, first, ends, types[first])


class TagSet:
    """The tags of a model: what each means, and which may follow which.

    Args:
        names: The tags, in the order of the model's outputs.
        scheme: `"plain"`, or `"auto"`: that of the names; one of another library may have tags in
            IOB1, BIOES or BILOU. Defaults to `"auto"`.

    Attributes:
        names: As given.
        plain: Whether each word is a span of its own, as with parts of speech.
        types: The types of entities; of plain tags the tags.
        letters: int8 `[tags]`, the letter of each tag.
        type_numbers: int32 `[tags]`, the number of its type, -1 of O.
        first: bool `[tags]`, which tags may begin a sentence.
        last: bool `[tags]`, which may end one.
        follows: bool `[tags, tags]`, whether the second may follow the first.

    Example:

    >>> TagSet(["O", "B-PER", "I-PER"]).follows.tolist()
    [[True, True, False], [True, True, True], [True, True, True]]
    """

    def __init__(self, names: Sequence[str], scheme: str = "auto"):
        self.names = tuple(names)
        parsed = [parse_tag(name) for name in self.names]
        lettered = all(tag is not None for tag in parsed) and len(set(self.names) - {OUTSIDE}) > 0
        self.plain = scheme == "plain" or not (lettered or OUTSIDE in self.names)
        if self.plain:
            self.types = self.names
            self.letters = np.full(len(self.names), _SINGLE, np.int8)
            self.type_numbers = np.arange(len(self.names), dtype=np.int32)
        else:
            # One without a letter is a type, as in IO.
            tags = [tag or Tag("I", name) for tag, name in zip(parsed, self.names, strict=True)]
            self.types = tuple(dict.fromkeys(tag.type for tag in tags if tag.type))
            self.letters = np.array([_NUMBER.get(tag.letter, _OUT) for tag in tags], np.int8)
            self.type_numbers = np.array(
                [self.types.index(tag.type) if tag.type else -1 for tag in tags], np.int32
            )
        self.first, self.last, self.follows = self._rules()

    def __len__(self) -> int:
        return len(self.names)

    def spans(self, tags: np.ndarray, offsets: np.ndarray) -> Spans:
        """Returns the entities of sentences; of plain tags each word.

        Args:
            tags: int `[words]`.
            offsets: int `[sentences + 1]`.
        """
        return spans_of(self.letters[tags], self.type_numbers[tags], offsets)

    def inside(self) -> np.ndarray:
        """Returns the tag of a word's further subwords for each tag, int32 `[tags]`.

        B- and S- become I-, where there is such a tag.
        """
        found = np.arange(len(self.names), dtype=np.int32)
        if self.plain:
            return found
        pairs = list(zip(self.letters.tolist(), self.type_numbers.tolist(), strict=True))
        for number, (letter, kind) in enumerate(pairs):
            if letter in (_BEGIN, _SINGLE) and (_INSIDE, kind) in pairs:
                found[number] = pairs.index((_INSIDE, kind))
        return found

    def _rules(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(self.names)
        first, last = np.ones(count, bool), np.ones(count, bool)
        follows = np.ones((count, count), bool)
        letters = set(self.letters.tolist())
        if self.plain or not letters & {_BEGIN, _END, _SINGLE}:
            return first, last, follows
        same = self.type_numbers[:, None] == self.type_numbers
        opened = np.isin(self.letters, (_BEGIN, _INSIDE))
        goes_on = np.isin(self.letters, (_INSIDE, _END))
        if letters & {_END, _SINGLE}:
            follows = (opened[:, None] & goes_on & same) | (~opened[:, None] & ~goes_on)
            return ~goes_on, ~opened, follows
        pairs = set(zip(self.letters.tolist(), self.type_numbers.tolist(), strict=True))
        begun = np.array([(_BEGIN, kind) in pairs for kind in self.type_numbers.tolist()], bool)
        # Of a type without B-, as in IOB1, I- begins an entity.
        needs = goes_on & begun
        follows = ~needs | (opened[:, None] & same)
        return ~needs, last, follows
