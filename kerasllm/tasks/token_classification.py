"""Token classification: a tag for each word, such as named entities and parts of speech."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.errors import DataError, RecipeError
from kerasllm.plurals import counted
from kerasllm.recipe.encoder import EncoderModel
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import EarlyStopping, Training, needs_validation
from kerasllm.recipe.types import (
    ENCODING,
    Count,
    Encoding,
    Files,
    LabelNames,
    Section,
    Share,
    Text,
)
from kerasllm.tasks.task import (
    Api,
    DataFacts,
    EvaluateOptions,
    Evaluation,
    Head,
    Headline,
    InputText,
    Instance,
    PredictOptions,
    Samples,
    Task,
    TextOutputs,
)

if TYPE_CHECKING:
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.data.tagged_windows import TaggedWindows
    from kerasllm.data.tagging import TaggingData as Loaded
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.explained.output import ExplainedOutput
    from kerasllm.models.token_classifier import TokenClassifier
    from kerasllm.run import Run

# Mistakes that are shown.
_MISTAKES = 5
# Tags that a remark names.
_SHOWN = 8
# What a span holds, and its type in Parquet.
_SPAN = [
    ("start", "int64"),
    ("end", "int64"),
    ("text", "string"),
    ("label", "string"),
    ("probability", "double"),
]


class TaggingData(Section):
    """Which sentences are read, and what they become."""

    train: Files = Field(
        description="CoNLL columns, word/tag, jsonl, parquet: file, glob, list or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    text: Text | None = Field(
        None, description="key of the words, or of the text, in records; null: found"
    )
    label: Text | None = Field(
        None, description="key of the tags, or of the spans, in records; null: found"
    )
    tag_column: Annotated[int, "a whole number"] | None = Field(
        None, description="column of the tags in CoNLL files, from 0, or from -1 back; null: last"
    )
    scheme: Literal["auto", "iob1", "iob2", "bioes", "bilou", "io", "plain"] = Field(
        "auto", description="tagging scheme; auto: detected, and shown"
    )
    label_names: LabelNames | None = Field(
        None, description="names of tags that are numbers: a list, {0: O, 1: B-PER}, a file"
    )
    validation_split: Share = Field(
        0.1, description="share of train to hold out if validation is null, by sentence"
    )
    max_length: Annotated[int, Field(ge=8, le=65536), "a whole number from 8 to 65536"] = Field(
        128,
        description="maximum tokens of a window, special tokens included; longer texts: more "
        "windows",
    )
    stride: Count | None = Field(
        None,
        description="stride of the windows over a long sentence, in tokens; null: half a window",
    )
    label_subwords: Literal["first", "all"] = Field(
        "first", description="the subwords of a word that count in the loss"
    )
    buckets: Count = Field(
        18, description="maximum number of sequence lengths that batches are padded to"
    )
    encoding: Encoding | None = ENCODING
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what to do with a bad sentence"
    )
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )

    @field_validator("label")
    @classmethod
    def _label_is_not_the_text(cls, label, info: ValidationInfo):
        if label is not None and info.data.get("text") == label:
            raise refusal(f"the tags cannot have the same key as the words, {label}")
        return label


class TaggingEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "f1", "macro_f1", "partial_f1", "token_accuracy"] = Field(
        "loss", description="validation metric that is monitored"
    )


class TaggingTraining(Training):
    """How a token classifier is trained."""

    early_stopping: TaggingEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )


class TaggingRecipe(WholeRecipe):
    """What a run does that trains a tag for each word.

    Example:

    >>> load("ner", ["training.epochs=4"]).training.epochs
    4
    """

    task: Literal["token_classification"] = Field(description="what the model learns")
    model: EncoderModel = Field(
        EncoderModel(), description="the pretrained model, and how much of it trains"
    )
    data: TaggingData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: TaggingTraining = Field(TaggingTraining(), description="how the weights are trained")

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


class TextToTag(Instance):
    """One instance of a `:predict` request."""

    text: InputText


class TokenClassification(Task):
    """A tag for each word: spans of entities, or the tags themselves."""

    name = "token_classification"
    Recipe = TaggingRecipe
    preset_kind = "encoder"
    sharded = True
    headline = Headline("f1")
    metrics = {
        "loss": "loss",
        "f1": "entity F1, strict",
        "precision": "precision",
        "recall": "recall",
        "macro_f1": "macro F1",
        "macro_precision": "macro precision",
        "macro_recall": "macro recall",
        "partial_f1": "entity F1, partial",
        "partial_precision": "precision, partial",
        "partial_recall": "recall, partial",
        "token_accuracy": "token accuracy",
        "entities": "entities",
        "words": "words",
        "sentences": "sentences",
        "truncated_words": "truncated words",
    }
    evaluate_options = ("text", "label", "encoding", "output")
    predict_options = ("text", "encoding", "delimiter")
    compressions = ("int8", "int4", "gptq", "awq", "prune", "distill")
    search_space: ClassVar[Mapping[str, str]] = {
        **Task.search_space,
        "training.epochs": "int:1:5",
        "training.warmup": "float:0:0.3",
    }
    formats = ("saved_model", "transformers", "litert", "onnx")
    text_suffixes = (".conll",)
    # What early stopping may watch only where tags are of entities.
    of_entities: ClassVar[tuple[str, ...]] = ("f1", "partial_f1")

    def headline_of(self, metrics: Mapping[str, Any]) -> Headline:
        return Headline("f1" if "f1" in metrics else "token_accuracy")

    def load(self, recipe: TaggingRecipe, notify: Callable[[str], None] | None = None) -> Loaded:
        from kerasllm.data.tagging import load_data
        from kerasllm.models.encoder import load_tokenizer

        if notify:
            notify(f"loading the tokenizer of {recipe.model.preset}")
        tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
        data = load_data(recipe.data, tokenizer, seed=recipe.training.seed, notify=notify)
        stopping = recipe.training.early_stopping
        if stopping and data.tags.plain and stopping.metric in self.of_entities:
            raise RecipeError(
                f"{stopping.metric} needs entities, but the tags are plain",
                where="training.early_stopping.metric",
                fix="monitor token_accuracy, macro_f1 or loss",
            )
        return data

    def report_rows(self, recipe: TaggingRecipe, part: str) -> ReportRows:
        from kerasllm.data.report.rows import ReportRow, ReportRows, counting_bad_rows
        from kerasllm.data.tagging import source_of

        data = recipe.data.model_copy(update={"on_bad_row": "skip"})
        source = source_of(data, getattr(data, part), part)

        def rows() -> Iterator[ReportRow]:
            for one in source.sentences():
                yield ReportRow((one.text,), None, one.file, one.line)

        read = counting_bad_rows(source, rows)
        return ReportRows(source.files, source.description(), read, noun="sentence")

    def build(self, recipe: TaggingRecipe, data: Loaded, precision: str) -> TokenClassifier:
        from kerasllm.data.labels import Labels
        from kerasllm.models.encoder import build_task
        from kerasllm.models.new_classifier import set_max_length
        from kerasllm.models.token_classifier import Tagging, TokenClassifier, trained_head
        from kerasllm.models.token_head import TOKENS, assign_head

        settings = recipe.model
        task = build_task(
            settings.preset,
            len(data.tags),
            pooling=TOKENS,
            precision=precision,
            tokenizer=data.tokenizer,
            **settings.of_build(),
        )
        set_max_length(task, recipe.data.max_length)
        tagging = Tagging("plain" if data.tags.plain else "iob2", data.joins, recipe.data.stride)
        labels = Labels(data.tags.names)
        if (head := trained_head(settings.preset, labels)) is not None:
            assign_head(task, head)
        return TokenClassifier(task, labels, data.tokenizer, tagging)

    def model_facts(self, recipe: TaggingRecipe, model: TokenClassifier) -> list[tuple[str, str]]:
        from kerasllm.models.token_classifier import trained_head

        kept = trained_head(recipe.model.preset, model.labels) is not None
        return [("head", "trained for these tags, of the preset" if kept else "new")]

    def loss(self, recipe: TaggingRecipe, data: Loaded):
        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)

    def rows(
        self,
        model: TokenClassifier,
        spec: str | Sequence[str],
        recipe: TaggingRecipe | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[TaggedWindows, list[str]]:
        import numpy as np

        from kerasllm.data.loading import remarks
        from kerasllm.data.tag_schemes import convert
        from kerasllm.data.tagged_windows import (
            StoredWords,
            TaggedWindows,
            open_windows,
            refuse_empty,
        )
        from kerasllm.data.tagging import numbered, remarks_on_tags, scheme_like, source_of
        from kerasllm.environment import store_dir

        source = source_of(recipe.data, spec, "test", joins=model.tagging.joins, options=options)
        store = open_windows(
            source, model.tokenizer, model.max_length, model.stride, store_dir(), notify
        )
        refuse_empty(store, source)
        words = StoredWords.of(store)
        scheme = recipe.data.scheme
        if scheme == "auto":
            scheme = scheme_like(words.tags, model.tagging.scheme)
        found = convert(words.tags, scheme)
        numbers, strange = numbered(found.words, model.tags)
        rows = TaggedWindows(
            store, np.arange(len(store)), words, numbers, len(model.tags), strange=strange
        )
        told = [*source.remarks, *remarks(store), *remarks_on_tags(found, "the data")]
        return rows, told + _strange("the data", strange)

    def evaluate(
        self,
        model: TokenClassifier,
        rows: TaggedWindows,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.evaluation.tagged_words import evaluate_words

        return evaluate_words(model, rows)

    def tables(self, reports: Mapping[str, Mapping[str, Any]], *, detailed: bool = False) -> list:
        from kerasllm.evaluation.tables import ConfusionTable, per_class_table, table_of

        tables = [table_of(reports, self.metrics)]
        report = list(reports.values())[-1]
        if detailed and report.get("per_class"):
            tables.append(per_class_table(report))
            tables.append(ConfusionTable(report["confusion_matrix"], report["confused"]))
        return tables

    def source(self, trained: Any, spec: str | Sequence[str], options: PredictOptions) -> Any:
        try:
            return super().source(trained, spec, options)
        except DataError:
            if options.text is not None or trained.recipe.data.text is None:
                raise
        # What the recipe names may be a key of words, and the files to predict for hold texts.
        data = trained.recipe.data.model_copy(update={"text": None})
        recipe = trained.recipe.model_copy(update={"data": data})
        return super().source(dataclasses.replace(trained, recipe=recipe), spec, options)

    def predict(
        self,
        model: TokenClassifier,
        inputs: Iterable[str],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        from kerasllm.models.tag_texts import tag_stream

        return tag_stream(model, inputs, chunk=chunk)

    def explained_outputs(
        self, model: TokenClassifier, inputs: Iterable[str], target: str | None = None
    ) -> Iterator[ExplainedOutput]:
        from kerasllm.models.explained.spans import explained_spans

        return explained_spans(model, inputs, target)

    def columns(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        # Typed, for lists that are empty tell nothing.
        strings = pa.list_(pa.string())
        span = pa.struct([(name, pa.type_for_alias(kind)) for name, kind in _SPAN])
        kinds = {"spans": pa.list_(span), "tokens": strings, "tags": strings}
        return {
            name: pa.scalar(value, kinds[name]) if name in kinds else value
            for name, value in prediction.items()
        }

    def text(self, prediction: Mapping[str, Any]) -> str:
        words = zip(prediction["tokens"], prediction["tags"], strict=True)
        # What ends a line, or a column, is none of a word.
        lines = (f"{' '.join(word.split())}\t{tag}\n" for word, tag in words)
        return "".join(lines) + "\n"

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        spans = (f"{one['start']}-{one['end']} {one['label']}" for one in prediction["spans"])
        kept = {"text": prediction["text"]} if "text" in prediction else {}
        return {**kept, "spans": "; ".join(spans)}

    def lines(self, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
        kept = {"text": prediction["text"]} if "text" in prediction else {}
        names = ("start", "end", "span", "label", "probability")
        found = [
            {
                **kept,
                **dict(zip(names, (one["start"], one["end"], one["text"], one["label"]))),
                "probability": f"{one['probability']:.6f}",
            }
            for one in prediction["spans"]
        ]
        # A text without a span stays in the file.
        return found or [{**kept, **dict.fromkeys(names)}]

    def line(self, prediction: Mapping[str, Any]) -> str:
        spans = (
            f"{' '.join(one['text'].split())} [{one['label']} {one['probability']:.2f}]"
            for one in prediction["spans"]
        )
        shown = " ".join(prediction["text"].split())
        return "\t".join([", ".join(spans) or "-", shown])

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> TokenClassifier:
        from kerasllm.models.token_classifier import TokenClassifier

        return TokenClassifier.from_preset(folder, precision=precision)

    def save(self, recipe: TaggingRecipe, model: TokenClassifier, run: Run) -> None:
        from kerasllm.run import whole_folder

        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)

    def facts(self, recipe: TaggingRecipe, data: Loaded) -> DataFacts:
        import numpy as np

        from kerasllm.data.loading import remarks
        from kerasllm.data.tagging import remarks_on_tags
        from kerasllm.evaluation.tables import balance_table

        found, facts = data.found["train"], []
        for part, source in data.sources.items():
            more = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
            rows = data.stores[part]
            sentences = len(data.found[part].words.offsets) - 1
            words = len(data.found[part].words.tags)
            reused = ", tokens reused from the cache" if rows.reused else ""
            facts.append(
                (
                    part,
                    (
                        f"{source.files[0]}{more}: {counted(sentences, 'sentence')}, "
                        f"{counted(words, 'word')}{reused}"
                    ),
                )
            )
        if "validation" not in data.sources and data.validation is not None:
            held = counted(len(data.validation.sentence_rows), "sentence")
            facts.append(("validation", f"{held} held out of train"))
        facts.append(("read as", data.sources["train"].description()))
        facts.append(("tags", f"{found.scheme}: {found.why}"))
        windows = sum(map(len, data.stores.values()))
        total = sum(len(each.words.offsets) - 1 for each in data.found.values())
        cut = counted(windows - total, "window more", "windows more") if windows > total else "none"
        facts.append(("truncated", f"0 words; sentences that are too long have {cut}"))
        told = []
        for part, store in data.stores.items():
            told += [f"{part}: {one}" for one in data.sources[part].remarks]
            told += [f"{part}: {one}" for one in remarks(store)]
            told += remarks_on_tags(data.found[part], part)
            told += _strange(part, data.strange.get(part, ()))
        counts = {}
        for name, part in data.parts.items():
            tags = part.tags[part.word_numbers]
            tags = np.where(tags < len(data.tags), tags, 0)
            types = data.tags.spans(tags, part.sentence_offsets).types
            counts[name] = np.bincount(types, minlength=len(data.tags.types))
        return DataFacts(facts, [balance_table(counts, data.tags.types)], told)

    def contents(self, data: Loaded) -> dict[str, str]:
        return {
            part: counted(len(rows.sentence_rows), "sentence") for part, rows in data.parts.items()
        }

    def mistakes(self, recipe: TaggingRecipe, data: Loaded, evaluation: Evaluation) -> list[dict]:
        from kerasllm.evaluation.tagged_words import mistakes_in

        return mistakes_in(data.test, evaluation, data.tags, _MISTAKES)

    def outcomes(self, recipe: TaggingRecipe, data: Loaded, evaluation: Evaluation) -> Outcomes:
        from kerasllm.evaluation.tagged_rows import tagged_rows

        return tagged_rows(data.test, data.tags, evaluation)

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.tagged_rows import measure_tagged

        return measure_tagged(outcomes)

    def balance(self, data: Loaded) -> Mapping[str, Mapping[str, int]]:
        from kerasllm.evaluation.tagged_rows import counts_of

        return {part: counts_of(rows, data.tags) for part, rows in data.parts.items()}

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.run import shell_word

        path = shell_word(run.path)
        return [
            ("try it", f'kerasllm predict {path} "..."'),
            ("predict a file", f"kerasllm predict {path} --input FILE --output spans.csv"),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: TokenClassifier) -> Head:
        import tensorflow as tf

        from kerasllm.export.graph_tags import spans_in_graph

        names = list(model.labels.names)
        return Head(
            kind="token classifier",
            texts=("text",),
            outputs=lambda logits: {"probabilities": tf.nn.softmax(logits)},
            compared="probabilities",
            compared_words="the probabilities of the tags of all tokens",
            agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
            agreeing="tags",
            tolerances=_TOLERANCES,
            architecture="ForTokenClassification",
            pipeline="token-classification",
            config={
                "id2label": {str(number): name for number, name in enumerate(names)},
                "label2id": {name: number for number, name in enumerate(names)},
            },
            facts={"labels": names},
            example=(("Ada Lovelace lived in London.",), ("It rains in Paris.",)),
            described={
                "probabilities": "the probability of each tag, of each token",
            },
            from_logits=(
                "chances = np.exp(logits - logits.max(-1, keepdims=True))",
                'outputs = {"probabilities": chances / chances.sum(-1, keepdims=True)}',
            ),
            reading=(
                f"tags = {names!r}",
                'for text, rows in zip(texts, outputs["probabilities"]):',
                "    print([tags[row.argmax()] for row in rows], text)",
            ),
            limits=(
                (
                    "The tag of a word is that of its first token; ignore the tags of its other "
                    "tokens."
                ),
            ),
            per_token=True,
            of_texts=TextOutputs(
                spans_in_graph(model.tags, model.tagging.joins),
                model.stride,
                described={
                    "starts": "the first character of each span; -1 where a text has fewer spans",
                    "ends": "the character after its last one",
                    "texts": "its text",
                    "labels": "its label",
                    "probabilities": "the mean probability of its words' tags",
                },
                reading=(
                    "for row, text in enumerate(texts):",
                    (
                        '    for start, end, label in zip(outputs["starts"][row], '
                        'outputs["ends"][row], outputs["labels"][row]):'
                    ),
                    "        if start >= 0:",
                    "            print(label.decode(), text[start:end])",
                ),
            ),
        )

    def samples(
        self,
        recipe: TaggingRecipe | None,
        model: TokenClassifier,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.readers.tagged_source import TaggedSource
        from kerasllm.data.tagging import source_of

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        if data:
            source = source_of(data, spec, part)
        else:
            source = TaggedSource(spec, split=part, on_bad_row="skip")
        texts = (one.text for one in source.sentences())
        return Samples(texts, source.files, source.fingerprint if data else None, noun="sentence")

    def stand_in(self, model: TokenClassifier) -> str:
        return "starter:entities/test"

    def api(self, model: TokenClassifier, limits: Any) -> Api:
        from kerasllm.models.tag_texts import prepare_texts, tag_texts

        read = [0]

        def predict(instances: Sequence[Any]) -> list[dict]:
            texts = [one.text for one in instances]
            prepared = prepare_texts(model, texts)
            read[0] += len(prepared.windows.ids)
            found = tag_texts(model, texts, prepared=prepared)
            return [{"spans": one["spans"]} for one in found]

        def warm_up() -> None:
            words = "a word of a text, "
            for times in (1, 8, model.max_length):
                tag_texts(model, [words * times] * 2)

        return Api(
            Instance=TextToTag,
            outputs={"spans": ("DT_VARIANT", (-1, -1))},
            predict=predict,
            example="Ada Lovelace lived in London.",
            warm_up=warm_up,
            facts={"labels": list(model.tags.types), "max_length": model.max_length},
            tokens=lambda: read[0],
        )


# Of probabilities: the largest difference, and the least share of tokens that agree.
_TOLERANCES = {
    (None, None): (1e-3, 1.0),
    (None, "bfloat16"): (0.1, 0.98),
    (None, "float16"): (1e-2, 0.99),
    (None, "int8"): (0.35, 0.97),
}


def _strange(part: str, names: Sequence[str]) -> list[str]:
    """Returns a remark on tags that the training data lack."""
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [
        (f"{part}: tags unknown to the model count as errors: {', '.join(names[:_SHOWN])}{more}")
    ]
