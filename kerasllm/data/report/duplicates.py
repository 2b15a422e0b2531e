"""Duplicate rows: within a split, across splits, and with different labels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from kerasllm.data.report.findings import HARMFUL, NOTABLE, WRONG, Finding
from kerasllm.data.report.near_duplicates import groups_of
from kerasllm.data.report.scan import Scan
from kerasllm.plurals import counted

# Passages that are shorter, such as headings, are the same in many places of a book.
_PASSAGE_WORDS = 8
# Scores of one text that differ by more than this share of all scores' range are in conflict.
_SCORE_SHARE = 0.2
_MOST_EXAMPLES = 3


def repeats(scan: Scan) -> list[Finding]:
    """Returns what is the same in several rows: leaks, conflicts, duplicates, near duplicates."""
    usable = _usable(scan)
    first = _first_with(scan.texts, usable)
    return [
        *_leaks(scan, first, usable),
        *_conflicts(scan, first, usable),
        *_duplicates(scan, usable),
        *_near(scan, first, usable),
    ]


def repeated_rows(scan: Scan, part: str) -> np.ndarray:
    """Returns the rows of a part that have the text of an earlier row of it."""
    usable = _usable(scan)
    mine = np.arange(len(scan))[scan.rows_of(part)]
    mine = mine[usable[mine]]
    _, firsts = np.unique(scan.texts[mine], return_index=True)
    return np.delete(mine, firsts)


def _usable(scan: Scan) -> np.ndarray:
    usable = scan.texts != 0
    for part, rows in scan.parts.items():
        if rows.noun == "passage":
            usable[scan.rows_of(part)] &= scan.lengths[scan.rows_of(part)] >= _PASSAGE_WORDS
    return usable


def _first_with(keys: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Returns for each row the first row with its key; for those that are not usable itself."""
    rows = np.flatnonzero(usable)
    first = np.arange(len(keys))
    _, firsts, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
    first[rows] = rows[firsts[inverse.reshape(-1)]]
    return first


def _parts(scan: Scan) -> np.ndarray:
    """Returns the number of each row's part."""
    return np.searchsorted(scan.begins, np.arange(len(scan)), side="right") - 1


def _leaks(scan: Scan, first: np.ndarray, usable: np.ndarray) -> list[Finding]:
    part, names = _parts(scan), list(scan.parts)
    found = []
    for number, name in enumerate(names[1:], start=1):
        rows = np.flatnonzero((part == number) & (part[first] < number) & usable)
        if not len(rows):
            continue
        other = names[int(part[first[rows[0]]])]
        share = len(rows) / max(int((part == number).sum()), 1)
        found.append(
            Finding(
                f"leak_{name}",
                WRONG,
                f"{counted(len(rows), 'row')} of {name} ({share:.1%}) "
                f"{'is' if len(rows) == 1 else 'are'} in {other} too",
                f"remove them from {other}, or the metrics on {name} are too good",
                rows,
                [(first[row], row) for row in _one_each(rows, first)],
                facts={"part": name, "share": round(share, 4)},
            )
        )
    return found


def _conflicts(scan: Scan, first: np.ndarray, usable: np.ndarray) -> list[Finding]:
    labelled = usable & (scan.labels >= 0)
    rows = np.flatnonzero(labelled & (first != np.arange(len(scan))))
    different = rows[scan.labels[rows] != scan.labels[first[rows]]]
    if not len(different):
        return []
    spread = _score_spread(scan)
    if spread is not None:
        scores = np.array(scan.names, float)[scan.labels]
        far = np.abs(scores[different] - scores[first[different]]) > _SCORE_SHARE * spread
        different = different[far]
        if not len(different):
            return []
    texts = np.unique(first[different])
    members = np.flatnonzero(labelled & np.isin(first, texts))
    return [
        Finding(
            "conflicts",
            WRONG,
            f"{counted(len(texts), 'text')} {'has' if len(texts) == 1 else 'have'} different "
            f"labels in different rows ({len(members):,} rows)",
            "decide on one label, or remove these rows",
            members,
            [(first[row], row) for row in _one_each(different, first)],
            facts={"texts": len(texts)},
        )
    ]


