"""The report on the data of a training: its content, and ranked findings."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.data.label_checks import look_alike
from kerasllm.data.report import languages, near_duplicates
from kerasllm.data.report.duplicates import repeats
from kerasllm.data.report.findings import (
    GRAVITIES,
    HARMFUL,
    NOTABLE,
    WRONG,
    Finding,
    ranked,
)
from kerasllm.data.report.giveaways import giveaways
from kerasllm.data.report.label_checks import histogram, only_in_one_part
from kerasllm.data.report.personal_data import KINDS, masked
from kerasllm.data.report.rows import ReportRow, ReportRows
from kerasllm.data.report.scan import Lengths, Scan, scan
from kerasllm.plurals import counted

_MOST_PLACES = 1000
_LONGEST_TEXT = 160
_MANY_CUT = 0.1
_MOST_NAMED = 5

# What is said of rows with damaged texts or personal data: gravity, what they have, advice.
_TEXT_CHECKS = {
    "garbled": (
        HARMFUL,
        "garbled: wrong encoding, lost characters or control characters",
        "go back to the original, and read it in its own encoding",
    ),
    "no_words": (HARMFUL, "without a letter or a digit", "they contain nothing to learn from"),
    "markup": (
        NOTABLE,
        "with HTML tags or entities",
        "remove the markup, unless the texts to predict have it too",
    ),
    **{
        kind: (
            HARMFUL if kind in ("card", "key") else NOTABLE,
            f"with {words}",
            "replace them before training: a model may reproduce its training data",
        )
        for kind, words in KINDS.items()
    },
}


@dataclasses.dataclass(frozen=True, eq=False)
class DataReport:
    """What is in the data, and what was found.

    Attributes:
        scan: What was read.
        findings: What was found, the first to look at first.
        unit: What lengths are counted in: `"tokens"` or `"words"`.
        max_length: The maximum number of tokens of a row, or `None`.
        missing: Checks that were not made, each with how to get them.
    """

    scan: Scan
    findings: Sequence[Finding]
    unit: str
    max_length: int | None
    missing: Sequence[str]

    def describe_parts(self) -> dict[str, dict[str, Any]]:
        """Returns what each part holds, by its name, as `json.dumps` takes it."""
        return {part: self._part(part, rows) for part, rows in self.scan.parts.items()}

    def languages(self) -> Counter:
        """Returns the rows of the training data that were looked at, by their language."""
        return Counter(language for language in self.scan.languages if language)

    def texts(self) -> dict[int, ReportRow]:
        """Reads the rows of all examples."""
        shown = (row for each in self.findings for rows in each.shown for row in rows)
        return self.scan.read(shown)

    def as_json(self) -> dict[str, Any]:
        """Returns all of it, as `json.dumps` takes it; of each finding up to 1,000 places."""
        texts = self.texts()
        return {
            "parts": self.describe_parts(),
            "languages": dict(self.languages().most_common()),
            "findings": [self._finding(finding, texts) for finding in self.findings],
            "not_checked": list(self.missing),
        }

    def _finding(self, finding: Finding, texts: Mapping[int, ReportRow]) -> dict[str, Any]:
        places = [*finding.places, *(self.scan.place(row) for row in finding.rows[:_MOST_PLACES])]
        return {
            "kind": finding.kind,
            "gravity": GRAVITIES[finding.gravity],
            "title": finding.title,
            "advice": finding.advice,
            "rows": finding.number,
            **finding.facts,
            "places": places[:_MOST_PLACES],
            "examples": [
                [self.example(finding, row, texts[row]) for row in rows] for rows in finding.shown
            ],
        }

    def example(self, finding: Finding, row: int, read: ReportRow) -> dict[str, Any]:
        """Returns a row as it is shown: its place, its text without personal data, its label."""
        shown = {"place": self.scan.place(row)}
        if not finding.private:
            shown["text"] = shown_text(read)
        if read.label is not None:
            shown["label"] = list(read.label) if isinstance(read.label, tuple) else read.label
        if row in finding.notes:
            shown["note"] = finding.notes[row]
        return shown

    def _part(self, part: str, rows: ReportRows) -> dict[str, Any]:
        mine = self.scan.rows_of(part)
        lengths = self.scan.lengths[mine]
        found = {
            "files": list(rows.files),
            "read_as": rows.read_as,
            "remarks": list(rows.remarks()),
            "rows": len(lengths),
            "noun": rows.noun,
            "unusable": rows.bad_count,
            "lengths": self._lengths(lengths),
        }
        if rows.problem == "regression":
            scores = np.array(self.scan.names, float)[self.scan.labels[mine]]
            found["scores"] = {**_spread(scores), "histogram": histogram(scores)}
        elif rows.problem:
            found["labels"] = dict(self.scan.counts(part).most_common())
        return found

    def _lengths(self, lengths: np.ndarray) -> dict[str, Any]:
        found = {"unit": self.unit, **_spread(lengths), "histogram": histogram(lengths)}
        if self.max_length is not None and len(lengths):
            found["max_length"] = self.max_length
            found["cut"] = int((lengths > self.max_length).sum())
        return found


def make_report(
    parts: Mapping[str, ReportRows],
    *,
    lengths: Lengths | None = None,
    max_length: int | None = None,
    empty_length: int = 0,
    notify: Callable[[str], None] | None = None,
) -> DataReport:
    """Reads the parts of some data and looks for what is wrong with them.

    Args:
        parts: The rows by part, the training data first.
        lengths: Counts the tokens of rows. Defaults to `None`: words are counted.
        max_length: The maximum number of tokens that a training keeps. Defaults to `None`: not
            known.
        empty_length: The tokens of a row without text. Defaults to `0`.
        notify: Called with how far it is. Defaults to `None`.

    Raises:
        DataError: If a file cannot be read.

    Example:

    >>> report = make_report({"train": rows_of_files("reviews.csv")})
    >>> [finding.kind for finding in report.findings]
    ['duplicates', 'near_duplicates']
    """
    found = scan(parts, lengths, notify=notify)
    if notify:
        notify("comparing")
    findings = [
        *repeats(found),
        *_unusable(found),
        *_texts(found, empty_length),
        *_labels(found),
        *_languages(found),
        *_cut(found, max_length),
    ]
    missing = [
        f"{what}: pip install 'kerasllm[data]'"
        for what, there in (
            ("near duplicates", near_duplicates.is_installed()),
            ("languages", languages.is_installed()),
        )
        if not there
    ]
    unit = "words" if lengths is None else "tokens"
    return DataReport(found, ranked(findings), unit, max_length, missing)


def shown_text(row: ReportRow) -> str:
    """Returns the texts of a row in a line, without personal data, cut where they are long."""
    text = " | ".join(" ".join(text[: 8 * _LONGEST_TEXT].split()) for text in row.texts)
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in masked(text))
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _unusable(found: Scan) -> list[Finding]:
    findings = []
    for part, rows in found.parts.items():
        if not rows.bad_count:
            continue
        # An apostrophe begins no quotation.
        reasons = Counter(re.sub(r"\B'[^']*'|\"[^\"]*\"|\d+", "…", bad.why) for bad in rows.bad)
        most = "; ".join(f"{why} ({count:,})" for why, count in reasons.most_common(3))
        findings.append(
            Finding(
                "unusable",
                HARMFUL,
                f"{counted(rows.bad_count, rows.noun)} of {part} cannot be used: {most}",
                "fix them; training stops at them, or skips them with --set data.on_bad_row=skip",
                places=[f"{bad.file}:{bad.line}: {masked(bad.why)}" for bad in rows.bad],
                count=rows.bad_count,
                facts={"part": part, "reasons": dict(reasons)},
            )
        )
    return findings


def _texts(found: Scan, empty_length: int) -> list[Finding]:
    rows_of = {kind: np.array(rows, np.int64) for kind, rows in found.marked.items()}
    rows_of["no_words"] = np.flatnonzero((found.lengths <= empty_length) | (found.plain == 0))
    return [
        Finding(
            kind,
            gravity,
            f"{counted(len(rows_of[kind]), 'row')} {what}",
            advice,
            rows_of[kind],
            notes=found.notes.get(kind, {}),
            private=kind in KINDS,
        )
        for kind, (gravity, what, advice) in _TEXT_CHECKS.items()
        if len(rows_of.get(kind, ()))
    ]


def _labels(found: Scan) -> list[Finding]:
    kinds = {rows.problem for rows in found.parts.values()}
    if not kinds & {"single_label", "multi_label"}:
        return []
    counts = {part: found.counts(part) for part in found.parts}
    total = sum(counts.values(), Counter())
    findings = []
    if groups := look_alike(total):
        rare = [label for group in groups for label in group[1:]]
        rows = _rows_with(found, rare)
        pairs = "; ".join(
            " and ".join(f"{label!a} ({total[label]:,})" for label in group)
            for group in groups[:_MOST_NAMED]
        )
        findings.append(
            Finding(
                "look_alike_labels",
                WRONG,
                f"labels that look alike: {pairs}",
                "write each label in one way, or they are learned as different classes",
                rows,
                facts={"groups": groups},
            )
        )
    first = next(iter(found.parts))
    for part, labels in only_in_one_part(counts).items():
        what = ", ".join(f"{label!r} ({counts[part][label]:,})" for label in labels[:_MOST_NAMED])
        more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
        findings.append(
            Finding(
                "label_in_one_part",
                NOTABLE if part == first else WRONG,
                f"only {part} has the {'label' if len(labels) == 1 else 'labels'} {what}{more}",
                "the metrics do not cover it"
                if part == first
                else f"a model cannot learn what is not in {first}",
                _rows_with(found, labels),
                facts={"part": part, "labels": labels},
            )
        )
    if "single_label" in kinds:
        findings += _giveaways(found)
    return findings


def _rows_with(found: Scan, labels: Sequence[str]) -> np.ndarray:
    wanted = [
        number
        for number, name in enumerate(found.names)
        if name is not None and set(labels) & set(name if isinstance(name, tuple) else (name,))
    ]
    return np.flatnonzero(np.isin(found.labels, wanted))


def _giveaways(found: Scan) -> list[Finding]:
    tokens = giveaways((text, str(label)) for _, text, label in found.sample)
    findings = []
    for telling in (True, False):
        mine = [token for token in tokens if token.is_telling == telling]
        if not mine:
            continue
        what = "; ".join(
            f"{masked(one.token)!r} is {one.label!r} in {one.precision:.0%} of {one.rows:,} rows"
            for one in mine[:_MOST_NAMED]
        )
        holds = re.compile("|".join(_whole(one.token) for one in mine))
        rows = [row for row, text, _ in found.sample if holds.search(text.lower())]
        findings.append(
            Finding(
                "giveaways",
                WRONG if telling else NOTABLE,
                f"tokens that give the label away: {what}",
                "remove them if they show where a text comes from, not what it says",
                rows,
                facts={"tokens": [one._asdict() for one in mine]},
            )
        )
    return findings


def _whole(token: str) -> str:
    """Returns a pattern of a token of `giveaways`, which is words or signs but not both."""
    sign = r"\w" if token[0].isalnum() or token[0] == "_" else r"[^\w\s]"
    return rf"(?<!{sign}){re.escape(token)}(?!{sign})"


def _languages(found: Scan) -> list[Finding]:
    counts, rare = languages.minority(found.languages)
    if not rare:
        return []
    main = counts.most_common(1)[0][0]
    others = Counter(found.languages[place] for place in rare)
    shown = ", ".join(f"{one} ({count:,})" for one, count in others.most_common(_MOST_NAMED))
    rows = [found.sample[place][0] for place in rare]
    return [
        Finding(
            "languages",
            NOTABLE,
            f"{counted(len(rows), 'row')} in another language than most ({main}): {shown}",
            "check whether they belong there, and whether the model knows the language",
            rows,
            notes={found.sample[place][0]: found.languages[place] for place in rare},
            facts={"languages": dict(others)},
        )
    ]


def _cut(found: Scan, max_length: int | None) -> list[Finding]:
    if max_length is None:
        return []
    rows = np.flatnonzero(found.lengths > max_length)
    if not len(rows):
        return []
    share = len(rows) / max(len(found), 1)
    lost = int((found.lengths[rows] - max_length).sum()) / max(int(found.lengths.sum()), 1)
    return [
        Finding(
            "cut",
            HARMFUL if share > _MANY_CUT else NOTABLE,
            f"{counted(len(rows), 'row')} ({share:.1%}) above data.max_length={max_length}; "
            f"{lost:.1%} of all tokens are not read",
            "raise data.max_length if the decisive part comes late in the texts",
            rows[np.argsort(-found.lengths[rows], kind="stable")],
            facts={"share": round(share, 4)},
        )
    ]


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    marks = np.quantile(values, [0, 0.25, 0.5, 0.75, 0.95, 1])
    names = ("least", "quarter", "median", "three_quarters", "p95", "most")
    return {name: round(float(mark), 4) for name, mark in zip(names, marks)}
