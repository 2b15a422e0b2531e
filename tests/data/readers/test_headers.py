"""Tables with and without a header, as GLUE and others publish them."""

import gzip

import pytest

from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

COLA = """\
gj04\t1\t\tOur friends won't buy this analysis, let alone the next one we propose.
gj04\t1\t\tOne more pseudo generalization and I'm giving up.
gj04\t0\t*\tThey drank the pub.
bc01\t1\t\tThe more we study verbs, the crazier they get.
bc01\t0\t*\tThe professor talked us.
cj99\t1\t\tWe yelled ourselves "hoarse.
"""
STSB = """\
A plane is taking off.,An air plane is taking off.,5.0
A man is playing a large flute.,A man is playing a flute.,3.8
"A man, slicing ""bread"".",A man is slicing a potato.,3.8
Three men are playing chess.,Two men are playing chess.,2.6
A man is smoking.,A man is skating on ice.,0.5
"""
GOEMOTIONS = """\
How much do u get an onion of sniff for? 1500+ for me\t7\tedpmtxr
Your girlfriend is a woman of culture.\t27\tedh095l
Yes honey, now go get the mop.\t27\teedsshb
dude, i’m so sorry you’re dealing with this \t11,24\tedpdm3q
He isn't as big, but he's "still\t11\teez2qeg
How dare you do this to me!\t24\ted4yr9r
I never thought of that before now\t7\ted6xydr
"""
GLUE = {
    "MRPC": (
        ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t702876\t702977\tAmrozi called " the witness " .\tReferring to " the witness .\n'
        "0\t2108705\t2108831\tYucaipa owned Dominick 's .\tYucaipa bought Dominick 's .\n"),
        ("#1 String", "#2 String", "Quality"),
        ('Amrozi called " the witness " .', 'Referring to " the witness .', "1"),
    ),
    "RTE": (
        "index\tsentence1\tsentence2\tlabel\n0\tNo weapons found.\tWeapons.\tnot_entailment\n",
        ("sentence1", "sentence2", "label"),
        ("No weapons found.", "Weapons.", "not_entailment"),
    ),
    "SST-2": (
        "sentence\tlabel\nhide new secretions from the parental units \t0\n",
        ("sentence", None, "label"),
        ("hide new secretions from the parental units ", None, "0"),
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tHow is it?\tIs it?\t0\n",
        ("question1", "question2", "is_duplicate"),
        ("How is it?", "Is it?", "0"),
    ),
    "QNLI": (
        "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn 1969.\tentailment\n",
        ("question", "sentence", "label"),
        ("When?", "In 1969.", "entailment"),
    ),
    "MNLI": (
        ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence1_parse\t"
        "sentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t31193\t31193n\tgovernment\t( a )\t(ROOT)\tOne.\tTwo.\tneutral\tneutral\n"),
        ("sentence1", "sentence2", "gold_label"),
        ("One.", "Two.", "neutral"),
    ),
    "STS-B": (
        ("index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain\tMSR\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t4.5\n"
        "1\tmain\tMSR\t2012\t2\tnone\tnone\tA flute.\tA \"flute.\t3.8\n"),
        ("sentence1", "sentence2", "score"),
        ("A plane.", "An air plane.", 4.5),
    ),
}  # fmt: skip


def rows(source):
    return [
        (text, pair, target)
        for batch in source.batches()
        for text, pair, target in zip(
            batch.texts, batch.pairs or [None] * len(batch), batch.targets, strict=True
        )
    ]


def saved(path, content):
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def refusal(path, **arguments):
    with pytest.raises(DataError) as caught:
        Source(path, **arguments)
    assert caught.value.where and caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("name", GLUE)
