"""Sequence to sequence: translation, summarization and other text-to-text tasks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kerasllm.errors import DataError, OfflineError, RecipeError
from kerasllm.languages import LANGUAGES
from kerasllm.plurals import counted
from kerasllm.recipe.generation import Generation
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
    Layers,
    Location,
    PublicKeys,
    Section,
    Share,
    Text,
    WholeNumber,
    Width,
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
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.data.seq2seq import Seq2SeqData as Loaded
    from kerasllm.data.seq2seq_rows import Seq2SeqRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.seq2seq_lm import Seq2SeqLM
    from kerasllm.run import Run

# What `model.preset` may be called where there is none.
_NEW = "new"
# The maximum number of characters of a text that are shown.
_SHOWN = 300
_HEADLINES = {"bleu": "bleu", "rouge": "rouge_l"}


class Seq2SeqModel(Section):
    """Which model, and how much of it trains."""

    null_words: ClassVar[Mapping[str, str]] = {"preset": _NEW}

    preset: Location | None = Field(
        None, description="KerasHub preset, hf://, folder or run; new or null: a new model"
    )
    layers: Layers = Field(
        3, description="of a new model: layers of the encoder and of the decoder"
    )
    width: Width = Field(256, description="of a new model: width of its hidden states")
    heads: Layers = Field(4, description="of a new model: attention heads; they divide width")
    feedforward: Width | None = Field(None, description="of a new model; null: 4 x width")
    dropout: Share = Field(0.1, description="every dropout of the model")
    freeze: Literal["encoder"] | WholeNumber = Field(
        0,
        description="N: embeddings and N lowest layers of encoder and decoder; encoder: all of it",
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

    @field_validator("preset", mode="before")
    @classmethod
    def _new_is_none(cls, preset: Any) -> Any:
        return None if preset == _NEW else preset

    @field_validator("heads")
    @classmethod
    def _heads_divide_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width", heads)
        if info.data.get("preset") is None and width % heads:
            raise refusal(f"{heads} heads do not divide a width of {width}")
        return heads

    @field_validator("freeze", "lora")
    @classmethod
    def _a_new_model_trains_whole(cls, value: Any, info: ValidationInfo) -> Any:
        if value and "preset" in info.data and info.data["preset"] is None:
            raise refusal(
                "a new model has no pretrained weights",
                f"name model.preset, or remove model.{info.field_name}",
            )
        return value

    @field_validator("lora")
    @classmethod
    def _lora_needs_both_sides(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        if lora and info.data.get("freeze") == "encoder":
            raise refusal(
                "lora trains layers that freeze: encoder freezes",
                "remove model.lora, or set model.freeze to 0",
            )
        return lora


class Seq2SeqTexts(Section):
    """Which sources and targets are read, and what they become."""

    train: Files = Field(
        description="csv, tsv, jsonl, parquet with two columns; or two text files, source first"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    source: Text | None = Field(
        None, description="column of the sources; null: found by common names"
    )
    target: Text | None = Field(
        None, description="column of the targets; null: found by common names"
    )
    prefix: Annotated[str, "a text"] = Field(
        "auto", description="prefix of each source; auto: the one the preset was trained with"
    )
    validation_split: Share = Field(
        0.1, description="share of train to hold out if validation is null"
    )
    tokenizer: Literal["bpe", "unigram"] = Field(
        "bpe", description="of a new model, trained on sources and targets together"
    )
    vocabulary_size: Annotated[int, Field(ge=260, lt=2**31), "a whole number, 260 or more"] = Field(
        8000, description="vocabulary size of the tokenizer of a new model"
    )
    max_length: Annotated[int, Field(ge=4, le=65536), "a whole number from 4 to 65536"] = Field(
        256, description="maximum tokens of a source; the rest is truncated, and counted"
    )
    max_target_length: Annotated[int, Field(ge=4, le=65536), "a whole number from 4 to 65536"] = (
        Field(256, description="maximum tokens of a target; the rest is truncated, and counted")
    )
    buckets: Count = Field(
        24, description="maximum number of (source, target) lengths that batches are padded to"
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field("error", description="what to do with a bad row")
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )

    @model_validator(mode="before")
    @classmethod
    def _files_of_either_side(cls, values: Any) -> Any:
        """Takes `source` and `target` that are files for the training data: two text files."""
        if not isinstance(values, dict):
            return values
        sides = [values.get(name) for name in ("source", "target")]
        if not all(_is_file(side) for side in sides):
            return values
        train = values.get("train")
        if train is not None and train != sides and not _is_bundled(train):
            raise refusal(
                "files are named both by data.train and by data.source and data.target",
                "name two text files by data.source and data.target alone; beside data.train these "
                "are columns",
                key="source",
            )
        kept = {
            name: value
            for name, value in values.items()
            if name not in ("source", "target", "train") and not _is_bundled(value)
        }
        return {**kept, "train": sides}

    @field_validator("target")
    @classmethod
    def _columns_differ(cls, target: str | None, info: ValidationInfo) -> str | None:
        if target is not None and target == info.data.get("source"):
            raise refusal("source and target must be different columns")
        return target


def _is_file(value: Any) -> bool:
    """Returns whether a value names a file, and no column."""
    from kerasllm.addresses import is_address

    if not isinstance(value, str) or not value:
        return False
    return "/" in value or is_address(value) or os.path.isfile(value)


def _is_bundled(value: Any) -> bool:
    listed = [value] if isinstance(value, str) else value
    return isinstance(listed, list) and all(
        isinstance(one, str) and one.startswith("starter:") for one in listed
    )


class Seq2SeqEvaluation(Section):
    """How what the model writes is measured."""

    metric: Literal["bleu", "rouge"] = Field(
        "bleu", description="the main metric: bleu for translation, rouge for summarization"
    )
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] = Field(
        "13a", description="tokenization of sacreBLEU; zh, ja-mecab... for these languages"
    )
    during_training: bool = Field(
        False, description="generate validation targets at each validation, not only at the end"
    )


class Seq2SeqEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "bleu", "chrf", "rouge_l"] = Field(
        "loss", description="validation metric that is monitored"
    )


class Seq2SeqTraining(Training):
    """How the model is trained."""

    early_stopping: Seq2SeqEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )
    loss_tokens: Count | None = Field(
        None, description="tokens whose logits are in memory at once; null: 128 MB of logits"
    )


class Seq2SeqRecipe(WholeRecipe):
    """What a run does that trains an encoder-decoder.

    Example:

    >>> load("translate", ["training.epochs=3"]).training.epochs
    3
    """

    task: Literal["seq2seq"] = Field(description="what the model learns")
    model: Seq2SeqModel = Field(Seq2SeqModel(), description="the model, and how much of it trains")
    data: Seq2SeqTexts = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: Seq2SeqTraining = Field(Seq2SeqTraining(), description="how the weights are trained")
    generation: Generation = Field(Generation(), description="how the trained model generates")
    evaluation: Seq2SeqEvaluation = Field(
        Seq2SeqEvaluation(), description="how generated text is evaluated"
    )

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


class SourceInstance(Instance):
    """One instance of a `:predict` request."""

    text: InputText


class Seq2Seq(Task):
    """A text becomes another: its translation, its summary."""

    name = "seq2seq"
    Recipe = Seq2SeqRecipe
    preset_kind = "encoder_decoder"
    sharded = True
    headline = Headline("bleu")
    metrics = {
        "loss": "loss",
        "perplexity": "perplexity",
        "accuracy": "accuracy of tokens",
        "bleu": "BLEU",
        "copy_bleu": "  of the copied source",
        "chrf": "chrF",
        "copy_chrf": "  of the copied source",
        "rouge_1": "ROUGE-1",
        "lead_rouge_1": "  of the first 3 sentences",
        "rouge_2": "ROUGE-2",
        "lead_rouge_2": "  of the first 3 sentences",
        "rouge_l": "ROUGE-L",
        "lead_rouge_l": "  of the first 3 sentences",
        "rouge_lsum": "ROUGE-Lsum",
        "lead_rouge_lsum": "  of the first 3 sentences",
        "cut_off": "share truncated by the limit",
        "tokens": "target tokens",
        "rows": "rows",
    }
    lower_is_better = frozenset({"loss", "perplexity"})
    evaluate_options = ("text", "text_pair", "encoding", "delimiter", "on_bad_row", "output")
    predict_options = ("text", "encoding", "delimiter")
    text_suffixes = (".txt", *sorted(LANGUAGES))
    # Products with the vocabulary want all cores for one operation.
    sliced = False
    formats = ("saved_model", "transformers")
    # What calibrates needs layers that follow one another.
    compressions = ("int8", "int4")

    def load(self, recipe: Seq2SeqRecipe, notify: Callable[[str], None] | None = None) -> Loaded:
        from kerasllm.data.seq2seq import load_data, open_sources, train_tokenizer
        from kerasllm.models.seq2seq_text_side import load_text_side, new_text_side

        data, preset = recipe.data, recipe.model.preset
        sources = open_sources(data)
        if preset is None:
            tokenizer = train_tokenizer(
                sources["train"], data.vocabulary_size, data.tokenizer, notify
            )
            side = new_text_side(tokenizer, max(data.max_length, data.max_target_length))
        else:
            if notify:
                notify(f"loading the tokenizer of {preset}")
            try:
                side = load_text_side(preset, notify)
            except OfflineError as error:
                error.fix = f"{error.fix}; or train a new model: --set model.preset=new"
                raise
        _check_lengths(data, side)
        found = load_data(
            data,
            sources,
            side,
            prefix=_prefix(recipe, side.prefixes),
            seed=recipe.training.seed,
            notify=notify,
            **_measured(recipe),
        )
        if found.validation is not None:
            stopping = recipe.training.early_stopping
            writes = recipe.evaluation.during_training or (stopping and stopping.metric != "loss")
            found.validation = dataclasses.replace(found.validation, written=bool(writes))
        return found

    def report_rows(self, recipe: Seq2SeqRecipe, part: str) -> ReportRows:
        from kerasllm.data.report.rows import ReportRow, ReportRows, counting_bad_rows
        from kerasllm.data.seq2seq import source_of

        data = recipe.data.model_copy(update={"on_bad_row": "skip"})
        source = source_of(data, getattr(data, part), part)

        def rows() -> Iterator[ReportRow]:
            for batch in source.batches():
                texts = zip(batch.texts, batch.pairs, strict=True)
                for pair, line in zip(texts, batch.lines.tolist(), strict=True):
                    yield ReportRow(pair, None, batch.file, line)

        read = counting_bad_rows(source, rows)
        return ReportRows(source.files, source.description(), read)

    def build(self, recipe: Seq2SeqRecipe, data: Loaded, precision: str) -> Seq2SeqLM:
        from kerasllm.generation.seq2seq_texts import generation_config
        from kerasllm.generation.settings import GenerationSettings
        from kerasllm.models.encoder_decoder import new_encoder_decoder, open_encoder_decoder
        from kerasllm.models.seq2seq_lm import Seq2SeqLM, limit_training

        settings, texts = recipe.model, recipe.data
        if settings.preset is None:
            parts = new_encoder_decoder(
                data.tokenizer,
                layers=settings.layers,
                width=settings.width,
                heads=settings.heads,
                feedforward=settings.feedforward or 4 * settings.width,
                dropout=settings.dropout,
                max_length=max(texts.max_length, texts.max_target_length),
                precision=precision,
                seed=recipe.training.seed,
            )
        else:
            parts = open_encoder_decoder(
                settings.preset, precision=precision, dropout=settings.dropout
            )
        parts.generation = generation_config(GenerationSettings.of(recipe.generation))
        model = Seq2SeqLM(
            parts,
            prefix=data.prefix,
            max_length=texts.max_length,
            max_target_length=texts.max_target_length,
            loss_tokens=recipe.training.loss_tokens,
        )
        lora = settings.lora
        limit_training(model, settings.freeze, lora.model_dump() if lora else None)
        return model

    def model_facts(self, recipe: Seq2SeqRecipe, model: Seq2SeqLM) -> list[tuple[str, str]]:
        from kerasllm.generation.seq2seq_texts import described, settings_of

        return [("writes", described(settings_of(model)))]

    def loss(self, recipe: Seq2SeqRecipe, data: Loaded):
        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)

    def finish(
        self,
        recipe: Seq2SeqRecipe,
        model: Seq2SeqLM,
        data: Loaded,
        notify: Callable[[str], None],
    ) -> dict:
        """Has the validation targets written, once the model is trained."""
        if data.validation is None or data.validation.written:
            return {}
        notify("generating the validation targets")
        data.validation = dataclasses.replace(data.validation, written=True)
        return {"generation": dict(model.parts.generation)}

    def rows(
        self,
        model: Seq2SeqLM,
        spec: str | Sequence[str],
        recipe: Seq2SeqRecipe,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[Seq2SeqRows, list[str]]:
        from kerasllm.data.loading import remarks
        from kerasllm.data.seq2seq import source_of
        from kerasllm.data.seq2seq_rows import Seq2SeqRows, open_rows
        from kerasllm.environment import store_dir

        source = source_of(recipe.data, spec, "test", options=options)
        store = open_rows(
            source,
            model.text_side,
            prefix=model.prefix,
            max_length=model.max_length,
            max_target_length=model.max_target_length,
            folder=store_dir(),
            notify=notify,
        )
        rows = Seq2SeqRows.of(store, model.text_side, **_measured(recipe))
        return rows, [*source.remarks, *remarks(store), *_cut(rows, recipe)]

    def evaluate(
        self,
        model: Seq2SeqLM,
        rows: Seq2SeqRows,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.evaluation.generated_targets import evaluate_targets

        return evaluate_targets(model, rows, buckets=buckets, notify=notify)

    def headline_of(self, metrics: Mapping[str, Any]) -> Headline:
        if "bleu" not in metrics:
            return Headline("loss", higher_is_better=False)
        return Headline(metrics.get("headline", self.headline.metric))

    def tables(self, reports: Mapping[str, Mapping[str, Any]], *, detailed: bool = False) -> list:
        found = super().tables(reports, detailed=detailed)
        last = list(reports.values())[-1]
        if "bleu_signature" in last:
            found.append(_signatures_table(last))
        if last.get("examples"):
            found.append(_examples_table(last["examples"]))
        return found

    def source(self, trained: Any, spec: str | Sequence[str], options: PredictOptions) -> Any:
        from kerasllm.data.seq2seq import source_of

        return source_of(trained.recipe.data, spec, "test", options=options, with_target=False)

    def predict(
        self,
        model: Seq2SeqLM,
        inputs: Iterable[str],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        from kerasllm.generation.seq2seq_texts import text_stream

        return text_stream(model, inputs, chunk=chunk)

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        return dict(prediction)

    def text(self, prediction: Mapping[str, Any]) -> str:
        return self.line(prediction) + "\n"

    def line(self, prediction: Mapping[str, Any]) -> str:
        return " ".join(prediction["output"].split())

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Seq2SeqLM:
        from kerasllm.models.seq2seq_lm import Seq2SeqLM

        return Seq2SeqLM.from_preset(folder, precision=precision, dropout=0.0)

    def save(self, recipe: Seq2SeqRecipe, model: Seq2SeqLM, run: Run) -> None:
        from kerasllm.models.adapters.encoder_decoder_adapter import can_be_saved, save_adapter
        from kerasllm.run import whole_folder

        if model.has_adapters and can_be_saved(model.backbone):
            with whole_folder(run.adapter) as folder:
                save_adapter(model.backbone, folder, base_name=recipe.model.preset)
        # Adapters are merged in it.
        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)

    def facts(self, recipe: Seq2SeqRecipe, data: Loaded) -> DataFacts:
        from kerasllm.data.loading import remarks

        facts, told = [], []
        for part, source in data.sources.items():
            more = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
            store = data.stores[part]
            reused = ", tokens reused from the cache" if store.reused else ""
            facts.append((part, f"{source.files[0]}{more}: {counted(len(store), 'row')}{reused}"))
            told += [f"{part}: {one}" for one in (*source.remarks, *remarks(store))]
        if "validation" not in data.sources and data.validation is not None:
            facts.append(
                ("validation", f"{counted(len(data.validation), 'row')} held out of train")
            )
        for part, rows in data.parts.items():
            told += [f"{part}: {one}" for one in _cut(rows, recipe)]
        facts.append(("read as", data.sources["train"].description()))
        if data.prefix:
            facts.append(("prefix", repr(data.prefix)))
        lengths = data.train.lengths
        facts.append(
            (
                "tokens",
                (
                    f"{lengths[:, 0].mean():.1f} of a source, {lengths[:, 1].mean():.1f} of a "
                    "target, on average"
                ),
            )
        )
        facts.append(("tokenizer", data.tokenizer.description))
        return DataFacts(facts, [], told)

    def outcomes(self, recipe: Any, data: Any, evaluation: Evaluation) -> Outcomes:
        from kerasllm.evaluation.generated_rows import generated_rows

        return generated_rows(data.test, evaluation)

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.generated_rows import measure_written

        return measure_written(outcomes)

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.run import shell_word

        path = shell_word(run.path)
        return [
            ("try it", f'kerasllm predict {path} "..."'),
            ("generate for a file", f"kerasllm predict {path} --input FILE --output written.csv"),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: Seq2SeqLM) -> Head:
        return Head(
            kind="text-to-text model",
            texts=("text",),
            outputs=lambda logits: {"logits": logits},
            compared="logits",
            compared_words="the logits of the tokens of targets",
            agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
            agreeing="tokens",
            tolerances={(None, None): (1e-3, 1.0)},
            architecture="ForConditionalGeneration",
            pipeline="text2text-generation",
            formats=self.formats,
            limits=("It can add what is not in the source, and leave out what is.",),
            per_token=True,
            rows=64,
        )

    def samples(
        self,
        recipe: Seq2SeqRecipe | None,
        model: Seq2SeqLM,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.seq2seq import source_of

        own, data = spec == getattr(recipe.data, part, None), recipe.data
        if not own:
            # Of other files the columns may have other names.
            data = data.model_copy(update={"source": None, "target": None})
        source = source_of(data, spec, part)
        texts = (text for batch in source.batches() for text in batch.texts)
        return Samples(texts, source.files, source.fingerprint if own else None, noun="source")

    def stand_in(self, model: Seq2SeqLM) -> str:
        return "starter:phrases/test"

    def api(self, model: Seq2SeqLM, limits: Any) -> Api:
        from kerasllm.generation.seq2seq_texts import write_texts

        read = [0]

        def predict(instances: Sequence[Any]) -> list[dict]:
            written = write_texts(model, [one.text for one in instances], trained=False)
            read[0] += sum(each.tokens for each in written)
            return [{"output": each.text, "finish_reason": each.finish_reason} for each in written]

        return Api(
            Instance=SourceInstance,
            outputs={"output": ("DT_STRING", (-1,)), "finish_reason": ("DT_STRING", (-1,))},
            predict=predict,
            example="A short text.",
            warm_up=lambda: write_texts(model, ["a word"]) and None,
            facts={
                "max_length": model.max_length,
                "generation": dict(model.parts.generation),
            },
            tokens=lambda: read[0],
        )


def _signatures_table(report: Mapping[str, Any]) -> Any:
    """Returns a table of how the metrics were computed, in the words of their libraries."""
    from rich.table import Table

    table = Table("metric", "signature", box=None, padding=(0, 1), style="dim")
    for name, key in (("BLEU", "bleu"), ("chrF", "chrf"), ("ROUGE", "rouge")):
        table.add_row(name, report[f"{key}_signature"])
    return table


def _examples_table(examples: Sequence[Mapping[str, str]]) -> Any:
    """Returns a table of rows of the test data with what the model wrote, one below the other."""
    from rich.table import Table
    from rich.text import Text as Shown

    table = Table("", "examples", box=None, padding=(0, 1))
    for number, example in enumerate(examples):
        if number:
            table.add_row("", "")
        for role, key in (("source", "source"), ("reference", "target"), ("written", "output")):
            text = " ".join(str(example[key]).split())
            table.add_row(role, Shown(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"))
    return table


def _measured(recipe: Seq2SeqRecipe) -> dict[str, str]:
    """Returns how rows are measured, by the attributes of `Seq2SeqRows`."""
    evaluation = recipe.evaluation
    return {"metric": _HEADLINES[evaluation.metric], "tokenize": evaluation.tokenize}


def _cut(rows: Seq2SeqRows, recipe: Seq2SeqRecipe) -> list[str]:
    """Returns what a user should know of texts that were too long."""
    told = []
    for number, noun, key in zip(
        rows.cut, ("source", "target"), ("max_length", "max_target_length"), strict=True
    ):
        if number:
            are = counted(number, f"{noun} is", f"{noun}s are")
            told.append(
                f"{are} longer than data.{key}={getattr(recipe.data, key)} tokens, and truncated"
            )
    return told


def _check_lengths(data: Seq2SeqTexts, side: Any) -> None:
    """Refuses lengths that the model cannot read."""
    for key, most in (
        ("max_length", side.max_source_length),
        ("max_target_length", side.max_target_length),
    ):
        if most is not None and getattr(data, key) > most:
            raise RecipeError(
                f"The model reads {most} tokens at most, but data.{key} is {getattr(data, key)}",
                where=f"data.{key}",
                fix=f"set data.{key} to {most} or less",
            )


def _prefix(recipe: Seq2SeqRecipe, prefixes: Mapping[str, str]) -> str:
    """Returns what is put before each source.

    A model that was trained with several prefixes is told which one, but for summaries.
    """
    given = recipe.data.prefix
    if given != "auto":
        return given
    found = dict.fromkeys(prefixes.values())
    if recipe.evaluation.metric == "rouge":
        found = {
            text: None for name, text in prefixes.items() if name.startswith("summar")
        } or found
    if len(found) > 1:
        shown = ", ".join(repr(text) for text in found)
        raise DataError(
            f"The preset was trained with several prefixes: {shown}",
            where="data.prefix",
            fix=f"name one, as in --set data.prefix='{next(iter(found))}'; or \"\" for none",
        )
    return next(iter(found), "")