def _score_spread(scan: Scan) -> float | None:
    """Returns the range of the scores; `None` where the labels are none."""
    if not all(isinstance(name, float) for name in scan.names):
        return None
    return max(scan.names, default=0.0) - min(scan.names, default=0.0)


def _one_each(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns a few of some rows, of different texts."""
    _, places = np.unique(first[rows], return_index=True)
    return rows[np.sort(places)][:_MOST_EXAMPLES]


def _duplicates(scan: Scan, usable: np.ndarray) -> list[Finding]:
    found = []
    for part in scan.parts:
        rows = repeated_rows(scan, part)
        if not len(rows):
            continue
        first = _first_with(np.where(_parts(scan) == _parts(scan)[rows[0]], scan.texts, 0), usable)
        share = len(rows) / max(scan.rows_of(part).stop - scan.rows_of(part).start, 1)
        found.append(
            Finding(
                "duplicates",
                HARMFUL,
                f"{counted(len(rows), 'row')} of {part} ({share:.1%}) "
                f"{'repeats' if len(rows) == 1 else 'repeat'} the text of an earlier row",
                "keep one of each: duplicates count twice",
                rows,
                [(first[row], row) for row in _one_each(rows, first)],
                facts={"part": part, "share": round(share, 4)},
            )
        )
    return found


def _near(scan: Scan, first: np.ndarray, usable: np.ndarray) -> list[Finding]:
    """Groups rows by what is nearly the same, and leaves out what is the same."""
    distinct = usable & (first == np.arange(len(scan)))
    same = _first_with(scan.plain, distinct & (scan.plain != 0))
    pairs = np.stack([same, np.arange(len(scan))], 1)[same != np.arange(len(scan))]
    if scan.sketches is not None:
        alike = scan.sketches.pairs()
        pairs = np.concatenate([pairs, alike[distinct[alike].all(1)]])
    if not len(pairs):
        return []
    group = groups_of(pairs, len(scan))
    part, names = _parts(scan), list(scan.parts)
    rows = np.flatnonzero(group != np.arange(len(scan)))
    # The row that a row is compared with: of its own part, if there is one.
    partner: dict[int, int] = {}
    latest: dict[tuple[int, int], int] = {}
    for row in np.union1d(rows, group[rows]).tolist():
        key = (int(group[row]), int(part[row]))
        if key in latest:
            partner[row] = latest[key]
        else:
            latest[key] = row
    found = []
    leaks: dict[int, list[int]] = defaultdict(list)
    for row in rows.tolist():
        if part[row] > part[group[row]]:
            leaks[int(part[row])].append(row)
    for number, mine in leaks.items():
        found.append(
            Finding(
                f"near_leak_{names[number]}",
                HARMFUL,
                f"{counted(len(mine), 'row')} of {names[number]} "
                f"{'is' if len(mine) == 1 else 'are'} nearly the same as one of "
                f"{' or '.join(names[:number])}",
                f"remove them from {names[0]} if they are one text with small changes",
                mine,
                [(group[row], row) for row in _one_each(np.array(mine), group)],
                facts={"part": names[number]},
            )
        )
    if partner:
        mine = sorted(partner)
        other = [row for row in mine if scan.labels[row] != scan.labels[partner[row]]]
        labelled = f"; {len(other):,} with another label" if other else ""
        shown = _one_each(np.array(other or mine), group).tolist()
        found.append(
            Finding(
                "near_duplicates",
                NOTABLE,
                f"{counted(len(mine), 'row')} {'is' if len(mine) == 1 else 'are'} nearly the same "
                f"as an earlier one{labelled}",
                "check whether they are one text with small changes",
                mine,
                [(partner[row], row) for row in shown],
                facts={"other_label": len(other)},
            )
        )
    return found
