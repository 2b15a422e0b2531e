"""A cleaned copy of the training data, and a list of the removed rows."""

from __future__ import annotations

import contextlib
import gzip
import json
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from kerasllm.data.convert import refuse_input
from kerasllm.data.readers.compression import split_name
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.folders import partition_folders
from kerasllm.data.report.duplicates import repeated_rows
from kerasllm.data.report.personal_data import masked
from kerasllm.data.report.report import DataReport, shown_text
from kerasllm.errors import CommandError, DataError

REASONS = {
    "unusable": "cannot be used",
    "no_words": "no letter or digit",
    "garbled": "garbled",
    "conflict": "other labels for the same text",
    "leak": "also in the validation or test data",
    "duplicate": "the text of an earlier row",
}
"""Why a row is left out, in the order in which reasons are looked for."""

_LISTS = ".json"
_PARQUET = ".parquet"


def clean(found: DataReport, output: str | Path) -> tuple[Counter, Path]:
    """Writes a copy of the training data, as they are but for the rows that are left out.

    Left out are rows that cannot be used, have no word or are garbled; all rows of a text that has
    different labels; rows that are in the validation or test data too; and all but the first of
    rows with the same text. Lines are copied as they stand: columns, quotes and encoding stay.

    Args:
        found: The report.
        output: The file to write, with the suffix of the file that is read; a folder where there
            are several.

    Returns:
        How many rows were left out, by the words of `REASONS`; and the file that lists them.

    Raises:
        CommandError: If the output is one of the files that are read, or has another suffix.
        DataError: If so many rows cannot be used that not all are known, or several are in one
            line.
    """
    scan, part = found.scan, next(iter(found.scan.parts))
    rows = scan.parts[part]
    if rows.bad_count > len(rows.bad):
        raise DataError(
            f"{rows.bad_count:,} rows cannot be used, more than are noted",
            where=", ".join(rows.files[:3]),
            fix="write those that can with `kerasllm data convert --on-bad-row skip` first",
        )
    if folder := next((name for name in rows.files if Path(name).is_dir()), None):
        raise DataError(
            "A folder of texts for each class has no lines to copy",
            where=folder,
            fix="write one row per line: kerasllm data convert FOLDER --output rows.jsonl",
        )
    archives = (str(each) for name in rows.files for each in Path(name).parents if each.is_file())
    if archive := next(archives, None):
        raise DataError(
            "Files in an archive cannot be copied",
            where=archive,
            fix=f"write its rows first: kerasllm data convert {shlex.quote(archive)} "
            "--output rows.jsonl",
        )
    files = [find_files(name, part)[0] for name in rows.files]
    reasons = left_out(found)
    places = _outputs(Path(output), files)
    for number, (file, path) in enumerate(zip(files, places)):
        mine = np.flatnonzero(scan.files[scan.rows_of(part)] == number)
        if len(np.unique(scan.lines[mine])) < len(mine):
            raise DataError(
                "Several rows start on one line, and cannot be told apart",
                where=file.name,
                fix=f"write one row per line: kerasllm data convert {file.name} --output "
                "rows.jsonl",
            )
        kept = [row for row in mine.tolist() if row not in reasons]
        path.parent.mkdir(parents=True, exist_ok=True)
        bad = [one.line for one in rows.bad if one.file == file.name]
        try:
            _copy(file, path, scan.lines[mine].tolist(), set(scan.lines[kept].tolist()), bad)
        except BaseException:
            # Half of a file would be taken for all of it.
            path.unlink(missing_ok=True)
            raise
    listed = Path(f"{str(output).rstrip('/')}.left_out.jsonl")
    counts = Counter(REASONS[reason] for reason in reasons.values())
    counts[REASONS["unusable"]] += rows.bad_count
    with open(listed, "w", encoding="utf-8") as stream:
        for bad in rows.bad:
            line = {"place": f"{bad.file}:{bad.line}", "why": masked(bad.why)}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        for row, read in sorted(scan.read(reasons).items()):
            line = {"place": scan.place(row), "why": REASONS[reasons[row]], "label": read.label}
            line["text"] = shown_text(read)
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    return +counts, listed


