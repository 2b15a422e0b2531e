"""Causal language modelling: the next token of texts, or of assistant messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    Samples,
    Task,
)

if TYPE_CHECKING:
    from kerasllm.data.language_models import LanguageModelData
    from kerasllm.data.multiple_choice import Question
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.data.sequences import Sequences
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.causal_lm import CausalLM
    from kerasllm.models.explained.output import ExplainedOutput
    from kerasllm.run import Run

# A preset may read far more, at a cost that grows with the square of it.
_LONGEST_WINDOW = 1024
# Tokens of a row that are kept as its text.
_BEGINNING = 100
# Likely words, but not the same ones each time, as the most likely are.
_SAMPLE_TEMPERATURE, _SAMPLE_TOP_P = 0.8, 0.95
# What each option of `evaluate` is for, where it is not for all data.
_FOR = {
    "stride": "texts",
    "chat_template": "conversations",
    "template": "questions with choices",
}


class CausalModel(Section):
    """Which model, and how much of it trains."""

    preset: Location | None = Field(
        None,
        description="name in `kerasllm presets list`, hf://, pypi://, folder, run, .gguf; null: a "
        "new GPT-2",
    )
    layers: Layers = Field(6, description="transformer layers of a new model")
    heads: Layers = Field(6, description="attention heads of each layer of a new model")
    width: Width = Field(384, description="width of a new model, a multiple of heads")
    feedforward: Width | None = Field(None, description="of a new model; null: 4 x width")
    dropout: Share = Field(0.0, description="every dropout of the model")
    freeze: WholeNumber = Field(0, description="N: embeddings and N lowest layers do not train")
    lora: Lora | None = Field(
        None,
        description="low-rank adaptation, {rank, alpha, dropout, rank_stabilized, dora, targets, "
        "train}; null: none",
    )
    quantize: Literal["int8", "int4"] | None = Field(
        None, description="bits of the kernels below an adapter; null: as they are"
    )
    adapter: Text | None = Field(
        None, description="folder of a PEFT adapter to continue; null: none"
    )
    trust: PublicKeys | None = Field(
        None,
        description="trusted public keys that must have signed preset and adapter; null: those of "
        "KERASLLM_TRUST",
    )

    @field_validator("width")
    @classmethod
    def _heads_divide_it(cls, width: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", 1)
        if info.data.get("preset") is None and width % heads:
            raise refusal(f"{heads} heads do not divide a width of {width}")
        return width

    @field_validator("lora")
    @classmethod
    def _an_adapter_needs_weights(cls, lora: Lora | None, info: ValidationInfo):
        if lora and "preset" in info.data and info.data["preset"] is None:
            raise refusal(
                "a new model has no weights that an adapter could be added to",
                "name model.preset, or remove model.lora",
            )
        return lora

    @field_validator("quantize")
    @classmethod
    def _only_below_an_adapter(cls, quantize: str | None, info: ValidationInfo) -> str | None:
        if quantize and info.data.get("lora") is None:
            raise refusal(
                "weights that train cannot be quantized",
                "set model.lora, as {rank: 8}, or remove model.quantize",
            )
        return quantize

    @field_validator("adapter")
    @classmethod
    def _one_adapter(cls, adapter: str | None, info: ValidationInfo) -> str | None:
        if adapter and info.data.get("lora"):
            raise refusal(
                "model.lora makes a new adapter, and model.adapter continues one",
                "remove one of the two",
            )
        if adapter and "preset" in info.data and info.data["preset"] is None:
            raise refusal("an adapter needs a pretrained model", "name model.preset")
        return adapter


class CausalData(Section):
    """Which texts or conversations are read, and what they become."""

    train: Files = Field(
        description="txt, md, folder of them, jsonl, parquet, csv: file, glob, list or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    format: Literal[
        "auto", "text", "conversations", "messages", "prompt_completion", "alpaca", "sharegpt"
    ] = Field(
        "auto", description="format of the rows; auto: detected from the columns, else plain text"
    )
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    prompt: Text | None = Field(
        None, description="column of the user's message; null: found by common names"
    )
    response: Text | None = Field(
        None, description="column of the assistant's message; null: found by common names"
    )
    validation_split: Share = Field(
        0.1, description="part of train to hold out: of one text its end, of rows a sample"
    )
    vocabulary_size: Annotated[int, Field(ge=257, lt=2**31), "a whole number, 257 or more"] = Field(
        4096, description="vocabulary size of the tokenizer trained for a new model"
    )
    max_length: Annotated[int, Field(ge=4, le=1 << 20), "a whole number from 4 to 1048576"] = Field(
        256, description="tokens of a sequence: a block of text, or packed conversations"
    )
    packing: Literal["auto"] | bool = Field(
        "auto", description="pack several texts into one sequence, without attention between them"
    )
    buckets: Count = Field(
        16, description="maximum number of sequence lengths that batches are padded to"
    )
    chat_template: Text = Field(
        "auto", description="auto: the model's own; chatml, llama3, gemma, mistral, plain or a file"
    )
    system: Text | None = Field(
        None, description="system message of conversations that have none; null: none"
    )
    special_tokens: Literal["once", "text", "keep"] = Field(
        "once",
        description="special tokens written in the data; once: not doubled; text: letters; keep: "
        "as they are",
    )
    train_on_prompt: bool = Field(
        False, description="count the users' messages in the loss as well"
    )
    too_long: Literal["cut", "drop", "split"] = Field(
        "cut", description="what to do with conversations above max_length"
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field("error", description="what to do with a bad row")
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )


class CausalEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "accuracy"] = Field("loss", description="metric that is monitored")


class CausalTraining(Training):
    """How a language model is trained."""

    early_stopping: CausalEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )
    rematerialize: bool = Field(
        False, description="recompute layers in the backward pass, to save memory"
    )
    loss_tokens: Count | None = Field(
        None, description="tokens whose logits are in memory at once; null: 128 MB of logits"
    )
    sample_every: Literal["epoch"] | Count | None = Field(
        None, description="how often samples are generated: epoch, or steps; null: never"
    )
    sample_prompts: Annotated[list[Annotated[str, "a text"]], "a list of texts"] = Field(
        [""], description="prompts of the samples"
    )
    sample_tokens: Count = Field(60, description="tokens per sample")


class CausalRecipe(WholeRecipe):
    """What a run does that trains a causal language model."""

    task: Literal["causal_lm"] = Field(description="what the model learns")
    model: CausalModel = Field(CausalModel(), description="the model, and how much of it trains")
    data: CausalData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: CausalTraining = Field(CausalTraining(), description="how the weights are trained")

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training, info: ValidationInfo):
        return needs_validation(training, info.data.get("data"))


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions with choices, as rows that a model is measured on.

    Attributes:
        questions: The questions.
        template: What a question becomes.
        max_length: The maximum number of tokens of a question with a choice, or `None`.
        skipped: How many bad rows were left out. Defaults to `0`.
    """

    questions: Sequence[Question]
    template: str
    max_length: int | None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.questions)


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows of tokens, and what the metrics say of how they were made."""

    sequences: Sequences
    facts: dict
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.sequences)


class CausalLanguageModelling(Task):
    """The next token of texts, or of what an assistant says."""

    name = "causal_lm"
    Recipe = CausalRecipe
    preset_kind = "decoder"
    sharded = True
    headline = Headline("loss", higher_is_better=False)
    metrics = {
        "loss": "loss",
        "perplexity": "perplexity",
        "bits_per_byte": "bits per byte",
        "accuracy": "accuracy",
        "accuracy_normalized": "accuracy, by bytes",
        "chance": "by chance",
        "tokens": "tokens",
        "bytes": "bytes",
        "conversations": "conversations",
        "questions": "questions",
        "max_length": "most tokens at once",
        "stride": "stride",
    }
    lower_is_better = frozenset({"loss", "perplexity", "bits_per_byte"})
    evaluate_options = (
        *("text", "encoding", "delimiter", "on_bad_row", "stride", "max_length"),
        *("chat_template", "template", "adapter", "output"),
    )
    # Losses and samples want all cores for an operation.
    sliced = False
    predicts = False
    generates = True
    opens_presets = True
    compressions = ("int8", "int4", "gptq", "awq")

    def load(
        self, recipe: CausalRecipe, notify: Callable[[str], None] | None = None
    ) -> LanguageModelData:
        from kerasllm.data.chat.templates import choose_template
        from kerasllm.data.language_models import load_conversations, load_texts
        from kerasllm.environment import store_dir
        from kerasllm.models.decoder import load_text_side

        notify = notify or (lambda text: None)
        data, preset = recipe.data, recipe.model.preset
        conversations = _are_conversations(data)
        tokenizer = template = None
        if preset is not None:
            notify(f"loading the tokenizer of {preset}")
            tokenizer, template = load_text_side(preset, notify)
        elif conversations:
            raise DataError(
                "A new model cannot be trained on conversations, which the rows look like",
                where="data.train",
                fix="tune a pretrained model on them: --recipe gpt_sft_lora; or train on one "
                "column as plain text: --set data.text=COLUMN",
            )
        packs = _packs(recipe)
        if conversations:
            template = choose_template(data.chat_template, template, tokenizer, preset)
        read = load_conversations if conversations else load_texts
        return read(recipe, tokenizer, template, packs, store_dir(), notify)

    def report_rows(self, recipe: CausalRecipe, part: str) -> ReportRows:
        from kerasllm.data.loading import files_of
        from kerasllm.data.report.rows import record_rows, text_rows

        data = recipe.data
        files = files_of(data, part)
        if _are_conversations(data):
            named = {"prompt": data.prompt, "response": data.response}
            return record_rows(files, part, format=data.format, system=data.system, **named)
        return text_rows(files, part, text=data.text)

    def build(self, recipe: CausalRecipe, data: LanguageModelData, precision: str) -> CausalLM:
        from kerasllm.training.host_values import built_on_host

        settings = recipe.model
        # In mixed precision frozen matrices would be cast in every step.
        cast = precision.startswith("mixed") and bool(settings.lora or settings.adapter)
        build = partial(self._built, recipe, data, precision, cast)
        return built_on_host(build) if cast or settings.quantize else build()

    def _built(
        self, recipe: CausalRecipe, data: LanguageModelData, precision: str, cast: bool
    ) -> CausalLM:
        from kerasllm.models.adapters import add_adapter, load_adapter
        from kerasllm.models.decoder import gpt_causal_lm

        settings = recipe.model
        model = gpt_causal_lm(
            settings.preset,
            tokenizer=data.tokenizer,
            layers=settings.layers,
            heads=settings.heads,
            width=settings.width,
            feedforward=settings.feedforward,
            max_length=recipe.data.max_length,
            dropout=settings.dropout,
            freeze=settings.freeze,
            precision=precision,
            rematerialize=recipe.training.rematerialize,
        )
        if model.max_length is not None and recipe.data.max_length > model.max_length:
            raise RecipeError(
                f"The model reads {model.max_length} tokens at most, but data.max_length is "
                f"{recipe.data.max_length}",
                where="data.max_length",
                fix=f"set data.max_length to {model.max_length} or less",
            )
        model.chat_template = data.template
        model.conversational = data.conversations
        model.packs = data.packs
        # Packs are nearly full: one length pads no more than several, and is compiled once.
        model.pad_to = recipe.data.max_length if data.packs else None
        if settings.lora is not None:
            model.adapters = add_adapter(
                model.backbone,
                **settings.lora.model_dump(),
                quantize=settings.quantize,
                cast=cast,
                seed=recipe.training.seed,
            )
        elif settings.adapter is not None:
            model.adapters = load_adapter(model.backbone, settings.adapter, cast=cast)
        if recipe.training.loss_tokens:
            model.loss_tokens = recipe.training.loss_tokens
        return model

    def loss(self, recipe: CausalRecipe, data: LanguageModelData):
        from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

        return SmoothedSparseCategoricalCrossentropy(recipe.training.label_smoothing)

    def callbacks(self, recipe, data, on_samples) -> list:
        training = recipe.training
        if training.sample_every is None:
            return []
        from kerasllm.generation.samples import Samples
        from kerasllm.generation.settings import GenerationSettings

        settings = GenerationSettings(
            max_new_tokens=training.sample_tokens,
            temperature=_SAMPLE_TEMPERATURE,
            top_p=_SAMPLE_TOP_P,
            seed=training.seed,
        )
        return [
            Samples(
                training.sample_prompts,
                settings,
                every=training.sample_every,
                chat=data.conversations,
                on_samples=on_samples,
            )
        ]

    def rows(
        self,
        model: CausalLM,
        spec: str | Sequence[str],
        recipe: Any | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[Questions | Measured, list[str]]:
        from kerasllm.data.loading import reading_of
        from kerasllm.data.multiple_choice import read_questions
        from kerasllm.data.readers.files import read_as
        from kerasllm.data.readers.row_checks import places
        from kerasllm.models.multiple_choice import TEMPLATE
        from kerasllm.plurals import counted

        reading = reading_of(recipe and recipe.data, options)
        spec = read_as(spec, "test", preferred="text", **reading)
        kind = _kind_of(spec, options, recipe and recipe.data)
        _check_length(model, options.max_length)
        if kind == "questions with choices":
            template = options.template or TEMPLATE
            bad: list = []
            skips = options.on_bad_row == "skip"
            found = read_questions(spec, bad_rows=bad if skips else None)
            told = [f"{counted(len(bad), 'bad row')} skipped, the first at {places(bad[:1], 1)}"]
            return Questions(found, template, options.max_length, len(bad)), told * bool(bad)
        read = _windows if kind == "texts" else _conversations
        return read(model, spec, options, recipe and recipe.data, notify)

    def evaluate(
        self,
        model: CausalLM,
        rows: Sequences | Questions | Measured,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.environment import store_dir
        from kerasllm.models import likelihood, multiple_choice

        if isinstance(rows, Questions):
            metrics, answers = multiple_choice.evaluate(
                model,
                rows.questions,
                folder=store_dir(),
                template=rows.template,
                max_length=rows.max_length,
                notify=notify,
            )
            return Evaluation(metrics, None, rows=answers)
        sequences = rows.sequences if isinstance(rows, Measured) else rows
        metrics, scores = likelihood.evaluate(model, sequences, buckets=buckets, notify=notify)
        if isinstance(rows, Measured):
            return Evaluation(metrics | rows.facts, scores, rows=_of_texts(sequences, scores))
        return Evaluation(metrics, scores)

    def explained_outputs(
        self, model: CausalLM, inputs: Iterable[str], target: str | None = None
    ) -> Iterator[ExplainedOutput]:
        from kerasllm.models.explained.next_token import explained_next_tokens

        return explained_next_tokens(model, inputs, target)

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> CausalLM:
        from kerasllm.models.adapters import load_adapter
        from kerasllm.models.decoder import load_causal_lm

        model = load_causal_lm(folder, precision=precision, progress=progress)
        if adapter is not None:
            model.adapters = load_adapter(model.backbone, adapter)
            model.conversational |= model.adapters.conversational
        return model

    def save(self, recipe: CausalRecipe, model: CausalLM, run: Run) -> None:
        """Writes `model/`, and `adapter/` where an adapter was trained.

        Then `model/` holds the base with the adapter merged into it, in float32, regardless of the
        precision of the training was.
        """
        from kerasllm.models.adapters import load_adapter
        from kerasllm.models.decoder import load_causal_lm
        from kerasllm.run import whole_folder

        if model.adapters is None:
            with whole_folder(run.model) as folder:
                model.save_to_preset(folder)
            return
        model.adapters.conversational = model.conversational
        with whole_folder(run.adapter) as folder:
            model.adapters.save(folder, base_name=recipe.model.preset)
        merged = load_causal_lm(recipe.model.preset, tokenizer=model.tokenizer)
        merged.chat_template = model.chat_template
        merged.conversational = model.conversational
        load_adapter(merged.backbone, run.adapter, quantize=recipe.model.quantize).merge()
        with whole_folder(run.model) as folder:
            merged.save_to_preset(folder)

    def facts(self, recipe: CausalRecipe, data: LanguageModelData) -> DataFacts:
        from kerasllm.data.language_models import remarks

        noun = "conversation" if data.conversations else "text"
        facts = [(part, _part(recipe, data, part, noun)) for part in data.parts]
        facts += [("columns", data.columns)] if data.columns else []
        facts.append(("tokenizer", data.tokenizer.description))
        if data.conversations:
            share = data.train.trained_tokens / data.train.lengths.sum()
            what = "all messages" if recipe.data.train_on_prompt else "assistant messages"
            facts.append(("chat template", data.template.name))
            facts.append(("in the loss", f"{share:.1%} of the tokens: {what}"))
        facts.append(("rows", _rows(recipe, data)))
        found = [
            f"{part}: {remark}"
            for part, store in data.stores.items()
            for remark in remarks(store, "conversation" if data.conversations else None)
        ]
        found += data.remarks
        return DataFacts(facts, remarks=found)

    def contents(self, data: LanguageModelData) -> dict[str, str]:
        import numpy as np

        found = {}
        for part, rows in data.parts.items():
            # A row may hold several of them, or a part of one.
            if data.conversations:
                what = counted(len(np.unique(rows.pieces["row"])), "conversation")
            else:
                what = counted(len(data.stores[part]), "text")
            found[part] = f"{what}, {counted(int(rows.lengths.sum()), 'token')}"
        return found

    def model_facts(self, recipe: CausalRecipe, model: CausalLM) -> list[tuple[str, str]]:
        settings, adapter = recipe.model, model.adapters
        if adapter is None or settings.quantize is None:
            return []
        base = adapter.base
        bits = settings.quantize.removeprefix("int")
        held = adapter.bytes - 4 * (adapter.trainable_share[1] - base.parameters)
        size = f"{held / 1e6:,.1f} MB instead of {base.bytes / 1e6:,.1f} MB"
        what = f"{base.parameters:,} parameters in {size}: the kernels of its layers in {bits} bits"
        return [("base", what)]

    def outcomes(self, recipe: Any, data: Any, evaluation: Evaluation) -> Outcomes:
        from kerasllm.evaluation.scored_rows import scored_rows

        rows = data.test
        places = (rows.places(row)[0] for row in range(len(rows)))
        texts = _beginnings(rows, data.tokenizer)
        return scored_rows(places, rows.lengths, evaluation.outputs, texts)

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.scored_rows import measure_scored

        return measure_scored(outcomes)

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.run import shell_word

        path = shell_word(run.path)
        return [
            ("generate text", f'kerasllm generate {path} --prompt "..."'),
            ("chat", f"kerasllm chat {path}"),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: CausalLM) -> Head:
        return Head(
            kind="language model",
            texts=("prompt",),
            outputs=lambda logits: {"logits": logits},
            compared="logits",
            compared_words="the logits of the token after each row",
            agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
            agreeing="next tokens",
            tolerances={
                (None, None): (1e-3, 1.0),
                ("litert", "float32"): (1e-2, 1.0),
                (None, "float16"): (0.1, 0.97),
                (None, "int8"): (8.0, 0.75),
            },
            architecture="ForCausalLM",
            pipeline="text-generation",
            example=(("One day",), ("It is",)),
            reading=(
                'for text, row, one in zip(texts, outputs["logits"], ids):',
                "    next_id = int(row[len(one) - 1].argmax())  # the most likely after the text",
                "    print(text + tokenizer.decode([next_id]))",
            ),
            limits=(
                "It can generate text that is false, offensive, or copied from its training data.",
            ),
            rows=64,
        )

    def samples(
        self,
        recipe: Any | None,
        model: CausalLM,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.prompts import prompts_of

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        # The fingerprint that a run notes is of its tokens.
        texts, files, noun = prompts_of(spec, part, data, model)
        return Samples(texts, files, noun=noun)

    def stand_in(self, model: CausalLM) -> str:
        has_chat = model.chat_template is not None
        return "starter:chat/test" if has_chat else "starter:moby_dick/train"

    def api(self, model: CausalLM, limits: Any) -> Api:
        from kerasllm.generation.settings import GenerationSettings
        from kerasllm.generation.text import TextGenerator

        generator = TextGenerator(model, GenerationSettings())
        longest = generator.generator.longest
        generator.generator.longest = min(longest or limits.length, limits.length)
        return Api(generator=generator)


def _are_conversations(data: CausalData) -> bool:
    """Tells by a recipe's format, or by the columns of the first rows, what the data are."""
    from kerasllm.data.chat.conversations import holds_conversations
    from kerasllm.data.loading import files_of

    named = data.prompt is not None or data.response is not None
    if data.text is not None and (named or data.format not in ("auto", "text", "conversations")):
        raise RecipeError(
            "data.text is for plain text, but the recipe trains on conversations",
            where="data.text",
            fix="for plain text, remove data.prompt and data.response and set data.format=text; "
            "for conversations, remove data.text",
        )
    if named and data.format == "text":
        raise RecipeError(
            "data.prompt and data.response are for conversations, but data.format is text",
            where="data.format",
            fix="set data.format=conversations, or name the column of the texts: data.text",
        )
    if data.text is not None:
        return False
    if named or data.format != "auto":
        return data.format != "text"
    return holds_conversations(files_of(data, "train"))


