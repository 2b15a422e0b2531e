"""Text classification: one text or two; one label, several labels, or a score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.errors import CommandError, DataError, RecipeError
from kerasllm.plurals import counted
from kerasllm.recipe.lora import Lora
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import EarlyStopping, Training, needs_validation
from kerasllm.recipe.types import (
    DELIMITER,
    ENCODING,
    Count,
    Delimiter,
    Encoding,
    Files,
    LabelNames,
    LabelWeights,
    Location,
    PublicKeys,
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
    InputText,
    Instance,
    PredictOptions,
    Samples,
    Task,
)

if TYPE_CHECKING:
    from kerasllm.data.classification import ClassificationData as Loaded
    from kerasllm.data.examples import Examples
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.explained.output import ExplainedOutput
    from kerasllm.models.text_classifier import TextClassifier
    from kerasllm.run import Run

# Mistakes that are shown.
_MISTAKES = 5
# Fewer training rows than these do not teach a label; so many such labels are named.
_RARE, _RARE_SHOWN = 5, 8


def _named(label_names: str | list[str] | dict[str, str] | None) -> dict[str, str]:
    """Returns the names of labels by label; none where they stand in a file."""
    if isinstance(label_names, list):
        return {str(number): name for number, name in enumerate(label_names)}
    return label_names if isinstance(label_names, dict) else {}


Labels = Annotated[
    Text | Annotated[list[Text], Field(min_length=1)], "a column or a list of columns"
]


# Whose labels are counted together.
_ROWS_AT_ONCE = 65536
# Of fewer rows one prediction may well be right for all.
_FEW_TO_DOUBT = 10
# Rows of validation data from which a temperature cannot be told well.
_FEW_ROWS = 200


class ClassificationModel(Section):
    """Which pretrained model, and how much of it trains."""

    preset: Location = Field(
        "minilm_l6_en_uncased",
        description="name in `kerasllm presets list`, hf://, kaggle://, pypi://, folder, run",
    )
    dropout: Share = Field(0.1, description="every dropout of the model")
    head_dropout: Share | None = Field(
        None, description="dropout before the classification layer; null: as dropout"
    )
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto", description="input of the head; auto: as the preset was trained"
    )
    freeze: Literal["backbone"] | WholeNumber = Field(
        0, description="N: embeddings and N lowest layers; backbone: all but the head"
    )
    lora: Lora | None = Field(
        None,
        description="low-rank adaptation, {rank, alpha, dropout, rank_stabilized, dora, targets, "
        "train}; null: none",
    )
    trust: PublicKeys | None = Field(
        None,
        description="trusted public keys that must have signed preset; null: those of "
        "KERASLLM_TRUST",
    )

    @field_validator("lora")
    @classmethod
    def _lora_needs_a_backbone(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        if lora and info.data.get("freeze") == "backbone":
            raise refusal(
                "lora trains layers that freeze: backbone freezes",
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
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    text_pair: Text | None = Field(
        None,
        description="column of the second texts; null: found by common names, or none; auto: must "
        "be found",
    )
    label: Labels | None = Field(
        None, description="column of the labels, or one 0/1 column per label; null: found"
    )
    problem: Literal["auto", "single_label", "multi_label", "regression"] = Field(
        "auto", description="kind of labels; auto: detected, and shown"
    )
    label_separator: Text | None = Field(
        None, description="separator of the labels in a cell; null: detected"
    )
    label_names: LabelNames | None = Field(
        None,
        description="{label in the data: name}, labels with the same name are merged; null: labels "
        "as they are",
    )
    ignore_labels: Annotated[list[Text], "a list of labels"] | None = Field(
        None, description="labels that mean none, e.g. [N/A]: such rows are skipped; null: none"
    )
    validation_split: Share = Field(
        0.1, description="share of train to hold out if validation is null, stratified"
    )
    max_length: Annotated[int, Field(ge=3, le=65536), "a whole number from 3 to 65536"] = Field(
        128, description="maximum tokens of a text, special tokens included; the rest is truncated"
    )
    truncation: Literal["longest_first", "only_second"] = Field(
        "longest_first", description="how pairs longer than max_length are truncated"
    )
    buckets: Count = Field(
        18, description="maximum number of sequence lengths that batches are padded to"
    )
    class_weights: Literal["balanced"] | LabelWeights | None = Field(
        None,
        description="balanced: inversely to frequency; {label or its name: weight}; null: all 1",
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what to do with a row without text or label"
    )
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )

    @field_validator("label")
    @classmethod
    def _label_is_not_the_text(cls, label, info: ValidationInfo):
        labels = [label] if isinstance(label, str) else label or []
        for name in ("text", "text_pair"):
            if info.data.get(name) in labels:
                raise refusal(f"the labels cannot be in the column of the texts, {info.data[name]}")
        return label

    @field_validator("label_names")
    @classmethod
    def _names_differ(cls, label_names):
        label_of: dict[str, str] = {}
        named = _named(label_names)
        for label, name in named.items():
            if name in label_of and named.get(name) != name:
                raise refusal(
                    f"labels {label_of[name]} and {label} are both named {name}",
                    f"to make them one class, name it too, as in {name}: {name}",
                )
            label_of[name] = label
        return label_names

    @field_validator("class_weights")
    @classmethod
    def _weights_are_of_labels(cls, weights, info: ValidationInfo):
        label_names = _named(info.data.get("label_names"))
        if not label_names or not isinstance(weights, dict):
            return weights
        key_of: dict[str, str] = {}
        for key in weights:
            name = label_names.get(key, key)
            # Where names are labels too, labels that are not named keep their own.
            merged = any(label == own for label, own in label_names.items())
            if name not in label_names.values() and not merged:
                known = ", ".join(label_names.values())
                raise refusal(
                    f"{key} is not a label", f"the names in data.label_names are: {known}"
                )
            if name in key_of:
                raise refusal(f"{key_of[name]} and {key} are the same label", "keep one of them")
            key_of[name] = key
        return weights


class ClassificationEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal[
        *("loss", "accuracy", "macro_f1", "weighted_f1", "mcc"),
        *("micro_f1", "samples_f1", "map"),
        *("pearson", "spearman", "rmse", "mae", "r2"),
    ] = Field("loss", description="validation metric that is monitored")


class ClassificationTraining(Training):
    """How a classifier is trained."""

    early_stopping: ClassificationEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )
    calibrate: bool = Field(
        False, description="fit the temperature of the probabilities on the validation data"
    )


class ClassificationRecipe(WholeRecipe):
    """What a run does that trains a classifier of texts, or of pairs of texts.

    Example:

    >>> recipe = load("bert_cls", ["training.epochs=3"])
    >>> recipe.training.epochs, recipe.model.preset
    (3, 'minilm_l6_en_uncased')
    """

    task: Literal["text_classification"] = Field(description="what the model learns")
    model: ClassificationModel = Field(
        ClassificationModel(), description="the pretrained model, and how much of it trains"
    )
    data: ClassificationData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: ClassificationTraining = Field(
        ClassificationTraining(), description="how the weights are trained"
    )

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        data = info.data.get("data")
        if training.calibrate and data and not (data.validation or data.validation_split):
            raise refusal(
                "calibrate fits the temperature on validation data, but there is none",
                "name data.validation, or set data.validation_split above 0",
                key="calibrate",
            )
        return needs_validation(training, data)


class TextInstance(Instance):
    """One instance of a `:predict` request to a model that reads one text."""

    text: InputText


class PairInstance(Instance):
    """One instance of a `:predict` request to a model that reads two texts."""

    text: InputText
    text_pair: InputText


class TextClassification(Task):
    """One text or two; one label, several labels, or a score."""

    name = "text_classification"
    Recipe = ClassificationRecipe
    preset_kind = "encoder"
    sharded = True
    headline = Headline("accuracy")
    metrics = {
        "loss": "loss",
        "accuracy": "accuracy",
        "micro_f1": "micro F1",
        "macro_f1": "macro F1",
        "weighted_f1": "weighted F1",
        "samples_f1": "samples F1",
        "micro_f1_at_0.5": "micro F1 at 0.5",
        "macro_f1_at_0.5": "macro F1 at 0.5",
        "map": "mAP",
        "subset_accuracy": "all labels right",
        "macro_precision": "macro precision",
        "macro_recall": "macro recall",
        "mcc": "MCC",
        "pearson": "Pearson",
        "spearman": "Spearman",
        "rmse": "RMSE",
        "mae": "MAE",
        "r2": "R²",
        "ece": "calibration error",
        "rows": "rows",
    }
    lower_is_better = frozenset({"loss", "rmse", "mae", "ece"})
    evaluate_options = ("text", "text_pair", "label", "encoding", "delimiter", "on_bad_row")
    predict_options = ("text", "text_pair", "encoding", "delimiter", "abstain_below")
    older: ClassVar[Mapping[str, Any]] = {"model.pooling": "cls"}
    compressions = ("int8", "int4", "gptq", "awq", "prune", "distill")
    search_space: ClassVar[Mapping[str, str]] = {
        **Task.search_space,
        "training.epochs": "int:1:5",
        "training.warmup": "float:0:0.3",
    }
    # What early stopping may watch, by the problem.
    watched: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "single_label": ("loss", "accuracy", "macro_f1", "weighted_f1", "mcc"),
        "multi_label": ("loss", "micro_f1", "macro_f1", "samples_f1", "map"),
        "regression": ("loss", "pearson", "spearman", "rmse", "mae", "r2"),
    }

    def headline_of(self, metrics: Mapping[str, Any]) -> Headline:
        if self.headline.metric in metrics:
            return self.headline
        return Headline(next((name for name in ("micro_f1", "pearson") if name in metrics), "loss"))

    def load(
        self, recipe: ClassificationRecipe, notify: Callable[[str], None] | None = None
    ) -> Loaded:
        from kerasllm.data.classification import load_data
        from kerasllm.models.encoder import load_tokenizer

        if notify:
            notify(f"loading the tokenizer of {recipe.model.preset}")
        tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
        data = load_data(recipe.data, tokenizer, seed=recipe.training.seed, notify=notify)
        _refuse_what_does_not_fit(recipe, data.problem.kind, self.watched)
        if recipe.training.calibrate and data.validation is None:
            raise RecipeError(
                "The temperature is fitted on validation data, but there is none",
                where="training.calibrate",
                fix="give --validation FILE, or set data.validation_split above 0",
            )
        return data

    def report_rows(self, recipe: ClassificationRecipe, part: str) -> ReportRows:
        from kerasllm.data.classification import source_of
        from kerasllm.data.report.rows import labelled_rows

        data = recipe.data.model_copy(update={"on_bad_row": "skip"})
        train = source_of(data, data.train, "train")
        if part == "train":
            return labelled_rows(train)
        return labelled_rows(source_of(data, getattr(data, part), part, train))

    def build(self, recipe: ClassificationRecipe, data: Loaded, precision: str) -> TextClassifier:
        from kerasllm.models import trained_heads
        from kerasllm.models.new_classifier import bert_classifier
        from kerasllm.models.text_classifier import Outputs

        lora = recipe.model.lora
        model = bert_classifier(
            recipe.model.preset,
            labels=data.labels,
            pooling=recipe.model.pooling,
            dropout=recipe.model.dropout,
            head_dropout=recipe.model.head_dropout,
            freeze=recipe.model.freeze,
            lora=lora.model_dump() if lora else None,
            precision=precision,
            max_length=recipe.data.max_length,
            tokenizer=data.tokenizer,
            outputs=Outputs(
                data.problem.kind,
                data.pair,
                recipe.data.truncation,
                mean=data.mean,
                std=data.std,
            ),
        )
        model.standardized = data.problem.kind == "regression"
        folder = trained_heads.folder_with_head(recipe.model.preset)
        if folder is not None and not trained_heads.differences(folder, model):
            trained_heads.load_head(folder, model)
            if model.standardized:
                # It was saved in the unit of the scores.
                model.scale_outputs(1 / data.std, -data.mean / data.std)
        return model

    def loss(self, recipe: ClassificationRecipe, data: Loaded):
        import keras

        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        smoothing = recipe.training.label_smoothing
        if data.problem.kind == "multi_label":
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        if data.problem.kind == "regression":
            return keras.losses.MeanSquaredError()
        return SmoothedSparseCategoricalCrossentropy(smoothing)

    def finish(
        self,
        recipe: ClassificationRecipe,
        model: TextClassifier,
        data: Loaded,
        notify: Callable[[str], None],
    ) -> dict:
        """Puts the unit of scores, or the temperature, into the weights; tunes thresholds."""
        import dataclasses

        from kerasllm.evaluation.calibration import best_temperature
        from kerasllm.evaluation.multi_label import best_thresholds, sigmoid
        from kerasllm.models.classify import predict_logits

        problem, done = model.outputs.problem, {}
        if problem == "regression":
            model.scale_outputs(model.outputs.std, model.outputs.mean)
            model.standardized = False
            return done
        if data.validation is None:
            return done
        rows = data.validation
        if recipe.training.calibrate:
            notify("fitting the temperature")
            before = self.evaluate(model, rows).metrics["ece"]
            logits = predict_logits(model, rows, buckets=recipe.data.buckets)
            temperature = best_temperature(logits, rows.targets())
            model.scale_outputs(1 / temperature)
            model.outputs = dataclasses.replace(model.outputs, temperature=temperature)
            after = self.evaluate(model, rows).metrics["ece"]
            done["remarks"] = [
                f"temperature {temperature:.3g}, fitted on {len(rows):,} validation rows: "
                f"calibration error {before:.4f} -> {after:.4f}"
                + ("; too few examples to be reliable" if len(rows) < _FEW_ROWS else "")
            ]
            done["calibration"] = {
                "temperature": temperature,
                "ece_before": before,
                "ece_after": after,
            }
        if problem == "multi_label":
            notify("tuning the thresholds")
            chances = sigmoid(predict_logits(model, rows, buckets=recipe.data.buckets))
            found = tuple(best_thresholds(rows.targets(), chances).tolist())
            model.outputs = dataclasses.replace(model.outputs, thresholds=found)
            done["thresholds"] = dict(zip(data.labels.names, found, strict=True))
            tuned = sum(each != 0.5 for each in found)
            done.setdefault("remarks", []).append(
                f"thresholds of {tuned} of {counted(len(found), 'label')} tuned on "
                f"{counted(len(rows), 'validation row')}; the others stay at 0.5"
            )
        return done

    def prepare_retraining(
        self, recipe: ClassificationRecipe, model: TextClassifier, data: Loaded
    ) -> None:
        """Makes scores standardized, as those of the training data are."""
        import dataclasses

        if model.outputs.problem == "regression":
            model.scale_outputs(1 / data.std, -data.mean / data.std)
            model.standardized = True
            model.outputs = dataclasses.replace(model.outputs, mean=data.mean, std=data.std)

    def rows(
        self,
        model: TextClassifier,
        spec: str | Sequence[str],
        recipe: ClassificationRecipe | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[Examples, list[str]]:
        from kerasllm.data.classification import examples_of, open_store
        from kerasllm.data.stored_labels import remarks
        from kerasllm.environment import store_dir

        source = _source(recipe, spec, "test", model, options)
        store = open_store(
            source,
            model.tokenizer,
            model.max_length,
            model.outputs.truncation,
            store_dir(),
            notify,
        )
        names = None if recipe and recipe.data.label_names else source.label_names
        labels = model.labels.read_as(names)
        rows = examples_of(store, labels, source.problem, model.tokenizer)
        return rows, [*source.remarks, *remarks(store)]

    def evaluate(
        self,
        model: TextClassifier,
        rows: Examples,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        import numpy as np

        from kerasllm.evaluation.calibration import calibration_report
        from kerasllm.evaluation.classification import classification_report
        from kerasllm.evaluation.multi_label import multi_label_report, sigmoid
        from kerasllm.evaluation.regression import regression_report
        from kerasllm.models.classify import predict_logits, probabilities, scores, thresholds

        logits, names = predict_logits(model, rows, buckets=buckets), model.labels.names
        if model.outputs.problem == "regression":
            found = scores(model, logits)
            report = regression_report(rows.labels, found, model.outputs.std)
            return Evaluation(report, found)
        if model.outputs.problem == "multi_label":
            targets, own = rows.targets() > 0, model.outputs.thresholds
            report = multi_label_report(targets, logits, names, own)
            chances = sigmoid(logits)
            calibration = calibration_report(targets.ravel(), chances.ravel())
            return Evaluation(report | calibration, logits, chances >= thresholds(model))
        report = classification_report(rows.labels, logits, names)
        chances = probabilities(logits)
        decisions = logits.argmax(-1)
        calibration = calibration_report(decisions == rows.labels, np.max(chances, axis=-1))
        return Evaluation(report | calibration, logits, decisions)

    def tables(self, reports: Mapping[str, Mapping[str, Any]], *, detailed: bool = False) -> list:
        from kerasllm.evaluation.tables import (
            ConfusionTable,
            metrics_table,
            per_class_table,
            reliability_table,
        )

        tables = [metrics_table(reports, names=self.metrics)]
        report = list(reports.values())[-1]
        if detailed and "per_class" in report:
            tables.append(per_class_table(report))
        if detailed and "confusion_matrix" in report:
            tables.append(ConfusionTable(report["confusion_matrix"], list(report["per_class"])))
        if detailed and "reliability" in report:
            tables.append(reliability_table(report))
        return tables

    def doubts(self, metrics: Mapping[str, Any]) -> list[str]:
        if "confusion_matrix" not in metrics:
            return []
        matrix, names = metrics["confusion_matrix"], list(metrics["per_class"])
        rows = sum(map(sum, matrix))
        labelled = [name for name, row in zip(names, matrix, strict=True) if any(row)]
        predicted = [name for name, column in zip(names, zip(*matrix), strict=True) if any(column)]
        if rows < _FEW_TO_DOUBT or len(labelled) < 2 or len(predicted) != 1:
            return []
        told = (
            f"predicts {predicted[0]!r} for all {rows:,} rows, "
            f"which have {counted(len(labelled), 'label')}: train for more steps "
            "(training.epochs), with another training.learning_rate, or with "
            "data.class_weights=balanced where one label is much more frequent"
        )
        return [told]

    def figures(self, evaluation: Evaluation) -> dict:
        from kerasllm.evaluation.plots import reliability_figure

        metrics = evaluation.metrics
        return {"reliability": reliability_figure(metrics)} if "reliability" in metrics else {}

    def source(self, trained: Any, spec: str | Sequence[str], options: PredictOptions) -> Any:
        from kerasllm.data.loading import reading_of
        from kerasllm.data.readers.sources import Source
        from kerasllm.models.classifier_outputs import reads_pairs

        data, pair = trained.recipe.data, reads_pairs(trained.folder)
        text_pair = _second_column(pair, options.text_pair, data.text_pair)
        text = options.text or data.text
        source = Source(
            spec,
            split="test",
            text=text,
            text_pair=text_pair,
            labelled=False,
            **reading_of(data, options),
        )
        # A .txt file has no columns: its lines are those of stdin.
        if source.text_column is not None:
            _refuse_single_texts(source, pair)
        return source

    def input_of(self, trained: Any, texts: Sequence[str]) -> str | tuple[str, str]:
        return self.parse_line(trained, texts[0]) if len(texts) == 1 else (texts[0], texts[1])

    def parse(self, trained: Any, texts: Sequence[str]) -> list[str | tuple[str, str]]:
        from kerasllm.models.classifier_outputs import reads_pairs

        if not reads_pairs(trained.folder):
            return list(texts)
        if len(texts) % 2:
            raise CommandError(
                f"The model reads two texts at a time. Received: {len(texts)}",
                fix="give them in pairs, as TEXT TEXT_PAIR",
            )
        return list(zip(texts[::2], texts[1::2], strict=True))

    def parse_line(self, trained: Any, line: str) -> str | tuple[str, str]:
        from kerasllm.models.classifier_outputs import reads_pairs

        if not reads_pairs(trained.folder):
            return line
        parts = line.split("\t")
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise DataError(
                "The model reads two texts, separated by a tab",
                fix="write TEXT, a tab and TEXT_PAIR on each line",
            )
        return parts[0], parts[1]

    def predict(
        self,
        model: TextClassifier,
        inputs: Iterable[str | tuple[str, str]],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        from kerasllm.models.classify import classify_stream

        least = options.abstain_below if options else None
        if least is not None and not 0 <= least <= 1:
            raise CommandError(
                f"A probability is from 0 to 1. Received: {least}", where="--abstain-below"
            )
        if least is not None and model.outputs.problem != "single_label":
            raise CommandError(
                "Only a model that gives each text one label can abstain",
                where="--abstain-below",
                fix="leave it out",
            )
        for found in classify_stream(model, inputs, buckets=buckets, chunk=chunk):
            if least is not None and found["probabilities"][found["label"]] < least:
                found["label"] = None
            yield found

    def explained_outputs(
        self,
        model: TextClassifier,
        inputs: Iterable[str | tuple[str, str]],
        target: str | None = None,
    ) -> Iterator[ExplainedOutput]:
        from kerasllm.models.explained.classes import explained_classes

        return explained_classes(model, inputs, target)

    def columns(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        chances = prediction.get("probabilities", {})
        found = {name: each for name, each in prediction.items() if name != "probabilities"}
        return found | {f"probability_{name}": each for name, each in chances.items()}

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        columns = self.columns(prediction)
        if "labels" in columns:
            columns["labels"] = "|".join(columns["labels"])
        elif "label" in columns:
            columns["label"] = columns["label"] or ""
        else:
            columns["score"] = f"{columns['score']:.6g}"
        chances = (name for name in columns if name.startswith("probability_"))
        return columns | {name: f"{columns[name]:.6f}" for name in chances}

    def line(self, prediction: Mapping[str, Any]) -> str:
        texts = [prediction[name] for name in ("text", "text_pair") if name in prediction]
        shown = [" ".join(text.split()) for text in texts]
        if "score" in prediction:
            said = [f"{prediction['score']:.4f}"]
        elif "labels" in prediction:
            chances = prediction["probabilities"]
            labels = [f"{name} {chances[name]:.2f}" for name in prediction["labels"]]
            said = [", ".join(labels) or "-"]
        else:
            best = max(prediction["probabilities"].values())
            said = [prediction["label"] or "-", f"{best:.4f}"]
        return "\t".join([*said, *shown])

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
        from kerasllm.data.stored_labels import remarks
        from kerasllm.evaluation.tables import balance_table, score_table

        source, problem = data.sources["train"], data.problem
        facts = [*_files(data), ("columns", source.description())]
        if problem.kind != "single_label" or recipe.data.problem != "auto":
            facts.append(("problem", f"{problem.kind.replace('_', ' ')}: {problem.why}"))
        found = [f"{part}: {one}" for part, store in data.stores.items() for one in remarks(store)]
        found += [f"{part}: {one}" for part, each in data.sources.items() for one in each.remarks]
        if source.headerless or data.pair or source.unread_texts or source.other_labels:
            found.append(f"columns: {source.columns_found}")
        if problem.hint:
            found.append(problem.hint)
        found += data.remarks
        if problem.kind == "multi_label" and data.validation is None:
            found.append("thresholds: 0.5 for all labels, because there is no validation data")
        cut = int((data.train.lengths >= recipe.data.max_length).sum())
        if cut:
            texts = counted(cut, "training text reaches", "training texts reach")
            found.append(
                f"{texts} data.max_length={recipe.data.max_length} tokens and will be truncated"
            )
        if problem.kind == "regression":
            scores = {
                name: part.labels * data.std + data.mean if part is data.train else part.labels
                for name, part in data.parts.items()
            }
            if data.validation is not None and "validation" not in data.sources:
                scores["validation"] = data.validation.labels
            return DataFacts(facts, [score_table(scores)], found)
        weights = _weights(data) if problem.kind == "single_label" else None
        counts = {name: _counts(part, len(data.labels)) for name, part in data.parts.items()}
        rows = {name: len(part) for name, part in data.parts.items()}
        found += _rare(counts["train"], data.labels.names)
        found += _in_train_alone(counts, data.labels.names, data.sources)
        table = balance_table(counts, data.labels.names, weights, rows)
        return DataFacts(facts, [table], found)

    def model_facts(
        self, recipe: ClassificationRecipe, model: TextClassifier
    ) -> list[tuple[str, str]]:
        from kerasllm.models import trained_heads

        why = ""
        if recipe.model.pooling == "auto":
            why = ", as the preset was trained" if model.pooling == "mean" else ", the default"
        what = {"cls": "the first token", "mean": "the mean over all tokens"}[model.pooling]
        facts = [("pooling", f"{model.pooling}, {what}{why}")]
        if (head := trained_heads.description(recipe.model.preset, model)) is not None:
            facts.append(("head", head))
        return facts

    def mistakes(
        self, recipe: ClassificationRecipe, data: Loaded, evaluation: Evaluation
    ) -> list[dict]:
        import numpy as np

        from kerasllm.data.loading import place_of
        from kerasllm.evaluation.multi_label import sigmoid
        from kerasllm.models.classify import probabilities

        rows, names = data.test, data.labels.names
        if data.problem.kind == "regression":
            targets = rows.labels
            errors = np.abs(evaluation.outputs - targets)
            worst = np.argsort(-errors, kind="stable")[:_MISTAKES]
            expected = [f"{targets[i]:.4g}" for i in worst]
            predicted = [f"{evaluation.outputs[i]:.4g}" for i in worst]
        elif data.problem.kind == "multi_label":
            targets = rows.targets() > 0
            chances = sigmoid(evaluation.outputs)
            losses = np.where(targets, 1 - chances, chances).max(axis=1)
            wrong = np.flatnonzero((targets != evaluation.decisions).any(axis=1))
            worst = wrong[np.argsort(-losses[wrong], kind="stable")][:_MISTAKES]
            expected = [_joined(names, targets[i]) for i in worst]
            predicted = [_joined(names, evaluation.decisions[i]) for i in worst]
        else:
            chances = probabilities(evaluation.outputs)
            best = chances.argmax(axis=-1)
            wrong = np.flatnonzero(best != rows.labels)
            worst = wrong[np.argsort(-chances[wrong, best[wrong]], kind="stable")][:_MISTAKES]
            expected = [names[rows.labels[i]] for i in worst]
            predicted = [f"{names[best[i]]} ({chances[i, best[i]]:.0%})" for i in worst]
        place = place_of(rows.store)
        texts, pairs = data.sources["test"].pairs_of(rows.rows[worst])
        shown = texts if pairs is None else [f"{a} | {b}" for a, b in zip(texts, pairs)]
        return [
            {"text": text, "expected": right, "predicted": said, "where": place(int(row))}
            for text, right, said, row in zip(
                shown, expected, predicted, rows.rows[worst], strict=True
            )
        ]

    def outcomes(
        self, recipe: ClassificationRecipe, data: Loaded, evaluation: Evaluation
    ) -> Outcomes:
        from kerasllm.evaluation.classified_rows import classified_rows

        names, problem = tuple(data.labels.names), data.problem.kind
        return classified_rows(data.test, data.sources["test"], names, problem, evaluation)

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.classified_rows import measure_classified

        return measure_classified(outcomes)

    def balance(self, data: Loaded) -> Mapping[str, Mapping[str, int]]:
        if data.problem.kind == "regression":
            return {}
        counts = {part: _counts(rows, len(data.labels)) for part, rows in data.parts.items()}
        return {
            part: dict(zip(data.labels.names, each.tolist(), strict=True))
            for part, each in counts.items()
        }

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.models.classifier_outputs import reads_pairs
        from kerasllm.run import shell_word

        texts = '"..." "..."' if reads_pairs(run.model) else '"..."'
        path = shell_word(run.path)
        return [
            ("try it", f"kerasllm predict {path} {texts}"),
            ("predict a file", f"kerasllm predict {path} --input FILE --output out.csv"),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: TextClassifier) -> Head:
        return _HEADS[model.outputs.problem](model)

    def samples(
        self,
        recipe: ClassificationRecipe | None,
        model: TextClassifier,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.classification import source_of
        from kerasllm.data.readers.sources import Source

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        pair = model.outputs.pair
        if data:
            # Read as in the training: what tells files apart includes their columns.
            train = None if part == "train" else source_of(data, data.train, "train")
            source = source_of(data, spec, part, train)
        else:
            text_pair = "auto" if pair else None
            source = Source(
                spec, split=part, text_pair=text_pair, labelled=False, on_bad_row="skip"
            )
        _refuse_single_texts(source, pair)

        def texts():
            for batch in source.batches():
                yield from zip(batch.texts, batch.pairs, strict=True) if pair else batch.texts

        return Samples(texts(), source.files, source.fingerprint if data else None)

    def stand_in(self, model: TextClassifier) -> str:
        pair = model.outputs.pair
        return "starter:sentence_similarity/test" if pair else "starter:movie_reviews/test"

    def api(self, model: TextClassifier, limits: Any) -> Api:
        from kerasllm.models.classify import decode, tokenize
        from kerasllm.models.served_encoder import ServedEncoder

        served, pair, names = ServedEncoder(model), model.outputs.pair, list(model.labels.names)

        def predict(instances: Sequence[Any]) -> list[dict]:
            texts = [(one.text, one.text_pair) if pair else one.text for one in instances]
            return decode(model, served.logits(tokenize(model, texts)))

        chances = {"probabilities": ("DT_FLOAT", (-1, len(names)))}
        outputs = {
            "single_label": {"label": ("DT_STRING", (-1,)), **chances},
            "multi_label": {"labels": ("DT_STRING", (-1, -1)), **chances},
            "regression": {"score": ("DT_FLOAT", (-1,))},
        }
        return Api(
            Instance=PairInstance if pair else TextInstance,
            outputs=outputs[model.outputs.problem],
            predict=predict,
            example=(
                {"text": "A man plays.", "text_pair": "Someone is playing."}
                if pair
                else "A film to remember."
            ),
            warm_up=served.warm_up,
            facts={"labels": names, "max_length": model.max_length},
            tokens=lambda: served.tokens,
        )


def _single_label_head(model: TextClassifier) -> Head:
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
        outputs=outputs,
        compared="probabilities",
        compared_words="the probabilities of all labels",
        agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
        agreeing="labels",
        tolerances=_TOLERANCES,
        pipeline="text-classification",
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
        limits=("It always predicts one of its labels, even for texts that fit none of them.",),
        **_shared(model, "single_label_classification"),
    )


def _multi_label_head(model: TextClassifier) -> Head:
    import tensorflow as tf

    from kerasllm.models.classify import thresholds

    names, own = model.labels.names, thresholds(model)

    def outputs(logits):
        chances = tf.nn.sigmoid(logits)
        return {
            "given": tf.cast(chances >= tf.constant(own, tf.float32), tf.int32),
            "labels": tf.broadcast_to(tf.constant(names), tf.shape(logits)),
            "probabilities": chances,
        }

    return Head(
        kind="multi-label text classifier",
        outputs=outputs,
        compared="probabilities",
        compared_words="the probabilities of all labels",
        agrees=lambda one, other: ((one >= own) == (other >= own)).all(axis=-1),
        agreeing="sets of labels",
        # Where many labels are close to their thresholds, the last digits decide.
        tolerances={key: (far, min(share, 0.99)) for key, (far, share) in _TOLERANCES.items()},
        pipeline="text-classification",
        described={
            "given": "1 for each label that is given, 0 for others",
            "probabilities": "the probability of each label",
            "labels": "the names of the labels, in the order of the probabilities",
        },
        from_logits=('outputs = {"probabilities": 1 / (1 + np.exp(-logits))}',),
        reading=(
            f"labels, thresholds = {list(names)!r}, {[round(each, 6) for each in own.tolist()]}",
            'for text, row in zip(texts, outputs["probabilities"]):',
            "    print([name for name, p, t in zip(labels, row, thresholds) if p >= t], text)",
        ),
        limits=(
            "A label is predicted if its probability reaches its threshold; there may be none.",
        ),
        **_shared(
            model,
            "multi_label_classification",
            thresholds=[round(float(each), 6) for each in own],
        ),
    )


def _regression_head(model: TextClassifier) -> Head:
    import tensorflow as tf

    spread = model.outputs.std
    tolerances = {key: (far * max(spread, 1e-6) * 4, 1.0) for key, (far, _) in _TOLERANCES.items()}

    return Head(
        kind="text regression model",
        outputs=lambda logits: {"score": tf.squeeze(logits, -1)},
        compared="score",
        compared_words="the scores",
        agrees=lambda one, other: abs(one - other) <= 0.5 * spread,
        agreeing="scores (within half a standard deviation)",
        tolerances=tolerances,
        pipeline="text-classification",
        described={"score": "the score of each text"},
        from_logits=('outputs = {"score": logits[:, 0]}',),
        reading=(
            'for text, score in zip(texts, outputs["score"]):',
            "    print(float(score), text)",
        ),
        limits=("It predicts a score for any text, even where no score makes sense.",),
        **_shared(model, "regression"),
    )


_HEADS = {
    "single_label": _single_label_head,
    "multi_label": _multi_label_head,
    "regression": _regression_head,
}
# Of probabilities: the largest difference, and the least share of rows that agree.
_TOLERANCES = {
    (None, None): (1e-3, 1.0),
    (None, "bfloat16"): (0.05, 0.99),
    (None, "float16"): (1e-2, 0.99),
    (None, "int8"): (0.25, 0.99),
}


def _shared(model: TextClassifier, problem_type: str, **facts: Any) -> dict[str, Any]:
    """Returns what the heads of all problems have in common."""
    names, pair = model.labels.names, model.outputs.pair
    return {
        "texts": ("text", "text_pair") if pair else ("text",),
        "architecture": "ForSequenceClassification" if model.pooling == "cls" else None,
        "config": {
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": problem_type,
        },
        "facts": {"labels": list(names), **facts},
        "example": (
            (("A man plays.", "Someone is playing."), ("One text.", "Another one."))
            if pair
            else (("one text",), ("and another",))
        ),
    }


def _source(
    recipe: ClassificationRecipe | None,
    spec: str | Sequence[str],
    split: str,
    model: TextClassifier,
    options: EvaluateOptions,
):
    """Returns labelled files, read for a model that is trained."""
    from kerasllm.data.loading import reading_of
    from kerasllm.data.problems import Problem
    from kerasllm.data.readers.sources import Source

    data, outputs = recipe.data, model.outputs
    # A csv file may write true as True, and the labels of the training data are then true, false.
    booleans = set(model.labels.raw) <= {"true", "false"}
    problem = Problem(outputs.problem, booleans=booleans)
    if outputs.problem == "multi_label":
        # How the labels of a cell are separated is a matter of the file.
        problem = "multi_label"
    source = Source(
        spec,
        split=split,
        text=options.text or data.text,
        text_pair=_second_column(outputs.pair, options.text_pair, data.text_pair),
        label=options.label or data.label,
        problem=problem,
        label_separator=data.label_separator,
        ignore_labels=data.ignore_labels or (),
        on_bad_row=options.on_bad_row or data.on_bad_row,
        **reading_of(data, options),
    )
    _refuse_single_texts(source, outputs.pair)
    return source


def _second_column(pair: bool, option: str | None, of_recipe: str | None) -> str | None:
    """Returns the column of the second texts for `Source`."""
    if not pair and option is not None:
        raise CommandError(
            "The model reads one text at a time", where="--text-pair", fix="leave it out"
        )
    return (option or of_recipe or "auto") if pair else None


def _refuse_single_texts(source: Any, pair: bool) -> None:
    """Refuses files of one text a row for a model that reads two."""
    if pair and source.pair_column is None:
        raise DataError(
            f"The model reads two texts, and only one column of texts was found: "
            f"{source.text_column}",
            where=", ".join(source.files),
            fix="name both with --text COLUMN --text-pair COLUMN",
        )


def _refuse_what_does_not_fit(
    recipe: ClassificationRecipe, problem: str, watched: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuses settings that are for labels of another kind."""
    stopping = recipe.training.early_stopping
    kind = problem.replace("_", " ")
    if stopping and stopping.metric not in watched[problem]:
        raise RecipeError(
            f"{stopping.metric} is not measured where the problem is {kind}",
            where="training.early_stopping.metric",
            fix=f"monitor one of {', '.join(watched[problem])}",
        )
    if problem == "regression" and recipe.training.precision == "bfloat16":
        raise RecipeError(
            "weights in bfloat16 are too imprecise for regression",
            where="training.precision",
            fix="use mixed_bfloat16, which is equally fast",
        )
    for key in ("label_smoothing", "calibrate"):
        if problem == "regression" and getattr(recipe.training, key):
            raise RecipeError(
                f"{key} is for labels, and the data hold scores",
                where=f"training.{key}",
                fix="leave it out; or set data.problem, if the scores are labels",
            )


