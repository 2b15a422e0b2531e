"""500 faulty files: each is read right, or refused with a message. No row is lost in silence.

A file is a list of rows, written in some format, encoding, kind of line end and compression, with
some fault. Either the rows that are read have the checksum of those that were written, or the file
is refused by a `DataError`, which ends a command with exit status 2. With `on_bad_row="skip"`, as
many rows are counted as bad as are missing.
"""

import csv
import gzip
import hashlib
import io
import json
import random

import pytest

from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

FILES, BATCHES = 500, 10
FORMATS = ("csv", "csv", "tsv", "jsonl", "json", "parquet", "txt")
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le")
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")
LINE_ENDS = ("\n", "\r\n", "\r")
WORDS = (
    "a film to see again twice the plot is thin but fair and who would mind it café naïve über "
    "“quoted” said no yes 1,000 5 10:30 C:\\new <b> & # ; | \"hi\" 'tis it's déjà 3.5 — … € ok"
).split()
LABELS = (("good", "bad"), ("0", "1"), ("spam", "ham", "other"))


# Faults of lines. Each takes a generator, the lines after the header or of objects, and the
# delimiter (none: ""), and returns the lines.


def nothing(rng, lines, delimiter):
    return lines


def stray_quotes(rng, lines, delimiter):
    """A quote begins one row, and one ends the text of a later row."""
    first = rng.randrange(len(lines))
    last = min(len(lines) - 1, first + rng.randint(1, 3))
    lines[first] = '"' + lines[first]
    text, mark, rest = lines[last].rpartition(delimiter) if delimiter else (lines[last], "", "")
    lines[last] = f'{text}"{mark}{rest}'
    return lines


