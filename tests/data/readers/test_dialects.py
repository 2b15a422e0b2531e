"""Tables as spreadsheets, databases and people write them: delimiters, quotes, blank rows."""

import csv
import io
from pathlib import Path

import pytest

from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

ROWS = [
    ("A film, to be fair", "good"), ("Dull; long", "bad"), ("Fine | fair", "good"), ("no", "bad"),
]  # fmt: skip


def read(path, content=None, **options):
    """Texts with labels, and the source."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = Source(path, **options)
    rows = [
        pair
        for batch in source.batches()
        for pair in zip(batch.texts, batch.labels or [None] * len(batch), strict=True)
    ]
    return rows, source


def refusal(path, content=None, **options):
    with pytest.raises(DataError) as caught:
        read(path, content, **options)
    return caught.value


def written(rows, columns=("text", "label"), **options):
    file = io.StringIO()
    csv.writer(file, **{"lineterminator": "\n", **options}).writerows([columns, *rows])
    return file.getvalue()


# What separates fields


@pytest.mark.parametrize(
    ("delimiter", "word"), [(";", "semicolons"), ("|", "bars"), ("\t", "tabs"), (",", "commas")]
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("style", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_delimiters_are_detected_and_named(tmp_path, suffix, delimiter, word, style):
    content = written(ROWS, delimiter=delimiter, quoting=style)
    found, source = read(tmp_path / f"data.{suffix}", content)
    assert found == ROWS
    usual = {"csv": "commas", "tsv": "tabs"}[suffix]
    named = [remark for remark in source.remarks if f"with {word} between its fields" in remark]
    assert len(named) == (word != usual)


@pytest.mark.parametrize("delimiter", [";", "|", "\t", ","])
def test_delimiters_are_detected_around_texts_of_several_lines(tmp_path, delimiter):
    rows = [(f"line {n}, one\nand; two\nand three", "good") for n in range(5)] + ROWS
    assert read(tmp_path / "data.csv", written(rows, delimiter=delimiter))[0] == rows


def test_a_delimiter_is_detected_without_known_names_and_without_a_header(tmp_path):
    rows = [(f"Satz Nummer {n}, {n} mal so lang", "gut" if n % 2 else "schlecht") for n in range(9)]
    names = ("satz", "urteil")
    found, _ = read(
        tmp_path / "a.csv", written(rows, names, delimiter=";"), text="satz", label="urteil"
    )
    assert found == rows
    found, source = read(tmp_path / "b.csv", written(rows[1:], rows[0], delimiter=";"))
    assert found == rows and source.headerless


@pytest.mark.parametrize("content", ["text\nWell; then\nNow; what\nAh; no\n",
                                     "text\nWell, then\nNow, what, if\nno\n"])  # fmt: skip
def test_punctuation_in_a_column_of_texts_separates_nothing(tmp_path, content):
    suffix = "csv" if ";" in content else "tsv"
    found, _ = read(tmp_path / f"a.{suffix}", content, labelled=False)
    assert [text for text, _ in found] == content.splitlines()[1:]


def test_a_delimiter_that_is_named_wins(tmp_path):
    path = tmp_path / "data.csv"
    found, source = read(path, "text,label~topic\nYes, no~a\nNo, yes~b\n",
                         delimiter="~", text="text,label", label="topic")  # fmt: skip
    assert found == [("Yes, no", "a"), ("No, yes", "b")]
    commas = Source(path, delimiter=",", text="text", label="label~topic")
    assert source.fingerprint != commas.fingerprint
    for tab in ("tab", "\\t", "\t"):
        assert read(path, "text\tlabel\na,b\tc\n", delimiter=tab)[0] == [("a,b", "c")]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "sep=;\r"])
def test_the_line_that_tells_excel_the_separator(tmp_path, line):
    found, source = read(tmp_path / "data.csv", f"{line}\n" + written(ROWS, delimiter=";"))
    assert found == ROWS
    assert next(source.batches()).lines.tolist() == [3, 4, 5, 6]


# Blank fields


def test_trailing_delimiters(tmp_path):
    assert read(tmp_path / "a.csv", "text,label\na,x,\nb,y,,\nc,x\n")[0] == [
        ("a", "x"), ("b", "y"), ("c", "x"),
    ]  # fmt: skip
    assert read(tmp_path / "b.csv", "text,label,,\na,x\nb,y,,\nc,x,\n")[0] == [
        ("a", "x"),
        ("b", "y"),
        ("c", "x"),
    ]
    error = refusal(tmp_path / "c.csv", "text,label\na,x,,z\nb,y\n")
    assert "4 fields, where the header names 2" in error.where


def test_rows_of_delimiters_alone_are_left_out_and_counted(tmp_path):
    found, source = read(tmp_path / "a.csv", "text,label\na,x\n,\n , \n,,,\nb,y\n,\n")
    assert found == [("a", "x"), ("b", "y")] and not source.bad_row_count
    (line,) = source.notes.lines()
    assert line.startswith("rows without a value left out: 4, the first at")
    assert line.endswith("a.csv:3")


@pytest.mark.parametrize("start", [",,\n", "\n , \n,,\n", "\n\n"])
def test_blank_rows_above_the_header(tmp_path, start):
    found, _ = read(tmp_path / "a.csv", start + "text,label,\na,x,\nb,y,\n")
    assert found == [("a", "x"), ("b", "y")]
    rows = [(f"A text of words {n}", "good" if n % 2 else "bad") for n in range(9)]
    found, _ = read(tmp_path / "b.csv", start + written(rows[1:], rows[0]))
    assert found == rows, "nor is a row of them a header"


def test_a_row_without_its_text_alone_is_still_bad(tmp_path):
    error = refusal(tmp_path / "a.csv", "text,label\na,x\n,y\n")
    assert "a.csv:3: the text is empty" in error.where


# A header that comes again


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_files_that_were_joined_repeat_the_header(tmp_path, suffix, mark):
    delimiter = "\t" if suffix == "tsv" else ","
    once = mark + written(ROWS[3:], delimiter=delimiter)
    found, source = read(tmp_path / f"a.{suffix}", once * 3)
    assert found == ROWS[3:] * 3
    (line,) = source.notes.lines()
    assert line.startswith("lines that repeat the header left out: 2") and line.endswith(":3")
    assert source.noted["revised"], "cached tokens of an earlier version are not used"


def test_a_header_in_another_order_is_refused(tmp_path):
    error = refusal(tmp_path / "a.csv", "text,label\na,x\nlabel,text\ny,b\n")
    assert "order changes" in error.what and error.where.endswith("a.csv:3")


def test_a_text_may_be_the_name_of_its_column(tmp_path):
    assert read(tmp_path / "a.csv", "text\none\ntext\n", labelled=False)[0][1] == ("text", None)
    assert read(tmp_path / "b.csv", "text,label\ntext,x\nb,y\n")[0][0] == ("text", "x")


# Quotes


@pytest.mark.parametrize("rows", [
    [("1", "Say \"no\", twice"), ("0", "plain")],
    [("a", "b, c"), ("d", "e")],
])  # fmt: skip
def test_a_space_before_a_quote(tmp_path, rows):
    lines = [f'{label}, "{text.replace(chr(34), chr(34) * 2)}"' for label, text in rows]
    found, source = read(tmp_path / "a.csv", "\n".join(["label, text", *lines]))
    assert found == [(text, label) for label, text in rows]
    assert any("spaces before a field are left out" in remark for remark in source.remarks)


def test_a_quote_after_a_comma_within_a_text_is_its_own(tmp_path):
    rows = [('He said, "no"', "1"), ("plain", "0"), ('And, "yes", or so', "1")]
    found, source = read(tmp_path / "a.csv", written(rows))
    assert found == rows and not source.remarks


ESCAPED = [('He said \\"no\\", twice', 'He said "no", twice'), ("C:\\\\new", "C:\\new"),
           ("a \\t stays", "a \\t stays"), ("plain", "plain")]  # fmt: skip


def test_quotes_that_are_escaped_by_a_backslash(tmp_path):
    content = "text,label\n" + "".join(f'"{text}",{n % 2}\n' for n, (text, _) in enumerate(ESCAPED))
    found, source = read(tmp_path / "a.csv", content)
    assert [text for text, _ in found] == [text for _, text in ESCAPED]
    assert any('escaped by a backslash: \\"' in remark for remark in source.remarks)


def test_a_backslash_before_the_end_of_a_text_escapes_nothing(tmp_path):
    rows = [("C:\\", "1"), ('a "b"', "0"), ("D:\\x\\", "1")]
    found, source = read(tmp_path / "a.csv", written(rows, quoting=csv.QUOTE_ALL))
    assert found == rows and not source.remarks


# Records of several lines


SWALLOWED = [
    'text,label\n"Unclosed at the start,1\na fine row,0\nit ends with a quote",1\nlast,0\n',
    'text,label\nfirst,spam\n"Unclosed,spam\nfine,ham\nends",spam\nlast,ham\n',
    'text,label\nfirst,0\n"Unclosed, with a comma,1\nends",1\nlast,0\n',
    'label,text\n1,first\n0,"Unclosed\n1,fine\n0,ends"\n1,last\n',
    'id,text\n1,first\n2,"Unclosed\n3,fine\n4,ends"\n5,last\n',
    'text;label\n"Unclosed;1\na fine row;0\nit ends with a quote";1\nlast;0\n',
]


@pytest.mark.parametrize("content", SWALLOWED)
@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_rows_that_a_quote_has_swallowed_are_refused_with_both_lines(tmp_path, content, on_bad_row):
    path = tmp_path / "a.csv"
    lines = content.splitlines()
    first = next(number for number, line in enumerate(lines, 1) if '"' in line)
    last = max(number for number, line in enumerate(lines, 1) if '"' in line)
    error = refusal(path, content, labelled="label" in content, on_bad_row=on_bad_row)
    assert f"opened in line {first} and closed in line {last}" in error.what
    assert f"{path}:{first}: {lines[first - 1]!r}" in error.where
    assert f"{path}:{last}: {lines[last - 1]!r}" in error.where


def test_the_advice_for_swallowed_rows_works(tmp_path):
    path = tmp_path / "a.csv"
    plain = SWALLOWED[0].replace('"', "")
    assert len(read(path, plain)[0]) == 4
    text = "Unclosed at the start,1\na fine row,0\nit ends with a quote"
    rows = [(text, "1"), ("last", "0"), ("more", "1"), ("and more", "0")]
    found, source = read(path, written(rows, quoting=csv.QUOTE_ALL))
    assert found == rows and source.notes.counts["rows that span several lines"] == 1


@pytest.mark.parametrize("text", [
    "Dear all,\nthank you,\nbye", "It cost 1,000\nand I love it", "two\n\n\nlines", "a\n1",
    "one, two\nthree, four\nfive, six", "Said: yes, no\nand no", '"quoted"\nand on',
])  # fmt: skip
@pytest.mark.parametrize("order", [1, -1])
def test_texts_of_several_lines_are_read_and_counted(tmp_path, text, order):
    rows = [(text, "1"), ("one line", "0"), (text, "0"), ("another", "1")]
    content = written([row[::order] for row in rows], ("text", "label")[::order])
    found, source = read(tmp_path / "a.csv", content)
    assert found == rows
    (line,) = source.notes.lines()
    assert line.startswith("rows that span several lines: 2, the first at")


def test_texts_of_several_lines_take_no_longer_the_more_there_are(tmp_path):
    from time import process_time

    def seconds(count):
        rows = [(str(n), f"line {n}, one\nand two", "1") for n in range(count)]
        (tmp_path / "a.csv").write_text(written(rows, ("id", "text", "label")))
        start = process_time()
        assert len(read(tmp_path / "a.csv")[0]) == count
        return process_time() - start

    assert seconds(8000) < 20 * seconds(1000) + 0.2


@pytest.mark.parametrize(
    "content",
    [
        'text\tlabel\n"Unclosed at the start\t1\na fine row\t0\nends with a quote"\t1\nlast\t0\n',
        'text\tlabel\n"Unclosed\t1\nno tab here\nends"\t0\nlast\t1\nmore\t0\n',
        'text\tlabel\nfirst\tspam\n"Unclosed\tspam\nno tab\nends"\tham\nlast\tham\n',
    ],
)
def test_rows_of_a_tsv_are_not_joined(tmp_path, content):
    path = tmp_path / "a.tsv"
    path.write_text(content)
    source = Source(path, on_bad_row="skip")
    texts = [text for batch in source.batches() for text in batch.texts]
    expected = [line.split("\t")[0] for line in content.splitlines()[1:] if "\t" in line]
    assert texts == expected
    assert source.bad_row_count == content.count("\n") - 1 - len(texts)


@pytest.mark.parametrize("again", ["Text,LABEL", " text , label", '"TEXT","Label"'])
def test_joined_files_repeat_the_header_in_another_case(tmp_path, again):
    rows, source = read(tmp_path / "a.csv", f"text,label\nfine,good\n{again}\ndull,bad\n")
    assert rows == [("fine", "good"), ("dull", "bad")]
    (note,) = source.notes.lines()
    assert "repeat the header left out: 1" in note and note.endswith("a.csv:3")


def test_a_title_above_the_header_makes_no_label_of_its_names(tmp_path):
    path = tmp_path / "a.csv"
    table = "Survey,,\n,,\nid,text,label\n1,a fine film,good\n2,a dull film,bad\n3,a film,good\n"
    rows, source = read(path, table, text="1", label="2")
    assert rows == [("a fine film", "good"), ("a dull film", "bad"), ("a film", "good")]
    assert any("the first 2 lines" in remark and "'Survey'" in remark for remark in source.remarks)
    # A name that is a value too may be a row.
    table = table.replace("\n3,", "\n4,label,bad\n3,").replace("id,text,label", "label,text,label")
    table = table.replace("1,a fine", "label,a fine")
    error = refusal(path, table, text="1", label="2")
    assert f"{path}:3: the row names the columns" in error.where
    rows, source = read(path, table, text="1", label="2", on_bad_row="skip")
    assert rows[0] == ("a fine film", "good") and len(rows) == 4
    assert source.bad_row_reasons["column names"] == 1


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_whose_quotes_are_escaped_by_a_backslash(tmp_path, quoting):
    written_rows = [*ROWS, ('He said "no" twice', "bad"), ("\\o/", "good")]
    table = written(
        written_rows, delimiter="\t", quoting=quoting, doublequote=False, escapechar="\\"
    )
    # As Spark writes them: a text with a quote is in quotes.
    table = table.replace('\nHe said \\"no\\" twice', '\n"He said \\"no\\" twice"')
    rows, source = read(tmp_path / "a.tsv", table)
    assert rows == written_rows
    assert any("escaped by a backslash" in remark for remark in source.remarks)


def test_texts_with_tabs_and_line_ends_in_a_tsv_whose_quotes_are_escaped(tmp_path):
    rows = [('a "b"\tc', "good"), ('two\n\nlines "of it"', "bad"), ("plain", "good")]
    table = written(rows, delimiter="\t", quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\")
    assert read(tmp_path / "a.tsv", table)[0] == rows


@pytest.mark.parametrize("text", ['"He said \\"no\\" twice', 'a \\"no\\" b', '"a" \\"b\\"'])
def test_backslashes_before_quotes_that_are_characters_of_a_raw_tsv(tmp_path, text):
    assert read(tmp_path / "a.tsv", f"text\tlabel\n{text}\tgood\nb\tbad\n")[0][0] == (text, "good")


def test_advice_on_a_column_can_be_typed(tmp_path):
    path = tmp_path / "a.csv"
    error = refusal(path, "My Text,label\nfine film,good\n", text="my text")
    assert "--set 'data.text=My Text'? (evaluate, predict, data: --text 'My Text')" in error.fix
    error = refusal(path, "texte;note\nbon,4,5\nfade,1,0\n", text="texte", label="note")
    assert "did you mean" not in error.fix and "--set 'data.delimiter=;'" in error.fix


# What stands above the header, and before the rows

GOOD = [("a fine film, really", "pos"), ("dull to the end", "neg"), ("two hours", "neg")]


@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize(
    ("above", "told"),
    [
        ("Survey results 2026\n", "the first line of a.csv ('Survey results 2026')"),
        ("Survey results 2026,\n,\n\n", "the first 3 lines of a.csv ('Survey results 2026')"),
        ("# made 2026\n# by me, and you\n", "the first 2 lines of a.csv ('# made 2026')"),
    ],
)
def test_titles_and_comments_above_the_header(tmp_path, monkeypatch, above, told, mark):
    monkeypatch.chdir(tmp_path)
    found, source = read(
        Path("a.csv"), above.replace(",\n", f"{mark}\n") + written(GOOD, delimiter=mark)
    )
    assert found == GOOD
    assert any(f"{told} left out, above its header" in remark for remark in source.remarks)


def test_comments_above_names_that_nobody_knows(tmp_path):
    table = "# made 2026\n" + written(GOOD, ("kommentar", "klasse"))
    assert read(tmp_path / "a.csv", table, text="kommentar", label="klasse")[0] == GOOD


@pytest.mark.parametrize("header", ["#text,label", "# text,label", "# made 2026\n#text,label"])
def test_a_header_that_is_a_comment(tmp_path, header):
    table = written(GOOD).replace("text,label", header)
    assert read(tmp_path / "a.csv", table)[0] == GOOD


def test_a_title_above_names_that_nobody_knows_is_refused_with_what_to_do(tmp_path):
    table = written(GOOD, ("kommentar", "klasse"))
    error = refusal(tmp_path / "a.csv", "My survey\n" + table, text="kommentar", label="klasse")
    assert "if the first line is a title, remove it" in error.fix
    assert read(tmp_path / "a.csv", table, text="kommentar", label="klasse")[0] == GOOD


def test_a_row_that_holds_a_common_name_is_no_header(tmp_path):
    table = "how do I\nwhere is it now please,question\nthis is how,answer\nwhen is it,question\n"
    with pytest.raises(DataError):
        read(tmp_path / "a.csv", table)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("names", [(), ("",)])
def test_the_names_of_rows_that_r_writes(tmp_path, suffix, quoting, names):
    rows = [(str(n), text, label) for n, (text, label) in enumerate(GOOD, start=1)]
    mark = "\t" if suffix == "tsv" else ","
    table = written(rows, (*names, "text", "label"), quoting=quoting, delimiter=mark)
    found, source = read(tmp_path / f"a.{suffix}", table)
    assert found == GOOD
    assert bool(names) or any("one more field than the header" in each for each in source.remarks)
    names = Source(tmp_path / f"a.{suffix}").readings[0][1].columns(source._files[0])
    assert names == ["", "text", "label"]


def test_words_as_the_names_of_rows_count_where_all_is_in_quotes(tmp_path):
    rows = [(f"r{n}", text, label) for n, (text, label) in enumerate(GOOD)]
    table = written(rows, quoting=csv.QUOTE_ALL)
    assert read(tmp_path / "a.csv", table)[0] == GOOD
    error = refusal(tmp_path / "a.csv", table.replace('"', ""))
    assert "bad" in error.what, "a comma in a text is no row name"


@pytest.mark.parametrize(("mark", "word"), [("::", "double colons"), ("\x01", "^A")])
def test_delimiters_of_movielens_and_hive(tmp_path, mark, word):
    lines = [("text", "label"), *GOOD, ('a "quote"', "pos")]
    found, source = read(tmp_path / "a.csv", "".join(f"{a}{mark}{b}\n" for a, b in lines))
    assert found == lines[1:]
    assert any(f"read with {word} between" in remark for remark in source.remarks)
    rows = "".join(
        f"{n}{mark}{a} and many more words{mark}{b}\n"
        for n, (a, b) in enumerate([*GOOD, ("more", "pos")])
    )
    found, source = read(tmp_path / "b.csv", rows, delimiter=mark)
    assert found[:3] == [(f"{a} and many more words", b) for a, b in GOOD] and source.headerless
    found, source = read(tmp_path / "c.csv", "text\x01label\n\\N\x01a\nb\x01a\n", on_bad_row="skip")
    assert found == [("b", "a")] and source.bad_row_reasons == {"empty text": 1}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_escapes_where_nothing_is_quoted(tmp_path, suffix):
    mark = "\t" if suffix == "tsv" else ","
    rows = [(f'a "b"{mark} c', "pos"), ("two\nlines", "neg"), ("plain C:\\x", "pos"), ("d", "neg")]
    table = written(rows, delimiter=mark, quoting=csv.QUOTE_NONE, escapechar="\\")
    table = table.replace("two\nlines", "two\\\nlines")
    found, source = read(tmp_path / f"a.{suffix}", table)
    assert found == rows
    assert any("a backslash escapes" in remark for remark in source.remarks)


def test_escaped_quotes_alone_where_nothing_is_quoted(tmp_path):
    table = 'text,label\nhe said \\"no\\" to it,neg\nplain,pos\n'
    assert read(tmp_path / "a.csv", table)[0][0] == ('he said "no" to it', "neg")


def test_a_separator_that_is_not_detected_is_named(tmp_path):
    table = written(GOOD, delimiter="^")
    assert "--set 'data.delimiter=^'" in refusal(tmp_path / "a.csv", table).fix
    assert read(tmp_path / "a.csv", table, delimiter="^")[0] == GOOD