def test_the_tables_of_glue(tmp_path, name):
    content, columns, first = GLUE[name]
    source = Source(saved(tmp_path / "train.tsv.gz", content), text_pair="auto")
    assert (source.text_column, source.pair_column, source.label_column) == columns
    assert rows(source)[0] == first and not source.headerless
    assert len(rows(source)) == content.count("\n") - 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "numbers", "third", "last"),
    [
        ("cola.tsv", COLA, {"text": "3", "label": "1"},
         ("They drank the pub.", None, "0"), ('We yelled ourselves "hoarse.', None, "1")),
        ("stsb.csv", STSB, {"text": "0", "text_pair": "1", "label": "2"},
         ('A man, slicing "bread".', "A man is slicing a potato.", 3.8),
         ("A man is smoking.", "A man is skating on ice.", 0.5)),
        ("goemotions.tsv", GOEMOTIONS, {"text": "column_0", "label": "column_1"},
         ("Yes honey, now go get the mop.", None, ("27",)),
         ("I never thought of that before now", None, ("7",))),
    ],
)  # fmt: skip
def test_tables_without_a_header(tmp_path, name, content, numbers, third, last, named):
    path = saved(tmp_path / name, content)
    source = Source(path, **(numbers if named else {"text_pair": "auto"}))
    found = rows(source)
    assert len(found) == content.count("\n"), "the first line is a row"
    assert (found[2], found[-1]) == (third, last)
    assert source.headerless and source.description().endswith("no header")
    assert ("by number" if named else "guessed from the rows") in source.columns_found
    assert source.text_column.startswith("column_")
    other = Source(
        path,
        text_pair=source.pair_column,
        text=source.text_column,
        label=source.label_column,
        problem=source.problem,
    )
    assert rows(other) == found and other.fingerprint == source.fingerprint


def test_labels_with_a_comma_between_them(tmp_path):
    source = Source(saved(tmp_path / "a.tsv", GOEMOTIONS))
    assert (source.problem.kind, source.problem.separator) == ("multi_label", ",")
    assert rows(source)[3][2] == ("11", "24")


def test_some_columns_by_number_and_the_others_guessed(tmp_path):
    cola = saved(tmp_path / "a.tsv", COLA)
    for named in ({"text": "3"}, {"label": "1"}):
        source = Source(cola, **named)
        assert (source.text_column, source.label_column) == ("column_3", "column_1")
        assert "guessed" in source.columns_found and len(rows(source)) == 6
    path = saved(tmp_path / "b.csv", STSB)
    for named in ({"text_pair": "1"}, {"label": "2"}, {"text_pair": "1", "label": "2"}):
        source = Source(path, **{"text_pair": "auto", **named})
        assert (source.text_column, source.pair_column) == ("column_0", "column_1")
        assert source.label_column == "column_2" and len(rows(source)) == 5


def test_a_header_is_no_row_where_columns_are_numbered(tmp_path):
    path = saved(tmp_path / "a.csv", "id,review,verdict\n1,a fine film,good\n2,no,bad\n")
    source = Source(path, text="1", label="2")
    assert rows(source) == [("a fine film", None, "good"), ("no", None, "bad")]
    assert (source.text_column, source.label_column) == ("review", "verdict")
    assert "the first line is a header" in source.columns_found and not source.headerless
    path = saved(tmp_path / "b.csv", "satz,urteil\na,1\nb,0\nc,1\n")
    assert Source(path, text="0", label="1").text_column == "satz", "words above numbers"


def test_names_that_are_numbers_win(tmp_path):
    path = saved(tmp_path / "a.csv", "3,0,text\nspam,9,a\nham,8,b\n")
    assert rows(Source(path, label="3")) == [("a", None, "spam"), ("b", None, "ham")]
    path = saved(tmp_path / "b.csv", "1,0\ngood,a text\nbad,another\n")
    assert rows(Source(path, text="0", label="1"))[0] == ("a text", None, "good")


def test_rows_of_numbers_are_not_taken_for_names(tmp_path):
    path = saved(tmp_path / "a.csv", "1,2,fine\n0,3,poor\n1,4,great\n0,5,bad\n")
    source = Source(path, text="2", label="0")
    assert [text for text, _, _ in rows(source)] == ["fine", "poor", "great", "bad"]