def open_quote(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = '"' + lines[place]
    return lines


def quote_inside(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    middle = len(lines[place]) // 2
    lines[place] = lines[place][:middle] + '"' + lines[place][middle:]
    return lines


def backslashes(rng, lines, delimiter):
    r"""Quotes in texts are written \" (see `_bytes`)."""
    return lines


def blank_lines(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place:place] = rng.choice([[""], [delimiter] * 3, ["   "], [f" {delimiter} "]])
    return lines


def header_again(rng, lines, delimiter):
    lines.insert(rng.randrange(len(lines)), delimiter.join(("text", "label")) if delimiter else "")
    return lines


def mark_inside(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = "\ufeff" + lines[place]
    return lines


def trailing(rng, lines, delimiter):
    return [line + delimiter * rng.randint(0, 2) for line in lines]


def lost_delimiter(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = lines[place].replace(delimiter, "") if delimiter else lines[place]
    return lines


def more_delimiters(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = f"more{delimiter}{lines[place]}" if delimiter else lines[place]
    return lines


def spaces(rng, lines, delimiter):
    before = f'{delimiter}"'
    return [line.replace(before, f'{delimiter} "') if delimiter else line for line in lines]


def nul(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = "\0" + lines[place]
    return lines


def no_row(rng, lines, delimiter):
    lines.insert(rng.randrange(len(lines)), "<<<<<<< HEAD")
    return lines


def key_twice(rng, lines, delimiter):
    place = rng.randrange(len(lines))
    lines[place] = lines[place].replace('"text":', '"text": "", "text":')
    return lines


def other_keys(rng, lines, delimiter):
    half = rng.randrange(1, len(lines))
    return lines[:half] + [line.replace('"text"', '"body"') for line in lines[half:]]


def page(rng, lines, delimiter):
    return ["<!DOCTYPE html>", "<html><body>404</body></html>"]


def pointer(rng, lines, delimiter):
    return ["version https://git-lfs.github.com/spec/v1", "oid sha256:00", "size 1"]


FAULTS = (
    nothing, nothing, stray_quotes, stray_quotes, open_quote, quote_inside, backslashes,
    blank_lines, header_again, mark_inside, trailing, lost_delimiter, more_delimiters, spaces, nul,
    no_row, key_twice, other_keys, page, pointer,
)  # fmt: skip
HARMLESS = {
    "csv": (nothing, backslashes, blank_lines, header_again, mark_inside, trailing, spaces),
    "tsv": (nothing, stray_quotes, open_quote, quote_inside, blank_lines, header_again, mark_inside,
            trailing),
    "jsonl": (nothing, mark_inside, blank_lines),
    "json": (nothing, mark_inside),
    "txt": (nothing, mark_inside, stray_quotes, open_quote, quote_inside),
}  # fmt: skip
"""Faults that a format is read with all the same; other files may be refused."""


class Faulty:
    """A file on disk, and what is known of it.

    Attributes:
        path: The file.
        texts: The texts that were written.
        encoding: Their encoding.
        fault: What is wrong with the lines, a function.
        damage: What is wrong with the bytes: `""`, `"cut"` or `"byte"`.
        harmless: Whether it must be read.
    """

    def __init__(self, number, folder):
        self.rng = rng = random.Random(f"faulty file {number}")
        self.kind = kind = rng.choice(FORMATS)
        self.encoding, self.fault = rng.choice(ENCODINGS), rng.choice(FAULTS)
        self.damage = rng.choice(["", "", "", "", "", "", "cut", "byte"])
        if self.fault is mark_inside and self.encoding not in UNICODE:
            self.fault = nothing
        labels = rng.choice(LABELS)
        rows = [
            (" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) + f" {n}", rng.choice(labels))
            for n in range(rng.randint(4, 40))
        ]
        self.texts = [text for text, _ in rows]
        self.path = folder / f"data.{kind}{rng.choice(['', '', '.gz']) * (kind != 'parquet')}"
        raw = self._parquet(rows) if kind == "parquet" else self._bytes(rows)
        self.harmless = not self.damage and (kind == "parquet" or self.fault in HARMLESS[kind])
        self.path.write_bytes(self._damaged(raw))

    def __str__(self):
        parts = (self.path.name, self.encoding, self.fault.__name__, self.damage)
        return " ".join(filter(None, parts))

    def _parquet(self, rows):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.encoding, self.fault = "utf-8", nothing
        texts, labels = zip(*rows, strict=True)
        file = io.BytesIO()
        pq.write_table(pa.table({"text": texts, "label": labels}), file)
        return file.getvalue()

    def _bytes(self, rows):
        rng, kind, delimiter, head = self.rng, self.kind, "", []
        if kind == "txt":
            lines = list(self.texts)
        elif kind == "tsv":
            delimiter, lines = "\t", ["\t".join(row) for row in rows]
            head = ["text\tlabel"]
        elif kind == "csv":
            delimiter = rng.choice(",,,;|")
            style = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
            file = io.StringIO()
            options = {}
            if self.fault is backslashes:
                options = {"doublequote": False, "escapechar": "\\"}
            writer = csv.writer(
                file, delimiter=delimiter, quoting=style, lineterminator="\n", **options
            )
            writer.writerows([("text", "label"), *rows])
            header, *lines = file.getvalue().splitlines()
            head = [f"sep={delimiter}"] * (rng.random() < 0.1) + [header]
        else:
            keys = rng.choice([("text", "label"), ("Text", "LABEL"), ("review", "class")])
            lines = [json.dumps(dict(zip(keys, row)), ensure_ascii=False) for row in rows]
            if kind == "json":
                lines = [f"{line}," for line in lines[:-1]] + lines[-1:]
                lines = ["[", *self.fault(rng, lines, ""), "]"]
        if kind != "json":
            lines = self.fault(rng, lines, delimiter)
        if self.fault in (page, pointer):
            head = []
            lines = self.fault(rng, lines, delimiter)
        content = "\n".join([*head, *lines, ""]).replace("\n", rng.choice(LINE_ENDS))
        return content.encode(self.encoding, errors="replace")

    def _damaged(self, raw):
        rng, packed = self.rng, self.path.suffix == ".gz"
        if self.damage == "byte" and self.encoding.startswith("utf-16"):
            # A byte more makes other characters of all that follow.
            self.damage = "cut"
        if packed and rng.random() < 0.5:
            raw, packed = gzip.compress(raw), False
        if self.damage:
            at = rng.randrange(1, len(raw))
            if self.damage == "cut":
                raw = raw[:at]
            else:
                raw = raw[:at] + bytes([rng.choice((0x81, 0xFF, 0xC3, 0xE9))]) + raw[at:]
        return gzip.compress(raw) if packed else raw

    def read(self, **options):
        """Reads the texts; returns them and their source."""
        if not self.encoding.startswith("utf-8"):
            options["encoding"] = self.encoding
        options = {"labelled": self.kind != "txt", **options}
        source = Source(self.path, problem="single_label", **options)
        return [text for batch in source.batches() for text in batch.texts], source


def plain(text):
    """A text without what a fault may have put into it."""
    text = text.replace('"', "").replace("\ufeff", "").replace("\\", "")
    return "".join(text.split())


def checksum(texts):
    return hashlib.sha256("\n".join(map(plain, texts)).encode()).hexdigest()


def is_part(found, written):
    """Whether these are written rows, in order; the last may be cut."""
    whole, left = [plain(text) for text in found], iter([plain(text) for text in written])
    return all(text in left for text in whole[:-1])


def check(file, found, missing):
    """Checks rows that were read, of which a number is known to be missing."""
    texts = file.texts
    if file.kind == "txt" and file.fault in (no_row, page, pointer, header_again, nul):
        # In a file of texts, each line is a text.
        return
    if file.damage == "cut":
        assert is_part(found, texts), file
    elif file.damage == "byte":
        assert len(found) + missing >= len(texts), file
    elif missing:
        assert len(found) + missing >= len(texts), file
        assert is_part([*found, ""], texts), file
    else:
        assert checksum(found) == checksum(texts), file


@pytest.mark.parametrize("batch", range(BATCHES))
def test_faulty_files_are_read_right_or_refused(tmp_path, batch):
    ended = {"read": 0, "refused": 0, "skipped": 0}
    for number in range(batch, FILES, BATCHES):
        file = Faulty(number, tmp_path)
        try:
            found, _ = file.read()
        except DataError as error:
            assert not file.harmless, f"{file}: {error}"
            assert error.what and error.exit_status == 2
            ended["refused"] += 1
        else:
            check(file, found, 0)
            ended["read"] += 1
        for options in ({"labelled": False}, {"on_bad_row": "skip"}):
            try:
                found, source = file.read(**options)
            except DataError:
                continue
            check(file, found, source.bad_row_count)
            ended["skipped"] += source.bad_row_count > 0
    assert min(ended.values()) >= 2, ended


def test_without_its_encoding_a_file_is_read_right_or_refused(tmp_path):
    refused = 0
    for number in range(100):
        file = Faulty(number, tmp_path)
        if not file.harmless or file.kind == "parquet":
            continue
        raw, file.encoding = file.path.read_bytes(), "utf-8"
        try:
            found, _ = file.read()
        except DataError as error:
            assert "data.encoding=" in error.fix, f"{file} ({raw[:300]}): {error}"
            refused += 1
        else:
            check(file, found, 0)
    assert refused > 5
