"""Text classification: one text, one of several labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from kerasllm.recipe.lora import Lora
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import EarlyStopping, Training, needs_validation
from kerasllm.recipe.types import (
    Count,
    Files,
    LabelNames,
    LabelWeights,
    Section,
    Share,
    Text,
    WholeNumber,
)
from kerasllm.tasks.task import (
    Api,
    DataFacts,
    EvaluateOptions,
    Evaluation,
    Head,
    Headline,
    Samples,
    Task,
)

if TYPE_CHECKING:
    from kerasllm.data.classification import ClassificationData as Loaded
    from kerasllm.data.examples import Examples
    from kerasllm.models.text_classifier import TextClassifier
    from kerasllm.run import Run

# More classes than these are summed up: a balance of hundreds of lines is not read.
_CLASSES_SHOWN = 12


class ClassificationModel(Section):
    """Which pretrained model, and how much of it trains."""

    preset: Text = Field(
        "minilm_l6_en_uncased",
        description="name in `kerasllm presets list`, hf://, kaggle://, pypi://, folder",
    )
    dropout: Share = Field(0.1, description="every dropout of the model")
    head_dropout: Share | None = Field(
        None, description="dropout before the classification layer; null: as dropout"
    )
    freeze: Literal["backbone"] | WholeNumber = Field(
        0, description="N: embeddings and N lowest layers; backbone: all but the head"
    )
    lora: Lora | None = Field(
        None,
        description="low-rank adaptation, {rank, alpha, dropout, rank_stabilized, dora, targets, "
        "train}; null: none",
    )

    @field_validator("lora")
    @classmethod
    def _lora_needs_a_backbone(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        if lora and info.data.get("freeze") == "backbone":
            raise refusal(
                "lora trains layers that freeze: backbone keeps as they are",
                "remove model.lora, or set model.freeze to 0",
            )
        return lora


class ClassificationData(Section):
    """Which rows are read, and what they become."""

    train: Files = Field(
        description="csv, tsv, jsonl, parquet: file, glob, list of them or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; measured once, at the end; null: none")
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    label: Text | None = Field(
        None, description="column of the labels; null: found by common names"
    )
    label_names: LabelNames | None = Field(
        None, description="{label in the data: name to show}; null: labels as they are"
    )
    validation_split: Share = Field(
        0.1, description="part of train to hold out if validation is null, stratified"
    )
    max_length: Annotated[int, Field(ge=3, le=65536), "a whole number from 3 to 65536"] = Field(
        128, description="most tokens of a text, special tokens included; the rest is cut"
    )
    buckets: Count = Field(18, description="most sequence lengths that batches are padded to")
    class_weights: Literal["balanced"] | LabelWeights | None = Field(
        None, description="balanced: by rarity; {label or its name: weight}; null: all 1"
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row without text or label does to the run"
    )

    @field_validator("label")
    @classmethod
    def _label_is_not_the_text(cls, label: str | None, info: ValidationInfo) -> str | None:
        if label is not None and label == info.data.get("text"):
            raise refusal(f"the labels cannot be in the column of the texts, {label}")
        return label

    @field_validator("label_names")
    @classmethod
    def _names_differ(cls, label_names: dict[str, str] | None) -> dict[str, str] | None:
        label_of: dict[str, str] = {}
        for label, name in (label_names or {}).items():
            if name in label_of:
                raise refusal(f"labels {label_of[name]} and {label} are both named {name}")
            label_of[name] = label
        return label_names

    @field_validator("class_weights")
    @classmethod
    def _weights_are_of_labels(cls, weights, info: ValidationInfo):
        label_names = info.data.get("label_names")
        if label_names is None or not isinstance(weights, dict):
            return weights
        key_of: dict[str, str] = {}
        for key in weights:
            name = label_names.get(key, key)
            if name not in label_names.values():
                known = ", ".join(label_names.values())
                raise refusal(f"{key} is no label", f"the names in data.label_names are: {known}")
            if name in key_of:
                raise refusal(f"{key_of[name]} and {key} are the same label", "keep one of them")
            key_of[name] = key
        return weights


class ClassificationEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "accuracy", "macro_f1", "weighted_f1", "mcc"] = Field(
        "loss", description="validation metric that is watched"
    )


class ClassificationTraining(Training):
    """How a classifier is trained."""

    early_stopping: ClassificationEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )


class ClassificationRecipe(WholeRecipe):
    """What a run does that trains a classifier of texts.

    Example:

    >>> recipe = load("bert_cls", ["training.epochs=3"])
    >>> recipe.training.epochs, recipe.model.preset
    (3, 'minilm_l6_en_uncased')
    """

    task: Literal["text_classification"] = Field(description="what the model learns")
    model: ClassificationModel = Field(
        ClassificationModel(), description="the pretrained model, and how much of it trains"
    )
    data: ClassificationData = Field(description="paths are relative to the folder that the command runs in")
    training: ClassificationTraining = Field(
        ClassificationTraining(), description="how the weights are trained"
    )

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


class TextInstance(BaseModel, extra="forbid"):
    """One instance of a `:predict` request."""

    text: str


class TextClassification(Task):
    """One text, one of several labels."""

    name = "text_classification"
    Recipe = ClassificationRecipe
    preset_kind = "encoder"
    headline = Headline("accuracy")
    metrics = {  # noqa: RUF012
        "loss": "loss",
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "weighted_f1": "weighted F1",
        "macro_precision": "macro precision",
        "macro_recall": "macro recall",
        "mcc": "MCC",
    }
    evaluate_options = ("text", "label")
    compressions = ("int8", "int4", "gptq", "awq", "prune", "distill")

    def load(
        self, recipe: ClassificationRecipe, notify: Callable[[str], None] | None = None
    ) -> Loaded:
        from kerasllm.data.classification import load_data
        from kerasllm.models.encoder import load_tokenizer

        if notify:
            notify(f"loading the tokenizer of {recipe.model.preset}")
        tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
        return load_data(recipe.data, tokenizer, seed=recipe.training.seed, notify=notify)

    def build(self, recipe: ClassificationRecipe, data: Loaded, precision: str) -> TextClassifier:
        from kerasllm.models.text_classifier import bert_classifier

        lora = recipe.model.lora
        return bert_classifier(
            recipe.model.preset,
            labels=data.labels,
            dropout=recipe.model.dropout,
            head_dropout=recipe.model.head_dropout,
            freeze=recipe.model.freeze,
            lora=lora.model_dump() if lora else None,
            precision=precision,
            max_length=recipe.data.max_length,
            tokenizer=data.tokenizer,
        )

    def loss(self, recipe: ClassificationRecipe, data: Loaded):
        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)

    def rows(
        self,
        model: TextClassifier,
        spec: str | Sequence[str],
        recipe: ClassificationRecipe | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[Examples, list[str]]:
        from kerasllm.data.classification import encode_labels
        from kerasllm.data.examples import Examples
        from kerasllm.data.loading import open_tokens, remarks
        from kerasllm.data.readers.sources import Source
        from kerasllm.environment import store_dir

        data = recipe.data
        source = Source(
            spec,
            split="test",
            text=options.text or data.text,
            label=options.label or data.label,
            on_bad_row=data.on_bad_row,
        )
        store = open_tokens(
            source, model.tokenizer, model.max_length, folder=store_dir(), notify=notify
        )
        return Examples.of(store, encode_labels(store, model.labels)), remarks(store)

    def evaluate(
        self,
        model: TextClassifier,
        rows: Examples,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.evaluation.classification import classification_report
        from kerasllm.models.classify import predict_logits

        logits = predict_logits(model, rows, buckets=buckets)
        report = classification_report(rows.labels, logits, model.labels.names)
        return Evaluation(report, logits, logits.argmax(-1))

    def tables(self, reports: Mapping[str, Mapping[str, Any]], *, detailed: bool = False) -> list:
        from kerasllm.evaluation.tables import ConfusionTable, metrics_table, per_class_table

        tables = [metrics_table(reports)]
        if detailed:
            report = list(reports.values())[-1]
            confusion = ConfusionTable(report["confusion_matrix"], list(report["per_class"]))
            tables += [per_class_table(report), confusion]
        return tables

    def predict(
        self,
        model: TextClassifier,
        inputs: Iterable[str],
        *,
        buckets: int = 16,
        chunk: int = 2048,
    ) -> Iterator[dict]:
        from kerasllm.models.classify import classify_stream

        return classify_stream(model, inputs, buckets=buckets, chunk=chunk)

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        chances = prediction["probabilities"]
        columns = {f"probability_{name}": f"{chance:.6f}" for name, chance in chances.items()}
        return {"text": prediction["text"], "label": prediction["label"], **columns}

    def line(self, prediction: Mapping[str, Any]) -> str:
        chance = prediction["probabilities"][prediction["label"]]
        return f"{prediction['label']}\t{chance:.4f}\t{' '.join(prediction['text'].split())}"

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> TextClassifier:
        from kerasllm.models.text_classifier import TextClassifier

        return TextClassifier.from_preset(folder, precision=precision)

    def save(self, recipe: ClassificationRecipe, model: TextClassifier, run: Run) -> None:
        from kerasllm.run import whole_folder

        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)

    def facts(self, recipe: ClassificationRecipe, data: Loaded) -> DataFacts:
        from kerasllm.data.loading import remarks

        source = data.sources["train"]
        columns = f"text from {source.text_column!r}, labels from {source.label_column!r}"
        found = [f"{part}: {one}" for part, store in data.stores.items() for one in remarks(store)]
        cut = int((data.train.lengths >= recipe.data.max_length).sum())
        if cut:
            found.append(
                f"{cut:,} training texts reach data.max_length={recipe.data.max_length} tokens; "
                "what is longer is cut off"
            )
        return DataFacts([*_files(data), ("columns", columns)], [_balance_table(data)], found)

    def mistakes(
        self, recipe: ClassificationRecipe, data: Loaded, evaluation: Evaluation
    ) -> list[dict]:
        import numpy as np

        from kerasllm.data.loading import place_of
        from kerasllm.models.classify import probabilities

        chances, rows = probabilities(evaluation.outputs), data.test
        predicted = chances.argmax(axis=-1)
        wrong = np.flatnonzero(predicted != rows.labels)
        wrong = wrong[np.argsort(-chances[wrong, predicted[wrong]], kind="stable")][:5]
        place, names = place_of(rows.store), data.labels.names
        texts = data.sources["test"].texts_of(rows.rows[wrong])
        return [
            {
                "text": text,
                "expected": names[rows.labels[index]],
                "predicted": f"{names[predicted[index]]} ({chances[index, predicted[index]]:.0%})",
                "where": place(int(rows.rows[index])),
            }
            for index, text in zip(wrong, texts, strict=True)
        ]

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        return [
            ("classify a text", f'kerasllm predict {run.path} "..."'),
            ("classify a file", f"kerasllm predict {run.path} --input FILE --output out.csv"),
            ("measure on other data", f"kerasllm evaluate {run.path} --data FILE"),
        ]

    def head(self, model: TextClassifier) -> Head:
        import tensorflow as tf

        names = model.labels.names

        def outputs(logits):
            labels = tf.constant(names)
            return {
                "label": tf.gather(labels, tf.argmax(logits, -1)),
                "labels": tf.broadcast_to(labels, tf.shape(logits)),
                "probabilities": tf.nn.softmax(logits),
            }

        return Head(
            kind="text classifier",
            texts=("text",),
            outputs=outputs,
            compared="probabilities",
            compared_words="the probabilities of all labels",
            agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
            agreeing="labels",
            tolerances={
                (None, None): (1e-3, 1.0),
                (None, "bfloat16"): (0.05, 0.99),
                (None, "float16"): (1e-2, 0.99),
                (None, "int8"): (0.25, 0.99),
            },
            # transformers' classifiers read the first token, and have no class for the mean.
            architecture=None
            if getattr(model, "pooling", "cls") == "mean"
            else "ForSequenceClassification",
            pipeline="text-classification",
            config={
                "id2label": {str(number): name for number, name in enumerate(names)},
                "label2id": {name: number for number, name in enumerate(names)},
                "problem_type": "single_label_classification",
            },
            facts={"labels": list(names)},
            described={
                "label": "the most likely label of each text",
                "probabilities": "the probability of each label",
                "labels": "the names of the labels, in the order of the probabilities",
            },
            from_logits=(
                "chances = np.exp(logits - logits.max(-1, keepdims=True))",
                'outputs = {"probabilities": chances / chances.sum(-1, keepdims=True)}',
            ),
            reading=(
                f"labels = {list(names)!r}",
                'for text, row in zip(texts, outputs["probabilities"]):',
                "    print(labels[row.argmax()], row.max(), text)",
            ),
            limits=("It always chooses one of its labels, also for texts that none of them fits.",),
        )

    def samples(
        self,
        recipe: ClassificationRecipe | None,
        model: TextClassifier,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.readers.sources import Source

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        source = Source(
            spec,
            split=part,
            text=data and data.text,
            label=data and data.label,
            on_bad_row="skip",
        )
        texts = (text for batch in source.batches() for text in batch.texts)
        return Samples(texts, source.files, source.fingerprint)

    def stand_in(self, model: TextClassifier) -> str:
        return "starter:movie_reviews/test"

    def api(self, model: TextClassifier, limits: Any) -> Api:
        from kerasllm.models.classify import probabilities, tokenize
        from kerasllm.models.served_encoder import ServedEncoder

        names = list(model.labels.names)
        served = ServedEncoder(model)

        def predict(instances: Sequence[TextInstance]) -> list[dict]:
            tokens = tokenize(model, [one.text for one in instances])
            chances = probabilities(served.logits(tokens))
            return [
                {
                    "label": names[int(row.argmax())],
                    "probabilities": dict(zip(names, row.tolist(), strict=True)),
                }
                for row in chances
            ]

        return Api(
            TextInstance,
            {"label": ("DT_STRING", (-1,)), "probabilities": ("DT_FLOAT", (-1, len(names)))},
            predict,
            served.warm_up,
            {"labels": names, "max_length": model.max_length},
        )


def _files(data: Loaded) -> list[tuple[str, str]]:
    facts = []
    for part, source in data.sources.items():
        store = data.stores[part]
        tokens = int(store.lengths.sum())
        reused = ", tokens reused from the store" if store.reused else ""
        files = source.files[0] + (
            f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
        )
        facts.append((part, f"{files}: {len(store):,} rows, {tokens:,} tokens{reused}"))
    if "validation" not in data.sources and data.validation is not None:
        facts.append(("validation", f"{len(data.validation):,} rows held out of train, stratified"))
    return facts


def _balance_table(data: Loaded):
    """Returns the rows of each class in each part, most frequent first, with the shares."""
    import numpy as np
    from rich.table import Table
    from rich.text import Text as Cell

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label", overflow="ellipsis", max_width=32)
    counts = {}
    for name, part in data.parts.items():
        table.add_column(name, justify="right")
        counts[name] = np.bincount(part.labels, minlength=len(data.labels))
    weights = _weights(data)
    if weights is not None:
        table.add_column("weight", justify="right")
    order = np.argsort(-counts["train"], kind="stable")
    for number in order[:_CLASSES_SHOWN]:
        cells = [f"{c[number]:,} ({c[number] / max(c.sum(), 1):.1%})" for c in counts.values()]
        if weights is not None:
            cells.append(f"{weights[number]:.3g}")
        table.add_row(Cell(data.labels.names[number]), *cells)
    rest = order[_CLASSES_SHOWN:]
    if len(rest):
        cells = [
            f"{c[rest].sum():,} ({c[rest].sum() / max(c.sum(), 1):.1%})" for c in counts.values()
        ]
        table.add_row(f"{len(rest)} more labels", *cells)
    table.add_row("all", *(f"{c.sum():,}" for c in counts.values()), style="dim")
    return table


def _weights(data: Loaded):
    """Returns the weight of each class in the loss, or `None` where all are 1."""
    import numpy as np

    if data.train.weights is None:
        return None
    weights = np.ones(len(data.labels))
    weights[data.train.labels] = data.train.weights
    return None if np.all(weights == 1) else weights