def left_out(found: DataReport) -> dict[int, str]:
    """Returns the rows of the training data to leave out, and the key of `REASONS` of each."""
    scan = found.scan
    part = next(iter(scan.parts))
    conflicts = [row for one in found.findings if one.kind == "conflicts" for row in one.rows]
    mine = scan.rows_of(part)
    rows = np.arange(mine.stop)
    others = scan.texts[mine.stop :]
    by_reason = {
        "no_words": rows[scan.plain[mine] == 0],
        "garbled": [row for row in scan.marked["garbled"] if row < mine.stop],
        "conflict": [row for row in conflicts if row < mine.stop],
        "leak": rows[np.isin(scan.texts[mine], others[others != 0])],
        "duplicate": repeated_rows(scan, part),
    }
    reasons: dict[int, str] = {}
    for reason in REASONS:
        for row in by_reason.get(reason, ()):
            reasons.setdefault(int(row), reason)
    return reasons


def _outputs(output: Path, files: list[DataFile]) -> list[Path]:
    if len(files) == 1:
        refuse_input(output, files)
        paths = [output]
    else:
        # Plain, but for what can be packed here.
        names = [Path(file.member or file.path).name for file in files]
        plain = [name[: len(split_name(name)[0])] for name in names]
        plain = [partition_folders(file.path) + name for file, name in zip(files, plain)]
        packed = (".gz" * (file.compression == "gz") for file in files)
        paths = [output / (name + end) for name, end in zip(plain, packed)]
        if len(set(paths)) < len(paths):
            raise CommandError(
                "Two files have the same name, and would be written over each other",
                where="--fix",
                fix="clean them one by one",
            )
        for path in paths:
            refuse_input(path, files)
    for file, path in zip(files, paths):
        if path.name.lower().removesuffix(".gz").endswith(file.suffix):
            continue
        raise CommandError(
            f"A cleaned copy has the format of the original. Received: --fix {output}",
            where=file.name,
            fix=f"end it with {file.suffix}; `kerasllm data convert` writes other formats",
        )
    return paths


def _copy(file: DataFile, path: Path, lines: list[int], kept: set[int], bad: list[int]) -> None:
    """Copies a file without the rows that begin in a line (or have a number) that is not kept."""
    if file.suffix == _PARQUET:
        _copy_parquet(file, path, kept)
    elif file.suffix == _LISTS:
        _copy_list(file, path, kept)
    else:
        begins = dict.fromkeys(bad, False) | {line: line in kept for line in lines}
        _copy_lines(file, path, begins)


def _copy_lines(file: DataFile, path: Path, begins: dict[int, bool]) -> None:
    keep = True
    with file.open_unpacked() as stream, _open(path) as out:
        for number, line in enumerate(stream, start=1):
            keep = begins.get(number, keep)
            if keep:
                out.write(line)


def _copy_list(file: DataFile, path: Path, kept: set[int]) -> None:
    from kerasllm.data.readers.records import records

    rows = [row for line, row, _ in records(file) if line in kept]
    with _open(path) as out:
        out.write(json.dumps(rows, ensure_ascii=False, indent=1).encode() + b"\n")


def _copy_parquet(file: DataFile, path: Path, kept: set[int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open() as stream:
        source = pq.ParquetFile(stream)
        number = 0
        with pq.ParquetWriter(path, source.schema_arrow) as writer:
            for batch in source.iter_batches():
                mask = [number + row + 1 in kept for row in range(len(batch))]
                number += len(batch)
                writer.write_table(pa.Table.from_batches([batch]).filter(pa.array(mask)))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    opened = gzip.open(path, "wb") if path.name.endswith(".gz") else open(path, "wb")
    with opened as stream:
        yield stream