@pytest.mark.parametrize(
    "content",
    [
        COLA.replace("\t1\t", "\tgood\t").replace("\t0\t", "\tbad\t"),  # Two columns may be it.
        "2021\tWhat people wrote to us\n" + "1\tA film to avoid\n" * 4 + "0\tA fine film\n" * 4,
        "short\t1\n" + COLA,  # Of another width.
        "1\tA fine film to see\n0\tA film to avoid\n",  # Few rows.
        "good\t" + "A film to see again\n" + "1\tA film to avoid\n" * 9,  # No number at first.
        "".join(f"{n}\tThis is the text {n}\n" for n in range(30)),  # Ids.
        "".join(f"{n % 2}\tThis is text {n}\tThat is text {n}\n" for n in range(30)),  # Two texts.
    ],
)
def test_where_the_columns_are_not_clear_the_fields_are_listed(tmp_path, content):
    path = saved(tmp_path / "a.tsv", content)
    message = refusal(path)
    first = content.split("\n")[0].split("\t")
    assert "looks like a row, not a header" in message
    assert "--text NUMBER and --label NUMBER" in message
    assert f"0: {first[0]!r}, 1: '{first[1][:20]}" in message


def test_without_a_sign_of_a_row_the_first_line_is_a_header(tmp_path):
    message = refusal(saved(tmp_path / "a.csv", "stimmung,satz\ngut,ja\n"))
    assert "No text column and no label column found" in message


def test_numbers_that_no_column_has(tmp_path):
    path = saved(tmp_path / "a.tsv", COLA)
    assert "There is no column 9: the first line has 4" in refusal(path, text="3", label="9")
    assert "cannot both be" in refusal(path, text="3", label="column_3")
    path = saved(tmp_path / "a.csv", "text,label\na,b\n")
    assert "There is no column 2" in refusal(path, text="0", label="2")
    path = saved(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n')
    assert "There is no text column '0'" in refusal(path, text="0", label="1")


def test_all_files_have_a_header_or_none(tmp_path):
    one, two = saved(tmp_path / "1.tsv", COLA), saved(tmp_path / "2.tsv", COLA)
    assert len(rows(Source([one, two]))) == 12
    named = saved(tmp_path / "3.tsv", "source\tlabel\tstar\tsentence\n" + COLA)
    assert "has a header, where the first file has none" in refusal([one, named])
    assert "There is no text column 'sentence'" in refusal([named, one])
    assert "There is no column 3" in refusal([one, saved(tmp_path / "4.tsv", "a\t1\n")])
    lines = saved(tmp_path / "5.jsonl", '{"text": "a", "label": "b"}\n')
    assert "has names" in refusal([one, lines])


def test_texts_without_labels_are_guessed_as_in_the_training(tmp_path):
    path = saved(tmp_path / "a.tsv", COLA)
    texts = [text for text, _, _ in rows(Source(path))]
    for options in ({}, {"text_pair": "auto"}, {"text": "3"}):
        source = Source(path, labelled=False, **options)
        assert (source.text_column, source.problem) == ("column_3", None) and source.headerless
        assert [text for batch in source.batches() for text in batch.texts] == texts
    pairs = Source(saved(tmp_path / "b.csv", STSB), labelled=False, text_pair="auto")
    assert (pairs.text_column, pairs.pair_column) == ("column_0", "column_1")


@pytest.mark.parametrize("content", ["A film that I liked\n", "7\tA film that I liked\n"])
def test_one_row_of_texts_without_labels_is_enough(tmp_path, content):
    (batch,) = Source(saved(tmp_path / "a.tsv", content), labelled=False).batches()
    assert batch.texts == ["A film that I liked"]


@pytest.mark.parametrize("content", [STSB, "2\tone\n1\ttwo\n", "good\tone\nbad\ttwo\n"])
def test_where_the_texts_are_not_clear_a_number_names_them(tmp_path, content):
    path = saved(tmp_path / ("a.csv" if content is STSB else "a.tsv"), content)
    message = refusal(path, labelled=False)
    number = {"A": 1, "2": 1, "g": 0}[content[0]]
    assert f"--text {number}" in message
    (batch,) = Source(path, labelled=False, text="1").batches()
    assert len(batch.texts) == content.count("\n")