def _packs(recipe: CausalRecipe) -> bool:
    """Returns whether rows hold several texts."""
    from kerasllm.models.decoder import can_pack

    packing = recipe.data.packing
    if packing is False:
        return False
    possible = can_pack(recipe.model.preset)
    if packing is True and not possible:
        raise RecipeError(
            f"{recipe.model.preset} does not support attention masks between packed texts",
            where="data.packing",
            fix="set data.packing to auto or false: texts of similar length then share a batch",
        )
    return possible


def _windows(
    model: CausalLM, data, options: EvaluateOptions, trained: Any | None, notify
) -> tuple[Measured, list[str]]:
    """Returns windows over texts, and what a user should know of how they were read."""
    from kerasllm.data.documents import Documents, open_documents
    from kerasllm.data.language_models import remarks
    from kerasllm.data.sequences import windows
    from kerasllm.environment import store_dir

    length = _length(model, options, trained)
    stride = (length + 1) // 2 if options.stride is None else options.stride
    if not 1 <= stride <= length:
        raise CommandError(
            f"The stride of a window of {length:,} tokens is from 1 to {length:,}. "
            f"Received: {stride}",
            where="--stride",
        )
    documents = Documents(
        data,
        split="test",
        text=options.text or getattr(trained, "text", None),
        on_bad_row=options.on_bad_row or (trained.on_bad_row if trained else "error"),
    )
    whole, _ = documents.cut(0.0)
    store = open_documents(
        whole,
        model.tokenizer,
        folder=store_dir(),
        special_tokens=getattr(trained, "special_tokens", "once"),
        notify=notify,
    )
    size = store.remarks[0]
    sequences = replace(windows(store, length, stride), text_bytes=size)
    facts = {"bytes": size, "max_length": length, "stride": stride}
    return Measured(sequences, facts, store.skipped), remarks(store, None)