def _joined(names: Sequence[str], given: Any) -> str:
    return ", ".join(name for name, one in zip(names, given, strict=True) if one) or "no label"


def _counts(part: Examples, labels: int):
    """Returns how many rows of a part have each label, int `[labels]`."""
    import numpy as np

    if part.label_count is not None:
        counts = np.zeros(labels, int)
        for start in range(0, len(part), _ROWS_AT_ONCE):
            counts += part.targets(slice(start, start + _ROWS_AT_ONCE)).sum(axis=0).astype(int)
        return counts
    return np.bincount(part.labels, minlength=labels)


def _rare(counts: Any, names: Sequence[str]) -> list[str]:
    """Returns a warning of labels with too few training rows to be learned, none without such."""
    rare = [(names[i], int(counts[i])) for i in range(len(names)) if counts[i] < _RARE]
    if not rare:
        return []
    shown = ", ".join(f"{name} ({count})" for name, count in rare[:_RARE_SHOWN])
    more = f" and {len(rare) - _RARE_SHOWN} more" if len(rare) > _RARE_SHOWN else ""
    return [
        (
            f"warning: labels with fewer than {_RARE} training examples are hardly learned, and "
            f"their metrics are unreliable: {shown}{more}"
        )
    ]


def _in_train_alone(
    counts: Mapping[str, Any], names: Sequence[str], sources: Mapping[str, Any]
) -> list[str]:
    """Returns a remark on labels that a file to measure on lacks."""
    found = []
    for part in ("validation", "test"):
        if part not in sources:
            continue
        lacks = [i for i in range(len(names)) if counts["train"][i] and not counts[part][i]]
        if lacks:
            shown = ", ".join(f"{names[i]} ({counts['train'][i]:,})" for i in lacks[:_RARE_SHOWN])
            more = f" and {len(lacks) - _RARE_SHOWN} more" if len(lacks) > _RARE_SHOWN else ""
            found.append(f"{part}: has no examples of these labels (count in train): {shown}{more}")
    return found


def _files(data: Loaded) -> list[tuple[str, str]]:
    facts = []
    for part, source in data.sources.items():
        store = data.stores[part]
        tokens = int(store.lengths.sum())
        reused = ", tokens reused from the cache" if store.reused else ""
        files = source.files[0] + (
            f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
        )
        facts.append((part, f"{files}: {counted(len(store), 'row')}, {tokens:,} tokens{reused}"))
    if "validation" not in data.sources and data.validation is not None:
        rows = counted(len(data.validation), "row")
        facts.append(("validation", f"{rows} held out of train, stratified"))
    return facts


def _weights(data: Loaded):
    """Returns the weight of each class in the loss, or `None` where all are 1."""
    import numpy as np

    if data.train.weights is None:
        return None
    weights = np.ones(len(data.labels))
    weights[data.train.labels] = data.train.weights
    return None if np.all(weights == 1) else weights
