"""Folders with a few rows of GLUE's and SuperGLUE's tasks, laid out as they are published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.toy import toy_rows

# Of each task: its files, the header, and a row of `text`, `pair`, `label` and `number`.
_PAIR = ("index\tsentence1\tsentence2\tlabel", "{number}\t{text}\t{pair}\t{label}")
_PARSES = "\t".join(f"sentence{at}_{kind}" for kind in ("binary_parse", "parse") for at in (1, 2))
_MNLI = f"index\tpromptID\tpairID\tgenre\t{_PARSES}\tsentence1\tsentence2"
_MNLI_ROW = "{number}\t7\t7n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)\t{text}\t{pair}"
_MNLI_DEV = f"{_MNLI}\t" + "\t".join(f"label{at}" for at in range(1, 6)) + "\tgold_label"
GLUE = {
    "CoLA": (None, "gj04\t{label}\t\t{text}"),
    "SST-2": ("sentence\tlabel", "{text} \t{label}"),
    "MRPC": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t1\t2\t{text}\t{pair}"),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "{number}\tmain-news\theadlines\t2015\t{number}\tnone\tnone\t{text}\t{pair}\t{score}",
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "{number}\t7\t8\t{text}\t{pair}\t{label}",
    ),
    "MNLI": (f"{_MNLI}\tlabel1\tgold_label", _MNLI_ROW + "\t{entailment}\t{entailment}"),
    "QNLI": ("index\tquestion\tsentence\tlabel", "{number}\t{text}\t{pair}\t{entailment}"),
    "RTE": (_PAIR[0], "{number}\t{text}\t{pair}\t{entailment}"),
    "WNLI": _PAIR,
}
SUPERGLUE = {
    "BoolQ": ("question", "passage", (False, True)),
    "CB": ("premise", "hypothesis", ("contradiction", "entailment")),
    "RTE": ("premise", "hypothesis", ("not_entailment", "entailment")),
    "WiC": ("sentence1", "sentence2", (False, True)),
}


def write_glue(folder: Path, tasks: Sequence[str] = tuple(GLUE), rows: int = 24) -> Path:
    """Writes GLUE's tasks, with its columns, and MNLI's two development sets."""
    for name in tasks:
        header, row = GLUE[name]
        (folder / name).mkdir(parents=True)
        for part in ("train", *(("dev_matched", "dev_mismatched") if name == "MNLI" else ("dev",))):
            if name == "MNLI" and part != "train":
                header, row = _MNLI_DEV, _MNLI_ROW + "\t{entailment}" * 6
            lines = [header] if header else []
            texts = toy_rows(rows, seed=len(part))
            for number, ((text, label), (pair, _)) in enumerate(zip(texts, toy_rows(rows, seed=9))):
                good = label == "positive"
                values = {"text": text, "pair": pair, "label": int(good), "number": number}
                values["entailment"] = "entailment" if good else "not_entailment"
                values["score"] = f"{number % 26 / 5:.3f}"
                lines.append(row.format(**values))
            (folder / name / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_superglue(folder: Path, rows: int = 12) -> Path:
    """Writes the tasks of SuperGLUE that are pairs of texts."""
    for name, (first, second, labels) in SUPERGLUE.items():
        (folder / name).mkdir(parents=True)
        for part in ("train", "val"):
            lines = []
            for number, (text, label) in enumerate(toy_rows(rows)):
                row = {first: text, second: "the film", "idx": number}
                row |= {"label": labels[label == "positive"]}
                if name == "WiC":
                    row |= {"word": "place", "start1": 2, "end1": 7, "start2": 0, "end2": 5}
                    row |= {"version": 1.1}
                lines.append(json.dumps(row) + "\n")
            (folder / name / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