def _conversations(
    model: CausalLM, data, options: EvaluateOptions, trained: Any | None, notify
) -> tuple[Measured, list[str]]:
    """Returns conversations, and what a user should know of how they were read."""
    from kerasllm.data.chat.conversations import Counts, open_conversations
    from kerasllm.data.chat.templates import choose_template
    from kerasllm.data.loading import remarks
    from kerasllm.data.readers.records import first_keys
    from kerasllm.data.sequences import whole_rows
    from kerasllm.environment import store_dir

    length = _length(model, options, trained)
    template = choose_template(
        options.chat_template or "auto",
        model.chat_template,
        model.tokenizer,
        "The model",
        where="--chat-template",
    )
    store = open_conversations(
        data,
        model.tokenizer,
        template,
        split="test",
        max_length=length,
        system=trained.system if trained else None,
        on_bad_row=options.on_bad_row or (trained.on_bad_row if trained else "error"),
        **_named(trained, first_keys(data, "test")),
        special_tokens=getattr(trained, "special_tokens", "once"),
        folder=store_dir(),
        notify=notify,
    )
    counts = Counts.of(store)
    found = remarks(store) + counts.remarks
    if counts.cut or counts.dropped:
        found.append(f"of more than {length:,} tokens: {counts}")
    facts = {"conversations": len(store), "max_length": length}
    return Measured(whole_rows(store), facts, store.skipped), found


