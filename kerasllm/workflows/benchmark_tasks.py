"""The tasks of GLUE and SuperGLUE: their files, recipes, metrics and published figures.

GLUE: A. Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding", ICLR 2019. SuperGLUE: A. Wang et al., "SuperGLUE: A Stickier Benchmark for
General-Purpose Language Understanding Systems", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DIAGNOSTIC = "a diagnostic set, without training data"
# As the files are published: those of GLUE's archive, and of the Hugging Face hub.
_TRAIN, _DEV = ("train",), ("dev", "validation", "val")


@dataclass(frozen=True)
class Measure:
    """A metric of a task.

    Attributes:
        key: Its name in `benchmark.json`.
        name: Its name in the table.
        path: Where it stands among the metrics of a run; a tuple is a choice of keys.
        part: `"test"`, the development set, or `"second"`, the second one of the task.
    """

    key: str
    name: str
    path: tuple[str | tuple[str, ...], ...]
    part: str = "test"

    def of(self, metrics: Mapping[str, Any]) -> float | None:
        """Returns its value among the metrics of a part, or `None`."""
        found: Any = metrics
        for step in self.path:
            keys = (step,) if isinstance(step, str) else step
            found = next((found[key] for key in keys if key in found), None)
            if found is None:
                return None
        return float(found)


_ACCURACY = Measure("accuracy", "accuracy", ("accuracy",))
_MCC = Measure("mcc", "MCC", ("mcc",))
_PEARSON = Measure("pearson", "Pearson", ("pearson",))
_SPEARMAN = Measure("spearman", "Spearman", ("spearman",))
_MACRO_F1 = Measure("macro_f1", "macro F1", ("macro_f1",))
# Of the pairs that mean the same; their label is a number in GLUE's own files alone.
_F1 = Measure("f1", "F1", ("per_class", ("1", "equivalent", "duplicate"), "f1"))


@dataclass(frozen=True)
class GlueTask:
    """A task of a benchmark.

    Attributes:
        name: Its name, and that of its folder, in any case, with or without hyphens.
        recipe: The recipe that trains it.
        measures: Its metrics by the rules of the benchmark, which count alike.
        train: Names of the training file, without endings.
        dev: Names of the file that is measured, without endings.
        second: Names of a second file that is measured. Defaults to none.
        settings: What is set over the recipe. Defaults to nothing.
        word: The column of a word that the question is about, written before the first text.
            Defaults to `None`.
    """

    name: str
    recipe: str
    measures: tuple[Measure, ...]
    train: tuple[str, ...] = _TRAIN
    dev: tuple[str, ...] = _DEV
    second: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    word: str | None = None


@dataclass(frozen=True)
class Published:
    """Figures that others have published, in points of 100.

    Attributes:
        model: The model.
        data: `"dev"` or `"test"`.
        source: Where they stand.
        figures: By task and key of the metric.
    """

    model: str
    data: str
    source: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Benchmark:
    """A set of tasks.

    Attributes:
        name: Its name.
        tasks: Its tasks, in the order of the table.
        refused: Tasks that are not trained, by name, and why.
        published: Figures to show beside the own.
    """

    name: str
    tasks: tuple[GlueTask, ...]
    refused: Mapping[str, str]
    published: tuple[Published, ...]


GLUE = Benchmark(
    "GLUE",
    (
        GlueTask("CoLA", "bert_cls", (_MCC,)),
        GlueTask("SST-2", "bert_cls", (_ACCURACY,)),
        GlueTask("MRPC", "pair_cls", (_F1, _ACCURACY)),
        GlueTask(
            "STS-B",
            "text_regression",
            (_PEARSON, _SPEARMAN),
            # The data are published by themselves, too.
            train=(*_TRAIN, "stsb-en-train"),
            dev=(*_DEV, "stsb-en-dev"),
        ),
        # Some training rows of GLUE's file lack a question.
        GlueTask("QQP", "pair_cls", (_F1, _ACCURACY), settings={"data.on_bad_row": "skip"}),
        GlueTask(
            "MNLI",
            "pair_cls",
            (
                Measure("accuracy_matched", "accuracy, matched", ("accuracy",)),
                Measure("accuracy_mismatched", "accuracy, mismatched", ("accuracy",), "second"),
            ),
            dev=("dev_matched", "validation_matched"),
            second=("dev_mismatched", "validation_mismatched"),
        ),
        GlueTask("QNLI", "pair_cls", (_ACCURACY,)),
        GlueTask("RTE", "pair_cls", (_ACCURACY,)),
        GlueTask("WNLI", "pair_cls", (_ACCURACY,)),
    ),
    {"AX": _DIAGNOSTIC},
    (
        Published(
            "BERT base, cased",
            "dev",
            "Hugging Face transformers, examples/pytorch/text-classification/README.md, one seed",
            {
                "CoLA": {"mcc": 56.53},
                "SST-2": {"accuracy": 92.32},
                "MRPC": {"f1": 88.85, "accuracy": 84.07},
                "STS-B": {"pearson": 88.64, "spearman": 88.48},
                "QQP": {"f1": 87.49, "accuracy": 90.71},
                "MNLI": {"accuracy_matched": 83.91, "accuracy_mismatched": 84.10},
                "QNLI": {"accuracy": 90.66},
                "RTE": {"accuracy": 65.70},
                "WNLI": {"accuracy": 56.34},
            },
        ),
        Published(
            "BERT base",
            "test",
            "Devlin et al. 2019, table 1",
            {
                "CoLA": {"mcc": 52.1},
                "SST-2": {"accuracy": 93.5},
                "MRPC": {"f1": 88.9},
                "STS-B": {"spearman": 85.8},
                "QQP": {"f1": 71.2},
                "MNLI": {"accuracy_matched": 84.6, "accuracy_mismatched": 83.4},
                "QNLI": {"accuracy": 90.5},
                "RTE": {"accuracy": 66.4},
            },
        ),
    ),
)

SUPERGLUE = Benchmark(
    "SuperGLUE",
    (
        GlueTask("BoolQ", "pair_cls", (_ACCURACY,), settings={"data.max_length": 256}),
        GlueTask("CB", "pair_cls", (_MACRO_F1, _ACCURACY)),
        GlueTask("RTE", "pair_cls", (_ACCURACY,), settings={"data.max_length": 256}),
        GlueTask("WiC", "pair_cls", (_ACCURACY,), word="word"),
    ),
    {
        "COPA": "its rows are questions with choices",
        "MultiRC": "its rows are questions with several right answers",
        "ReCoRD": "its rows are questions with a gap for an entity",
        "WSC": "its rows are spans of a text",
        **dict.fromkeys(("AX-b", "AX-g"), _DIAGNOSTIC),
    },
    (
        Published(
            "BERT large, cased",
            "test",
            "Wang et al. 2019 (SuperGLUE), table 3",
            {
                "BoolQ": {"accuracy": 77.4},
                "CB": {"macro_f1": 75.7, "accuracy": 83.6},
                "RTE": {"accuracy": 71.7},
                "WiC": {"accuracy": 69.6},
            },
        ),
    ),
)
