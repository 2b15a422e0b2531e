"""`kerasllm data report`: what is in the data, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from kerasllm.data.report.findings import GRAVITIES, HARMFUL, Finding, ranked
from kerasllm.data.report.report import DataReport, make_report
from kerasllm.data.report.rows import ReportRows, rows_of_files
from kerasllm.data.report.scan import Lengths
from kerasllm.errors import CommandError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import PARTS, task_of
from kerasllm.workflows.report import Report

# Longer than any text; a tokenizer wants a limit.
_UNCUT = 1 << 30
_MOST_LABELS = 12
_MOST_LANGUAGES = 5
_MOST_PLACES = 3
_MOST_NOISE = 10
# Of more training rows, evenly spread ones are read by the encoder.
_MOST_DEEP = 50_000
_SMALL_ENCODER = "minilm_l6_en_uncased"
_ENCODER_TOKENS = 128
_STYLES = {"wrong": "bold red", "harmful": "yellow", "notable": "cyan"}


def data_report(
    files: Mapping[str, Sequence[str]],
    recipe: WholeRecipe | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    deep: bool = False,
    report: Report | None = None,
) -> DataReport:
    """Reads the data of a training and looks for what is wrong with them.

    Args:
        files: Files by part, where there is no recipe; the training data first.
        recipe: A recipe, whose data are read as its task reads them. Defaults to `None`: what the
            files hold is told by their columns.
        columns: `text`, `text_pair` and `label`, where there is no recipe. Defaults to `None`:
            found by common names.
        deep: Whether labels that are likely wrong are looked for, with a small encoder. Defaults
            to `False`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Raises:
        KerasllmError: If the files cannot be read.

    Example:

    ```python
    found = data_report({"train": ["reviews.csv"], "test": ["test.csv"]})
    print([finding.title for finding in found.findings])
    ```
    """
    report = report or Report()
    with report.busy("reading the data") as busy:
        if recipe is None:
            parts = _parts_of_files(files, columns or {})
            found = make_report(parts, notify=busy.update)
        else:
            parts = parts_of(recipe)
            lengths, empty = _token_lengths(recipe, busy.update)
            found = make_report(
                parts,
                lengths=lengths,
                max_length=recipe.data.max_length if lengths and _cuts(parts) else None,
                empty_length=empty,
                notify=busy.update,
            )
            if lengths is None and recipe.model.preset is not None:
                words = f"lengths in tokens: kerasllm presets fetch {recipe.model.preset}"
                found = replace(found, missing=[*found.missing, words])
        if not deep:
            return found
        noise = _label_noise(found, recipe, busy.update)
        return replace(found, findings=ranked([*found.findings, *noise]))


def parts_of(recipe: WholeRecipe) -> dict[str, ReportRows]:
    """Returns the rows of the parts of a recipe's data, by name.

    Raises:
        CommandError: If the recipe's task has no rows for a report.
        DataError: If a file is missing, or holds other data.
    """
    task = task_of(recipe)
    parts = {
        part: task.report_rows(recipe, part)
        for part in PARTS
        if getattr(recipe.data, part) is not None
    }
    if any(rows is None for rows in parts.values()):
        raise CommandError(
            f"The task {recipe.task} has no report on its data",
            where="--recipe",
            fix="leave --recipe out: the files are then read as tables of texts",
        )
    return parts


def _parts_of_files(
    files: Mapping[str, Sequence[str]], columns: Mapping[str, Any]
) -> dict[str, ReportRows]:
    parts: dict[str, ReportRows] = {}
    for part, spec in files.items():
        parts[part] = rows_of_files(spec, part, like=next(iter(parts.values()), None), **columns)
    return parts


def _cuts(parts: Mapping[str, ReportRows]) -> bool:
    """Whether what is longer than `max_length` is cut; a long text becomes several blocks."""
    return all(rows.noun != "passage" for rows in parts.values())


def _token_lengths(
    recipe: WholeRecipe, notify: Callable[[str], None]
) -> tuple[Lengths | None, int]:
    """Returns what counts tokens, and those of an empty text; `None` without a tokenizer here."""
    preset = recipe.model.preset
    if preset is None:
        return None, 0
    if not _is_here(preset):
        return None, 0
    notify(f"loading the tokenizer of {preset}")
    if task_of(recipe).preset_kind == "encoder":
        from kerasllm.models.encoder import load_tokenizer

        tokenizer = load_tokenizer(preset, notify)
    else:
        from kerasllm.models.decoder import load_text_side

        tokenizer, _ = load_text_side(preset, notify)
    empty = int(tokenizer.encode([""], _UNCUT)[1][-1])

    def lengths(rows: Sequence[tuple[str, ...]]) -> np.ndarray:
        texts = [text for row in rows for text in row]
        sizes = np.diff(tokenizer.encode(texts, _UNCUT)[1]) - empty
        firsts = np.cumsum([0, *(len(row) for row in rows[:-1])])
        return np.add.reduceat(sizes, firsts) + empty

    return lengths, empty


def _label_noise(
    found: DataReport, recipe: WholeRecipe | None, notify: Callable[[str], None]
) -> list[Finding]:
    """Returns the training rows whose label is likely wrong, by a frozen encoder."""
    from kerasllm.data.report.label_noise import confident_learning, cross_validated, enough_rows
    from kerasllm.models.sentence_features import sentence_features

    part, rows = next(iter(found.scan.parts.items()))
    if rows.problem != "single_label":
        raise CommandError(
            "Only texts with a single label can be checked for wrong labels",
            where="--deep",
            fix="leave --deep out, or name the column of the labels with --label",
        )
    numbers = np.arange(*found.scan.rows_of(part).indices(len(found.scan))[:2])
    numbers = numbers[:: -(-len(numbers) // _MOST_DEEP)]
    numbers = numbers[enough_rows(found.scan.labels[numbers])]
    names, labels = np.unique(found.scan.labels[numbers], return_inverse=True)
    if len(names) < 2:
        return []
    read = found.scan.read(numbers.tolist())
    texts = [
        row.texts if len(row.texts) > 1 else row.texts[0]
        for row in (read[number] for number in numbers.tolist())
    ]
    preset, max_length = _SMALL_ENCODER, _ENCODER_TOKENS
    if recipe is not None and task_of(recipe).preset_kind == "encoder":
        preset, max_length = recipe.model.preset, min(recipe.data.max_length, max_length)
    features = sentence_features(preset, texts, max_length=max_length, notify=notify)
    noise = confident_learning(cross_validated(features, labels, notify=notify), labels)
    if not len(noise.rows):
        return []
    name_of = [str(found.scan.names[number]) for number in names]
    wrong = numbers[noise.rows]
    notes = {
        row: f"rather {name_of[label]}"
        for row, label in zip(wrong.tolist(), noise.suggested.tolist())
    }
    return [
        Finding(
            "label_noise",
            HARMFUL,
            f"{counted(len(wrong), 'row')} of {part} may have a wrong label; an estimated "
            f"{noise.share:.1%} of the labels are wrong",
            "read them, most likely first, and correct the wrong ones",
            wrong,
            [(row,) for row in wrong[:_MOST_NOISE]],
            notes=notes,
            facts={"share": round(noise.share, 4)},
        )
    ]


def write_html(found: DataReport, path: str, report: Report) -> None:
    """Writes a report as a page with pictures, and tells where.

    Raises:
        CommandError: If it cannot be written.
    """
    from kerasllm.data.report.html import html_of

    files = [name for rows in found.scan.parts.values() for name in rows.files]
    try:
        Path(path).write_text(html_of(found, f"Data report: {files[0]}"), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", where="--html") from error
    report.line(f"the report is {path}")


def write_clean(found: DataReport, path: str, report: Report) -> None:
    """Writes a cleaned copy of the training data, and tells what was left out.

    Raises:
        KerasllmError: If it cannot be written, or would be written over the data.
    """
    from kerasllm.data.report.clean import clean

    counts, listed = clean(found, path)
    what = "; ".join(f"{why}: {count:,}" for why, count in counts.most_common())
    rows = counted(counts.total(), "row was", "rows were")
    report.line(f"{path}: {rows} left out{' (' + what + ')' if what else ''}, listed in {listed}")


def _is_here(preset: str) -> bool:
    """Whether a preset need not be downloaded: a report does not wait for a download."""
    from kerasllm.models import presets

    if preset in presets.PRESETS:
        return presets.is_cached(preset)
    return Path(preset).expanduser().exists()


# Showing


def show(found: DataReport, report: Report) -> None:
    """Prints a report on a terminal of 80 columns or more."""
    parts = found.describe_parts()
    report.heading("Data")
    report.show(_parts_table(parts))
    for part, facts in parts.items():
        report.line(f"{part} is read as {facts['read_as']}")
        for remark in facts["remarks"]:
            report.line(f"{part}: {_safe(remark)}")
    if labels := {part: facts["labels"] for part, facts in parts.items() if "labels" in facts}:
        report.line()
        report.show(_labels_table(labels, {part: facts["rows"] for part, facts in parts.items()}))
    if any("scores" in facts for facts in parts.values()):
        report.line()
        report.show(
            _spread_table("scores", {part: facts["scores"] for part, facts in parts.items()})
        )
    report.line()
    report.show(
        _spread_table(found.unit, {part: facts["lengths"] for part, facts in parts.items()})
    )
    if counts := found.languages():
        total = counts.total()
        shown = [
            f"{language} {count / total:.1%}"
            for language, count in counts.most_common(_MOST_LANGUAGES)
        ]
        report.line()
        report.line(f"languages of {total:,} texts long enough to detect: {', '.join(shown)}")
    _show_findings(found, report)
    for missing in found.missing:
        report.line(f"not checked: {missing}")


def _show_findings(found: DataReport, report: Report) -> None:
    if not found.findings:
        report.heading("No problems were found in the data")
        return
    report.heading("Findings, most important first")
    texts = found.texts()
    for number, finding in enumerate(found.findings, start=1):
        gravity = GRAVITIES[finding.gravity]
        title = Text.assemble((f"{gravity}: ", _STYLES[gravity]), (_safe(finding.title), "bold"))
        report.show(_hanging(f"{number:>2}.", title))
        for rows in finding.shown:
            for row in rows:
                report.show(_one_line(_example(found, finding, row, texts[row])))
        for place in finding.places[:_MOST_PLACES]:
            report.show(_one_line(Text(f"    {_safe(place)}", "dim")))
        report.show(_hanging("    do:", Text(finding.advice)))


def _example(found: DataReport, finding: Finding, row: int, read: Any) -> Text:
    shown = found.example(finding, row, read)
    label = shown.get("label")
    label = "|".join(label) if isinstance(label, list) else label
    given = f" [{label}]" if "label" in shown else ""
    note = f" ({shown['note']})" if "note" in shown else ""
    place, text = shown["place"], shown.get("text", "")
    return Text.assemble((f"    {_safe(place)}{_safe(given)}{_safe(note)}  ", "dim"), _safe(text))


def _hanging(first: str, text: Text) -> Table:
    """Returns a text that is broken between words, its lines below each other."""
    table = Table.grid(padding=(0, 1))
    table.add_row(first, text)
    return table


def _one_line(text: Text) -> Table:
    """Returns a text that is cut where the screen ends."""
    table = Table.grid()
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row(text)
    return table


def _parts_table(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("part", "rows", "cannot be used", names=("files",))
    for part, facts in parts.items():
        files = facts["files"]
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        rows = counted(facts["rows"], facts["noun"])
        table.add_row(part, rows, f"{facts['unusable']:,}", Text(_safe(files[0]) + more))
    return table


def _labels_table(labels: Mapping[str, Mapping[str, int]], rows: Mapping[str, int]) -> Table:
    table = _table("label", *labels)
    total = {
        label: sum(of.get(label, 0) for of in labels.values())
        for of in labels.values()
        for label in of
    }
    ordered = sorted(total, key=lambda label: -total[label])
    for label in ordered[:_MOST_LABELS]:
        cells = (_share(of.get(label, 0), rows[part]) for part, of in labels.items())
        table.add_row(Text(_safe(label), overflow="ellipsis", no_wrap=True), *cells)
    if rest := ordered[_MOST_LABELS:]:
        cells = (
            _share(sum(of.get(label, 0) for label in rest), rows[part])
            for part, of in labels.items()
        )
        table.add_row(f"{len(rest)} more labels", *cells)
    return table


def _spread_table(unit: str, parts: Mapping[str, Mapping[str, Any]]) -> Table:
    cut = any("cut" in facts for facts in parts.values())
    table = _table(unit, "least", "median", "95%", "most", *(["cut"] if cut else []))
    for part, facts in parts.items():
        if "most" in facts:
            cells = [f"{facts[key]:,g}" for key in ("least", "median", "p95", "most")]
            cells += [f"{facts.get('cut', 0):,}"] if cut else []
            table.add_row(part, *cells)
    return table


def _table(first: str, *numbers: str, names: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, max_width=32)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _share(count: int, rows: int) -> str:
    return f"{count:,} ({count / max(rows, 1):.1%})"


def _safe(text: str) -> str:
    """Returns data so that they do not act on the terminal, and what is not seen is."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