def _length(model: CausalLM, options: EvaluateOptions, trained: Any | None) -> int:
    """Returns the maximum number of tokens of a window or a conversation."""
    if options.max_length is not None:
        return options.max_length
    if trained is not None:
        return trained.max_length
    return min(model.max_length or _LONGEST_WINDOW, _LONGEST_WINDOW)


def _named(trained: Any | None, keys: Sequence[str]) -> dict[str, str]:
    """Returns the columns that the recipe of a run names, if other data have them too."""
    found = {name: getattr(trained, name, None) for name in ("prompt", "response")}
    found = {name: column for name, column in found.items() if column is not None}
    return found if {*found.values()} <= {*keys} else {}


def _check_length(model: CausalLM, length: int | None) -> None:
    most = model.max_length
    if length is not None and not 1 <= length <= (most or length):
        raise CommandError(
            f"The model reads from 1 to {most or 'any number of'} tokens. Received: {length}",
            where="--max-length",
        )


def _beginnings(sequences: Sequences, tokenizer) -> Iterator[str]:
    """Yields how the first text of each row begins."""
    import numpy as np

    for first in sequences.first_pieces[:-1].tolist():
        piece = sequences.pieces[first]
        count = min(int(piece["count"]), _BEGINNING)
        where = (np.array([int(number)]) for number in (piece["row"], piece["first"], count))
        ids = sequences.store.slices(*where)
        yield tokenizer.decode(ids, skip_special=False)


