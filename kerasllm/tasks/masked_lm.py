"""Masked language modelling: the masked words of texts; pretraining of encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.errors import DataError
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
    TextOutputs,
)

if TYPE_CHECKING:
    from kerasllm.data.masked_rows import MaskedRows
    from kerasllm.data.masked_texts import MaskedData as Loaded
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.masked_lm import MaskedLM
    from kerasllm.run import Run

# How a masked word is written; see `kerasllm.models.fill_texts`, which imports TensorFlow.
_MASKS = ("[MASK]", "<mask>")
_SENTENCE_TASKS = {
    "next": "whether the second text is the next one",
    "order": "whether two texts are in order",
}


class MaskedModel(Section):
    """Which model, and how much of it trains."""

    preset: Location | None = Field(
        None,
        description="name in `kerasllm presets list`, hf://, kaggle://, pypi://, folder, run; "
        "null: a new BERT",
    )
    layers: Layers = Field(6, description="transformer layers of a new model")
    heads: Layers = Field(6, description="attention heads of each layer of a new model")
    width: Width = Field(384, description="width of a new model, a multiple of heads")
    feedforward: Width | None = Field(None, description="of a new model; null: 4 x width")
    sentence_task: Literal["none", "next", "order"] = Field(
        "none", description="second objective: next sentence (BERT), sentence order (ALBERT)"
    )
    dropout: Share = Field(0.1, description="every dropout of the model")
    freeze: WholeNumber = Field(0, description="N: embeddings and N lowest layers do not train")
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

    @field_validator("width")
    @classmethod
    def _heads_divide_it(cls, width: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", 1)
        if info.data.get("preset") is None and width % heads:
            raise refusal(f"{heads} heads do not divide a width of {width}")
        return width

    @field_validator("freeze")
    @classmethod
    def _a_new_model_trains(cls, freeze: int, info: ValidationInfo) -> int:
        if freeze and "preset" in info.data and info.data["preset"] is None:
            raise refusal("a new model has no pretrained layers to freeze", "set model.freeze to 0")
        return freeze

    @field_validator("lora")
    @classmethod
    def _an_adapter_needs_weights(cls, lora: Lora | None, info: ValidationInfo):
        if lora and "preset" in info.data and info.data["preset"] is None:
            raise refusal(
                "a new model has no weights that an adapter could be added to",
                "name model.preset, or remove model.lora",
            )
        return lora


class MaskedData(Section):
    """Which texts are read, and what is hidden of them."""

    train: Files = Field(
        description="txt, md, folder of them, jsonl, parquet, csv: file, glob, list or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    validation_split: Share = Field(
        0.1, description="part of train to hold out: of one text its end, of rows a sample"
    )
    vocabulary_size: Annotated[int, Field(ge=32, lt=2**31), "a whole number, 32 or more"] = Field(
        8192, description="vocabulary size of the WordPiece tokenizer trained for a new model"
    )
    lowercase: bool = Field(True, description="whether that tokenizer lower-cases texts")
    max_length: Annotated[int, Field(ge=8, le=65536), "a whole number from 8 to 65536"] = Field(
        128,
        description="maximum tokens of a sequence, special tokens included; longer texts are split",
    )
    join_documents: bool = Field(
        False, description="pack further texts into a sequence, with a separator between them"
    )
    masking: Literal["tokens", "whole_words", "spans"] = Field(
        "tokens", description="what is masked: single tokens, whole words, or spans of words"
    )
    mask_rate: Annotated[float, Field(gt=0, lt=1), "a number between 0 and 1"] = Field(
        0.15, description="share of the tokens that are predicted"
    )
    mask_share: Annotated[float, Field(ge=0, le=1), "a number from 0 to 1"] = Field(
        0.8, description="share of these that is replaced by [MASK]"
    )
    random_share: Annotated[float, Field(ge=0, le=1), "a number from 0 to 1"] = Field(
        0.1, description="share replaced by a random token; the rest is unchanged"
    )
    buckets: Count = Field(
        16, description="maximum number of sequence lengths that batches are padded to"
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field("error", description="what to do with a bad row")
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )

    @field_validator("random_share")
    @classmethod
    def _shares_fit(cls, random_share: float, info: ValidationInfo) -> float:
        mask_share = info.data.get("mask_share", 0.0)
        if mask_share + random_share > 1:
            raise refusal(
                f"{random_share} and the mask_share of {mask_share} add up to more than 1",
                "lower data.random_share or data.mask_share",
            )
        return random_share


class MaskedEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "accuracy"] = Field("loss", description="metric that is monitored")


class MaskedTraining(Training):
    """How a masked language model is trained."""

    early_stopping: MaskedEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )


class MaskedRecipe(WholeRecipe):
    """What a run does that trains a masked language model.

    Example:

    >>> load("mlm", ["data.masking=whole_words"]).data.masking
    'whole_words'
    """

    task: Literal["masked_lm"] = Field(description="what the model learns")
    model: MaskedModel = Field(MaskedModel(), description="the model, and how much of it trains")
    data: MaskedData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: MaskedTraining = Field(MaskedTraining(), description="how the weights are trained")

    @field_validator("data")
    @classmethod
    def _pairs_are_of_one_document(cls, data: MaskedData, info: ValidationInfo) -> MaskedData:
        model = info.data.get("model")
        if data.join_documents and model and model.sentence_task != "none":
            raise refusal(
                "the two texts of model.sentence_task are of one document",
                "set data.join_documents to false, or model.sentence_task to none",
                key="join_documents",
            )
        return data

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


class TextToFill(Instance):
    """One instance of a `:predict` request."""

    text: InputText


class MaskedLanguageModelling(Task):
    """The masked words of texts."""

    name = "masked_lm"
    Recipe = MaskedRecipe
    preset_kind = "encoder"
    sharded = True
    headline = Headline("loss", higher_is_better=False)
    metrics = {
        "loss": "loss",
        "masked_lm_loss": "loss, masked tokens",
        "accuracy": "accuracy, masked tokens",
        "pseudo_perplexity": "pseudo-perplexity",
        "sentence_loss": "loss, sentence task",
        "sentence_accuracy": "accuracy, sentence task",
        "tokens": "masked tokens",
    }
    lower_is_better = frozenset({"loss", "masked_lm_loss", "pseudo_perplexity", "sentence_loss"})
    evaluate_options = ("text", "encoding", "delimiter", "on_bad_row", "output")
    predict_options = ("text", "encoding", "delimiter", "n_best")
    formats = ("saved_model", "transformers", "litert", "onnx")

    def load(self, recipe: MaskedRecipe, notify: Callable[[str], None] | None = None) -> Loaded:
        from kerasllm.data.masked_texts import load_data
        from kerasllm.environment import store_dir
        from kerasllm.models.encoder import load_tokenizer

        notify = notify or (lambda text: None)
        tokenizer = None
        if recipe.model.preset is not None:
            notify(f"loading the tokenizer of {recipe.model.preset}")
            tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
        return load_data(recipe, tokenizer, store_dir(), notify)

    def report_rows(self, recipe: MaskedRecipe, part: str) -> ReportRows:
        from kerasllm.data.loading import files_of
        from kerasllm.data.report.rows import text_rows

        return text_rows(files_of(recipe.data, part), part, text=recipe.data.text)

    def build(self, recipe: MaskedRecipe, data: Loaded, precision: str) -> MaskedLM:
        from kerasllm.models.new_masked_lm import continued, new_bert

        settings, length = recipe.model, recipe.data.max_length
        sentence_task = None if settings.sentence_task == "none" else settings.sentence_task
        if settings.preset is None:
            return new_bert(
                data.tokenizer,
                layers=settings.layers,
                heads=settings.heads,
                width=settings.width,
                feedforward=settings.feedforward,
                max_length=length,
                dropout=settings.dropout,
                sentence_task=sentence_task,
                precision=precision,
            )
        return continued(
            settings.preset,
            data.tokenizer,
            max_length=length,
            dropout=settings.dropout,
            freeze=settings.freeze,
            lora=settings.lora.model_dump() if settings.lora else None,
            sentence_task=sentence_task,
            precision=precision,
        )

    def model_facts(self, recipe: MaskedRecipe, model: MaskedLM) -> list[tuple[str, str]]:
        from kerasllm.models.masked_lm import trained_head

        preset = recipe.model.preset
        kept = preset is not None and trained_head(preset) is not None
        facts = [("head", f"trained, of {preset}" if kept else "new: masked tokens")]
        if task := model.pretraining.sentence_task:
            facts.append(("sentence task", _SENTENCE_TASKS[task]))
        return facts

    def loss(self, recipe: MaskedRecipe, data: Loaded):
        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)

    def rows(
        self,
        model: MaskedLM,
        spec: str | Sequence[str],
        recipe: MaskedRecipe | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[MaskedRows, list[str]]:
        from kerasllm.data.documents import Documents
        from kerasllm.data.loading import reading_of, remarks
        from kerasllm.data.masked_rows import cut_rows, open_tokens
        from kerasllm.data.readers.files import read_as
        from kerasllm.environment import store_dir

        data = recipe.data
        spec = read_as(spec, "test", preferred="text", **reading_of(data, options))
        documents = Documents(
            spec,
            split="test",
            text=options.text or data.text,
            on_bad_row=options.on_bad_row or data.on_bad_row,
        )
        store = open_tokens(documents.cut(0.0)[0], model.tokenizer, store_dir(), notify)
        rows = cut_rows(
            store,
            model.tokenizer,
            model.vocabulary,
            model.max_length,
            joined=data.join_documents,
            sentence_task=model.pretraining.sentence_task,
        )
        return rows, remarks(store)

    def evaluate(
        self,
        model: MaskedLM,
        rows: MaskedRows,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.models.masked_scores import evaluate, scores_of_rows

        metrics, scores = evaluate(model, rows, buckets=buckets, notify=notify)
        return Evaluation(metrics, scores, rows=scores_of_rows(rows, scores))

    def input_of(self, trained: Any, texts: Sequence[str]) -> str:
        return self.parse_line(trained, texts[0])

    def parse(self, trained: Any, texts: Sequence[str]) -> list[str]:
        return [self.parse_line(trained, text) for text in texts]

    def parse_line(self, trained: Any, line: str) -> str:
        if not any(token in line for token in _MASKS):
            raise DataError(
                "The text has no [MASK]",
                fix="write [MASK] where the model should fill in a word: a [MASK] film",
            )
        return line

    def predict(
        self,
        model: MaskedLM,
        inputs: Iterable[str],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        from kerasllm.models.fill_texts import N_BEST, fill_stream

        n_best = options and options.n_best
        return fill_stream(model, inputs, n_best=n_best or N_BEST, chunk=chunk)

    def columns(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        # Typed, for what is empty tells nothing.
        word = pa.struct(
            [("word", pa.string()), ("token", pa.string()), ("probability", pa.float64())]
        )
        mask = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("words", pa.list_(word))])
        return {
            name: pa.scalar(value, pa.list_(mask)) if name == "masks" else value
            for name, value in prediction.items()
        }

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in prediction.items() if name != "masks"}
        return {**kept, "words": _words(prediction)}

    def line(self, prediction: Mapping[str, Any]) -> str:
        return "\t".join([" ".join(prediction["filled"].split()), _words(prediction) or "-"])

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> MaskedLM:
        from kerasllm.models.masked_lm import MaskedLM

        return MaskedLM.from_preset(folder, precision=precision)

    def save(self, recipe: MaskedRecipe, model: MaskedLM, run: Run) -> None:
        from kerasllm.run import whole_folder

        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)

    def facts(self, recipe: MaskedRecipe, data: Loaded) -> DataFacts:
        from kerasllm.data.loading import remarks

        facts, told = [], []
        for part, rows in data.parts.items():
            store = data.stores[part]
            where = getattr(recipe.data, part) or recipe.data.train
            files = where if isinstance(where, str) else ", ".join(where)
            if part == "validation" and recipe.data.validation is None:
                files = f"{data.held_out} of {files}"
            reused = ", tokens reused from the cache" if store.reused else ""
            facts.append(
                (
                    part,
                    (
                        f"{files}: {counted(len(rows.store_rows), 'text')}, "
                        f"{counted(int(rows.pieces['count'].sum()), 'token')}{reused}; "
                        f"{counted(len(rows), 'row')}"
                    ),
                )
            )
            told += [f"{part}: {one}" for one in remarks(store)]
        facts += [("column", repr(data.column))] if data.column else []
        facts.append(("tokenizer", data.tokenizer.description))
        settings = recipe.data
        what = {"tokens": "single tokens", "whole_words": "whole words", "spans": "spans of words"}
        stay = max(1 - settings.mask_share - settings.random_share, 0.0)
        facts.append(
            (
                "hidden",
                (
                    f"{settings.mask_rate:.0%} of the tokens, {what[settings.masking]}: "
                    f"{settings.mask_share:.0%} masked, {settings.random_share:.0%} replaced, "
                    f"{stay:.0%} kept; drawn again in each epoch"
                ),
            )
        )
        return DataFacts(facts, [], [*told, *data.remarks])

    def contents(self, data: Loaded) -> dict[str, str]:
        return {
            part: f"{counted(len(rows.store_rows), 'text')}, "
            f"{counted(int(rows.pieces['count'].sum()), 'token')}"
            for part, rows in data.parts.items()
        }

    def outcomes(self, recipe: Any, data: Loaded, evaluation: Evaluation) -> Outcomes:
        from kerasllm.evaluation.scored_rows import scored_rows, sentence_columns

        rows, scores = data.test, evaluation.outputs
        places = (rows.places(row)[0] for row in range(len(rows)))
        return scored_rows(places, rows.lengths, scores, more=sentence_columns(scores))

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.scored_rows import measure_masked

        return measure_masked(outcomes)

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.run import shell_word

        path = shell_word(run.path)
        return [
            ("fill in a word", f'kerasllm predict {path} "A [MASK] film."'),
            (
                "train a classifier on it",
                f"kerasllm finetune --set model.preset={path} --set model.pooling=auto",
            ),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: MaskedLM) -> Head:
        from kerasllm.export.graph_fills import words_in_graph
        from kerasllm.models.fill_texts import N_BEST

        vocabulary, mask = model.vocabulary, model.vocabulary.mask_token
        words = [vocabulary.text(number) for number in range(len(vocabulary))]
        return Head(
            kind="masked language model",
            texts=("text",),
            outputs=lambda logits: {"logits": logits},
            compared="logits",
            compared_words="the logits of all tokens",
            agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
            agreeing="tokens",
            tolerances=_TOLERANCES,
            architecture=model.architecture,
            pipeline="fill-mask",
            example=((f"A {mask} film.",), (f"The story is {mask}.",)),
            described={"logits": "of each token, every token of the vocabulary in its place"},
            from_logits=('outputs = {"logits": logits}',),
            reading=(
                'for text, rows in zip(texts, outputs["logits"]):',
                "    print(rows.argmax(-1), text)  # the most probable token in each place",
            ),
            limits=("It fills in what is probable, which is not necessarily true.",),
            rows=16,
            per_token=True,
            of_texts=TextOutputs(
                words_in_graph(mask, words, vocabulary.special, N_BEST),
                max((model.max_length - 2) // 2, 1),
                described={
                    "filled": f"the text with the most probable word in place of each {mask}",
                    "words": f"the {N_BEST} most probable words for each place of each text",
                    "probabilities": "their probabilities",
                },
                reading=(
                    'for filled in outputs["filled"]:',
                    "    print(filled.decode())",
                ),
            ),
        )

    def samples(
        self,
        recipe: MaskedRecipe | None,
        model: MaskedLM,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.prompts import paragraphs_of

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        texts, files = paragraphs_of(spec, part, data)
        return Samples(texts, files, noun="paragraph")

    def stand_in(self, model: MaskedLM) -> str:
        return "starter:movie_reviews/test"

    def api(self, model: MaskedLM, limits: Any) -> Api:
        from kerasllm.models.fill_texts import fill_texts

        def predict(instances: Sequence[Any]) -> list[dict]:
            found = fill_texts(model, [one.text for one in instances])
            return [{name: one[name] for name in ("filled", "masks")} for one in found]

        def warm_up() -> None:
            for times in (1, 8, model.max_length):
                fill_texts(model, ["a [MASK] of a text, " * times] * 2)

        return Api(
            Instance=TextToFill,
            outputs={"filled": ("DT_STRING", (-1,)), "masks": ("DT_VARIANT", (-1, -1))},
            predict=predict,
            example="A [MASK] film.",
            warm_up=warm_up,
            facts={"max_length": model.max_length, "mask_token": model.vocabulary.mask_token},
        )


# Of logits: the largest difference, and the least share of tokens that agree.
_TOLERANCES = {
    (None, None): (5e-3, 1.0),
    (None, "bfloat16"): (1.0, 0.9),
    (None, "float16"): (0.05, 0.99),
    (None, "int8"): (4.0, 0.7),
}


def _words(prediction: Mapping[str, Any]) -> str:
    """Returns the words of each place with their probabilities, as text."""
    return "; ".join(
        ", ".join(f"{one['word']} {one['probability']:.2f}" for one in mask["words"])
        for mask in prediction["masks"]
    )