def _of_texts(sequences: Sequences, scores) -> list[dict]:
    """Returns what was measured of each text or conversation, its windows together."""
    import numpy as np

    numbers, which = np.unique(sequences.pieces["row"], return_inverse=True)
    sums = np.zeros((len(numbers), 3))
    np.add.at(sums, which, scores)
    rows = []
    for number, (loss, tokens, correct) in zip(numbers, sums.tolist(), strict=True):
        file, line = sequences.store.where(int(number))
        shares = {"loss": loss / tokens, "accuracy": correct / tokens} if tokens else {}
        rows.append({"file": file, "line": line, "tokens": int(tokens), **shares})
    return rows


def _kind_of(data: str | Sequence[str], options: EvaluateOptions, trained: Any | None) -> str:
    """Returns what the rows of some files are, by the columns of the first ones."""
    from kerasllm.data.chat.conversations import kind_of_rows
    from kerasllm.data.chat.formats import UnclearShape
    from kerasllm.data.multiple_choice import KEYS
    from kerasllm.data.readers.records import first_keys

    keys = [] if options.text else first_keys(data, "test")
    plain = getattr(trained, "format", None) == "text" or getattr(trained, "text", None) in keys
    kind = "texts"
    if {*KEYS[:2]} <= {*keys}:
        kind = "questions with choices"
    elif keys and not plain and _named(trained, keys):
        kind = "conversations"
    elif keys and not plain:
        first = data if isinstance(data, str) else data[0]
        where = str(getattr(first, "name", first))
        try:
            found = kind_of_rows(data, "test")
        except UnclearShape as error:
            raise DataError(
                f"The rows look like conversations, but {error}",
                where=where,
                fix="leave one of them out of the file, or evaluate plain text: --text COLUMN",
            ) from None
        if found == "pair":
            raise DataError(
                "The rows are preferences: a chosen and a rejected answer",
                where=where,
                fix="give texts, conversations, or questions with choices",
            )
        kind = "conversations" if found == "conversation" else "texts"
    for option, used in _FOR.items():
        if getattr(options, option) is not None and used != kind:
            raise CommandError(
                f"This is for {used}, but the data are {kind}",
                where=f"--{option.replace('_', '-')}",
                fix="leave it out",
            )
    return kind


def _part(recipe: CausalRecipe, data: LanguageModelData, part: str, noun: str) -> str:
    rows = data.parts[part]
    if part not in data.stores:
        held_out = counted(len(rows), noun)
        return f"{held_out} held out of train, {rows.lengths.sum():,} tokens"
    store = data.stores[part]
    where = getattr(recipe.data, part) or recipe.data.train
    files = where if isinstance(where, str) else ", ".join(where)
    if part == "validation" and recipe.data.validation is None:
        files = f"{data.held_out} of {files}"
    reused = " reused from the cache" if store.reused else ""
    return (
        f"{files}: {counted(len(store), noun)}, {int(store.lengths.sum()):,} tokens{reused}; "
        f"{counted(len(rows), 'row')}"
    )


def _rows(recipe: CausalRecipe, data: LanguageModelData) -> str:
    import numpy as np

    length = recipe.data.max_length
    if data.packs:
        each = len(data.train.pieces) / len(data.train)
        what = "conversations" if data.conversations else "texts"
        return f"packed: {each:.1f} {what} in {length} tokens, without attention between them"
    # The last block of a text is seldom full.
    if data.conversations or np.median(data.train.lengths) < length:
        what = "conversation" if data.conversations else "text"
        return f"a {what} a row of up to {length} tokens, batched by length"
    return f"full blocks of {length} tokens"
