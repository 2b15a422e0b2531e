"""Extractive question answering: the span of a context that answers a question, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.errors import CommandError, DataError
from kerasllm.plurals import counted
from kerasllm.recipe.encoder import EncoderModel
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import EarlyStopping, Training, needs_validation
from kerasllm.recipe.types import (
    DELIMITER,
    ENCODING,
    Count,
    Delimiter,
    Encoding,
    Files,
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
    from kerasllm.data.question_windows import QuestionWindows
    from kerasllm.data.questions import QuestionData as Loaded
    from kerasllm.data.report.rows import ReportRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.answer_model import AnswerModel
    from kerasllm.models.explained.output import ExplainedOutput
    from kerasllm.run import Run

# Mistakes that are shown.
_MISTAKES = 5
# Validation questions from which a threshold cannot be told well.
_FEW_QUESTIONS = 200
# What an answer holds, and its type in Parquet.
_SPAN = [("answer", "string"), ("start", "int64"), ("end", "int64"), ("score", "double")]


class AnsweringData(Section):
    """Which questions are read, and what they become."""

    train: Files = Field(
        description="SQuAD JSON, or jsonl, csv, parquet: file, glob, list of them or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; evaluated once, at the end; null: none")
    question: Text | None = Field(
        None, description="key or column of the questions; null: found by common names"
    )
    context: Text | None = Field(
        None, description="key or column of the contexts; null: found by common names"
    )
    answer: Text | None = Field(
        None, description="key or column of the answers; null: found by common names"
    )
    validation_split: Share = Field(
        0.1, description="share of train to hold out if validation is null, by context"
    )
    max_length: Annotated[int, Field(ge=16, le=65536), "a whole number from 16 to 65536"] = Field(
        384, description="maximum tokens of a window, with its question; longer texts: more windows"
    )
    stride: Count | None = Field(
        None,
        description="stride of the windows over a long context, in tokens; null: half a window",
    )
    max_question_length: Count = Field(
        64, description="maximum tokens of a question; the rest is truncated, and counted"
    )
    max_answer_length: Count = Field(50, description="maximum tokens of a predicted answer")
    buckets: Count = Field(
        18, description="maximum number of sequence lengths that batches are padded to"
    )
    encoding: Encoding | None = ENCODING
    delimiter: Delimiter | None = DELIMITER
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what to do with a bad question"
    )
    leaks: Literal["refuse", "warn", "ignore"] = Field(
        "refuse", description="what to do if over 1% of the test rows are in train too"
    )

    @field_validator("answer")
    @classmethod
    def _keys_differ(cls, answer, info: ValidationInfo):
        named = [info.data.get("question"), info.data.get("context"), answer]
        known = [each for each in named if each is not None]
        if len(set(known)) < len(known):
            raise refusal("question, context and answer must be different keys")
        return answer


class AnsweringEarlyStopping(EarlyStopping):
    """Stop when validation no longer gets better, and restore the best weights."""

    metric: Literal["loss", "f1", "exact_match"] = Field(
        "loss", description="validation metric that is monitored"
    )


class AnsweringTraining(Training):
    """How a model is trained to find answers."""

    early_stopping: AnsweringEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )


class AnsweringRecipe(WholeRecipe):
    """What a run does that trains a model to find answers in contexts.

    Example:

    >>> load("qa", ["training.epochs=3"]).training.epochs
    3
    """

    task: Literal["question_answering"] = Field(description="what the model learns")
    model: EncoderModel = Field(
        EncoderModel(), description="the pretrained model, and how much of it trains"
    )
    data: AnsweringData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: AnsweringTraining = Field(
        AnsweringTraining(), description="how the weights are trained"
    )

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training: Training, info: ValidationInfo) -> Training:
        return needs_validation(training, info.data.get("data"))


class QuestionInstance(Instance):
    """One instance of a `:predict` request."""

    question: InputText
    context: InputText


class QuestionAnswering(Task):
    """The span of a context that answers a question, or none."""

    name = "question_answering"
    Recipe = AnsweringRecipe
    preset_kind = "encoder"
    sharded = True
    headline = Headline("f1")
    metrics = {
        "loss": "loss",
        "exact_match": "exact match",
        "f1": "F1",
        "has_answer_exact_match": "exact match, has answer",
        "has_answer_f1": "F1, has answer",
        "no_answer_exact_match": "exact match, no answer",
        "no_answer_f1": "F1, no answer",
        "questions": "questions",
        "has_answer_questions": "questions with an answer",
        "no_answer_questions": "questions without an answer",
    }
    evaluate_options = (
        *("text", "text_pair", "label", "encoding", "delimiter", "on_bad_row", "output"),
    )
    predict_options = (
        *("text", "text_pair", "encoding", "delimiter", "question", "context", "n_best"),
    )
    writes_document = True
    compressions = ("int8", "int4", "gptq", "awq", "prune", "distill")
    search_space: ClassVar[Mapping[str, str]] = {
        **Task.search_space,
        "training.epochs": "int:1:5",
        "training.warmup": "float:0:0.3",
    }
    formats = ("saved_model", "transformers", "litert", "onnx")

    def load(self, recipe: AnsweringRecipe, notify: Callable[[str], None] | None = None) -> Loaded:
        from kerasllm.data.questions import load_data
        from kerasllm.models.encoder import load_tokenizer

        if notify:
            notify(f"loading the tokenizer of {recipe.model.preset}")
        tokenizer = load_tokenizer(recipe.model.preset, progress=notify)
        return load_data(recipe.data, tokenizer, seed=recipe.training.seed, notify=notify)

    def report_rows(self, recipe: AnsweringRecipe, part: str) -> ReportRows:
        from kerasllm.data.questions import source_of
        from kerasllm.data.report.rows import ReportRow, ReportRows, counting_bad_rows

        data = recipe.data.model_copy(update={"on_bad_row": "skip"})
        source = source_of(data, getattr(data, part), part)

        def rows() -> Iterator[ReportRow]:
            for one in source.questions():
                yield ReportRow((one.question, one.context), None, one.file, one.line)

        read = counting_bad_rows(source, rows)
        return ReportRows(source.files, source.description(), read, noun="question")

    def build(self, recipe: AnsweringRecipe, data: Loaded, precision: str) -> AnswerModel:
        from kerasllm.models.answer_model import OUTPUTS, Answering, AnswerModel, trained_head
        from kerasllm.models.encoder import build_task
        from kerasllm.models.new_classifier import set_max_length
        from kerasllm.models.token_head import TOKENS, assign_head

        settings = recipe.model
        task = build_task(
            settings.preset,
            len(OUTPUTS),
            pooling=TOKENS,
            precision=precision,
            tokenizer=data.tokenizer,
            **settings.of_build(),
        )
        set_max_length(task, recipe.data.max_length)
        answering = Answering(
            recipe.data.stride,
            recipe.data.max_question_length,
            recipe.data.max_answer_length,
            # Until `finish` finds the best one.
            0.0 if data.may_have_none else None,
        )
        if (head := trained_head(settings.preset)) is not None:
            assign_head(task, head)
        return AnswerModel(task, data.tokenizer, answering)

    def model_facts(self, recipe: AnsweringRecipe, model: AnswerModel) -> list[tuple[str, str]]:
        from kerasllm.models.answer_model import trained_head

        kept = trained_head(recipe.model.preset) is not None
        return [("head", f"trained, of {recipe.model.preset}" if kept else "new: start and end")]

    def loss(self, recipe: AnsweringRecipe, data: Loaded):
        from kerasllm.training.span_loss import SpanCrossentropy

        return SpanCrossentropy(recipe.training.label_smoothing)

    def finish(
        self,
        recipe: AnsweringRecipe,
        model: AnswerModel,
        data: Loaded,
        notify: Callable[[str], None],
    ) -> dict:
        """Finds the threshold of no answer, where some questions have none."""
        import dataclasses

        from kerasllm.evaluation.answered_questions import threshold_of

        rows = data.validation
        if model.answering.threshold is None or rows is None or all(rows.references):
            return {}
        notify("finding the threshold of no answer")
        found = self.evaluate(model, rows).outputs
        threshold, f1 = threshold_of(rows, found)
        model.answering = dataclasses.replace(model.answering, threshold=threshold)
        few = "; too few to be reliable" if len(found) < _FEW_QUESTIONS else ""
        return {
            "no_answer_threshold": threshold,
            "remarks": [
                (
                    f"no answer is given above a score of {threshold:.3g}, the best threshold on "
                    f"{counted(len(found), 'validation question')} (F1 {f1:.4f}){few}"
                )
            ],
        }

    def rows(
        self,
        model: AnswerModel,
        spec: str | Sequence[str],
        recipe: AnsweringRecipe | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[QuestionWindows, list[str]]:
        from kerasllm.data.loading import remarks
        from kerasllm.data.question_windows import QuestionWindows, open_windows
        from kerasllm.data.questions import source_of
        from kerasllm.environment import store_dir

        source = source_of(recipe.data, spec, "test", options=options)
        answering = model.answering
        store = open_windows(
            source,
            model.tokenizer,
            model.max_length,
            answering.stride,
            answering.max_question_length,
            store_dir(),
            notify,
        )
        rows = QuestionWindows.of(store, model.tokenizer)
        told = [*source.remarks, *remarks(store), *_remarks(rows, recipe)]
        if answering.threshold is None and not all(rows.references):
            told.append(
                "some questions have no answer, but the model always gives one: it was trained "
                "only on questions with answers"
            )
        return rows, told

    def evaluate(
        self,
        model: AnswerModel,
        rows: QuestionWindows,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        from kerasllm.evaluation.answered_questions import evaluate_questions

        return evaluate_questions(model, rows, notify=notify)

    def source(self, trained: Any, spec: str | Sequence[str], options: PredictOptions) -> Any:
        from kerasllm.data.loading import reading_of
        from kerasllm.data.readers.files import find_files, read_as
        from kerasllm.data.readers.question_records import ARTICLES, find_keys
        from kerasllm.data.readers.sources import Source

        data, reading = trained.recipe.data, reading_of(trained.recipe.data, options)
        files = find_files(read_as(spec, "test", **reading), "test")
        names = (options.text or data.question, options.text_pair or data.context)
        # A .txt file has no columns: its lines are those of stdin.
        if all(file.suffix == ".txt" for file in files):
            return Source(spec, split="test", labelled=False, **reading)
        keys = find_keys(files[0], *names, answered=False)
        if keys is ARTICLES:
            raise DataError(
                "The questions are nested in articles, as in SQuAD, but predictions are written "
                "row by row",
                where=files[0].name,
                fix="answer them with `kerasllm evaluate RUN --data FILE --output answers.json`, "
                "or give a file with a question and a context in each row",
            )
        return Source(
            spec,
            split="test",
            text=keys.question,
            text_pair=keys.context,
            labelled=False,
            **reading,
        )

    def input_of(self, trained: Any, texts: Sequence[str]) -> tuple[str, str]:
        return self.parse_line(trained, texts[0]) if len(texts) == 1 else (texts[0], texts[1])

    def parse(self, trained: Any, texts: Sequence[str]) -> list[tuple[str, str]]:
        if len(texts) % 2:
            raise CommandError(
                f"A question needs a context. Received: {counted(len(texts), 'text')}",
                fix="give them in pairs, as QUESTION CONTEXT, or with --question and --context",
            )
        return list(zip(texts[::2], texts[1::2], strict=True))

    def parse_line(self, trained: Any, line: str) -> tuple[str, str]:
        parts = line.split("\t")
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise DataError(
                "The model reads a question and a context, separated by a tab",
                fix="write QUESTION, a tab and CONTEXT on each line",
            )
        return parts[0], parts[1]

    def predict(
        self,
        model: AnswerModel,
        inputs: Iterable[tuple[str, str]],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        from kerasllm.models.answer_texts import N_BEST, answer_stream

        n_best = options and options.n_best
        return answer_stream(model, inputs, n_best=n_best or N_BEST, chunk=chunk)

    def explained_outputs(
        self, model: AnswerModel, inputs: Iterable[tuple[str, str]], target: str | None = None
    ) -> Iterator[ExplainedOutput]:
        from kerasllm.models.explained.answers import explained_answers

        return explained_answers(model, inputs, target)

    def columns(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        # Typed, for what is empty tells nothing.
        kinds = {name: pa.type_for_alias(kind) for name, kind in _SPAN}
        kinds["n_best"] = pa.list_(pa.struct(list(kinds.items())))
        return {
            name: pa.scalar(value, kinds[name]) if name in kinds else value
            for name, value in prediction.items()
        }

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        told = {
            name: "" if value is None else value
            for name, value in prediction.items()
            if name != "n_best"
        }
        scores = (name for name in ("score", "no_answer") if name in told)
        return told | {name: f"{told[name]:.6f}" for name in scores}

    def line(self, prediction: Mapping[str, Any]) -> str:
        answer = " ".join(prediction["answer"].split()) or "-"
        question = " ".join(prediction["text"].split())
        return "\t".join([answer, f"{prediction['score']:.4f}", question])

    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> AnswerModel:
        from kerasllm.models.answer_model import AnswerModel

        return AnswerModel.from_preset(folder, precision=precision)

    def save(self, recipe: AnsweringRecipe, model: AnswerModel, run: Run) -> None:
        from kerasllm.run import whole_folder

        with whole_folder(run.model) as folder:
            model.save_to_preset(folder)

    def facts(self, recipe: AnsweringRecipe, data: Loaded) -> DataFacts:
        from kerasllm.data.loading import remarks

        facts, told = [], []
        for part, source in data.sources.items():
            more = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
            rows, store = data.parts[part], data.stores[part]
            reused = ", tokens reused from the cache" if store.reused else ""
            questions = int((store.numbers("first") > 0).sum())
            facts.append(
                (
                    part,
                    (
                        f"{source.files[0]}{more}: {counted(questions, 'question')}, "
                        f"{counted(len(store), 'window')}{reused}"
                    ),
                )
            )
            told += [f"{part}: {one}" for one in (*source.remarks, *remarks(store))]
            told += [f"{part}: {one}" for one in _remarks(rows, recipe)]
        if "validation" not in data.sources and data.validation is not None:
            held = counted(len(data.validation.question_rows), "question")
            facts.append(("validation", f"{held} held out of train, by context"))
        facts.append(("read as", data.sources["train"].description()))
        without = sum(not one for one in data.train.references)
        none = counted(without, "training question has none", "training questions have none")
        facts.append(("no answer", none if without else "all training questions have one"))
        if data.may_have_none and data.validation is None:
            told.append("no answer: the threshold stays at 0, because there is no validation data")
        return DataFacts(facts, [], told)

    def contents(self, data: Loaded) -> dict[str, str]:
        return {
            part: counted(len(rows.question_rows), "question") for part, rows in data.parts.items()
        }

    def mistakes(self, recipe: AnsweringRecipe, data: Loaded, evaluation: Evaluation) -> list[dict]:
        from kerasllm.evaluation.answered_questions import mistakes_in

        return mistakes_in(data.test, evaluation, _MISTAKES)

    def outcomes(self, recipe: AnsweringRecipe, data: Loaded, evaluation: Evaluation) -> Outcomes:
        from kerasllm.evaluation.answered_rows import answered_rows

        return answered_rows(data.test, evaluation)

    def measure(self, outcomes: Outcomes) -> Measure:
        from kerasllm.evaluation.answered_rows import measure_answered

        return measure_answered(outcomes)

    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        from kerasllm.run import shell_word

        path = shell_word(run.path)
        return [
            ("try it", f'kerasllm predict {path} --question "..." --context "..."'),
            ("predict a file", f"kerasllm predict {path} --input FILE --output answers.csv"),
            ("evaluate on other data", f"kerasllm evaluate {path} --data FILE"),
        ]

    def head(self, model: AnswerModel) -> Head:
        import numpy as np

        from kerasllm.export.graph_answers import answers_in_graph

        answering = model.answering
        described = {
            "answer": "the answer, empty where there is none",
            "start": "its first character in the context; -1 where there is none",
            "end": "the character after its last one",
            "score": "its probability",
        }
        if answering.threshold is not None:
            described["no_answer"] = (
                f"how likely there is no answer; there is none above {answering.threshold:.4g}"
            )
        return Head(
            kind="question answering model",
            texts=("question", "context"),
            outputs=lambda logits: {"logits": logits},
            compared="logits",
            compared_words="the logits of starts and ends of all tokens",
            agrees=lambda one, other: np.abs(one - other).max(axis=-1) < _AGREE,
            agreeing=f"tokens (within {_AGREE})",
            tolerances=_TOLERANCES,
            architecture="ForQuestionAnswering",
            pipeline="question-answering",
            facts={
                "max_answer_length": answering.max_answer_length,
                "no_answer_threshold": answering.threshold,
            },
            example=(
                ("Where was Ada born?", "Ada Lovelace was born in London."),
                ("Who lived there?", "Paris is where Marie Curie lived."),
            ),
            described={
                "logits": "of each token, that an answer starts with it, and that one ends with it",
            },
            from_logits=('outputs = {"logits": logits}',),
            reading=(
                'for (question, context), rows in zip(texts, outputs["logits"]):',
                "    print(rows.argmax(0), question)  # the tokens of the row: first and last",
            ),
            limits=(
                "The answer is a span of the context.",
                "It does not know whether the context is right."
                if answering.threshold is not None
                else "It always gives an answer, even if the context has none.",
            ),
            per_token=True,
            of_texts=TextOutputs(
                answers_in_graph(answering.max_answer_length, answering.threshold),
                answering.stride,
                described=described,
                reading=(
                    'for (question, _), answer in zip(texts, outputs["answer"]):',
                    "    print(question, answer.decode())",
                ),
                first_length=answering.max_question_length,
            ),
        )

    def samples(
        self,
        recipe: AnsweringRecipe | None,
        model: AnswerModel,
        part: str,
        spec: str | Sequence[str],
        count: int | None,
    ) -> Samples:
        from kerasllm.data.questions import source_of
        from kerasllm.data.readers.question_source import QuestionSource

        data = recipe.data if recipe and spec == getattr(recipe.data, part, None) else None
        if data:
            source = source_of(data, spec, part)
        else:
            source = QuestionSource(spec, split=part, on_bad_row="skip")
        longest = model.answering.max_question_length + 2

        def pairs() -> Iterator[tuple[str, str]]:
            for one in source.questions():
                # One that is cut is other tokens to those who do not cut it.
                if len(model.tokenizer.encode([one.question], longest + 1)[0]) <= longest:
                    yield one.question, one.context

        return Samples(pairs(), source.files, source.fingerprint if data else None, noun="question")

    def stand_in(self, model: AnswerModel) -> str:
        return "starter:questions/test"

    def api(self, model: AnswerModel, limits: Any) -> Api:
        from kerasllm.models.answer_texts import Prepared, answer_texts

        read = [0]

        def predict(instances: Sequence[Any]) -> list[dict]:
            pairs = [(one.question, one.context) for one in instances]
            windows = model.cut(pairs)
            read[0] += len(windows.ids)
            found = answer_texts(model, pairs, prepared=Prepared(pairs, windows))
            return [{name: one[name] for name in outputs} for one in found]

        def warm_up() -> None:
            context = "a word of a context, "
            for times in (1, 8, model.max_length):
                answer_texts(model, [("what is it", context * times)] * 2)

        outputs = {
            "answer": ("DT_STRING", (-1,)),
            "start": ("DT_INT64", (-1,)),
            "end": ("DT_INT64", (-1,)),
            "score": ("DT_FLOAT", (-1,)),
            "n_best": ("DT_VARIANT", (-1, -1)),
        }
        threshold = model.answering.threshold
        if threshold is not None:
            outputs["no_answer"] = ("DT_FLOAT", (-1,))
        return Api(
            Instance=QuestionInstance,
            outputs=outputs,
            predict=predict,
            example={
                "question": "Where was Ada born?",
                "context": "Ada Lovelace was born in London.",
            },
            warm_up=warm_up,
            facts={"max_length": model.max_length, "no_answer_threshold": threshold},
            tokens=lambda: read[0],
        )


# Logits that are closer than this mean the same.
_AGREE = 0.5
# Of logits: the largest difference, and the least share of tokens that agree.
_TOLERANCES = {
    (None, None): (5e-3, 1.0),
    (None, "bfloat16"): (1.0, 0.98),
    (None, "float16"): (0.05, 1.0),
    (None, "int8"): (4.0, 0.9),
}


def _remarks(rows: QuestionWindows, recipe: AnsweringRecipe) -> list[str]:
    """Returns what a user should know of how questions became windows."""
    told = []
    if rows.cut_questions:
        cut = counted(rows.cut_questions, "question is", "questions are")
        told.append(
            f"{cut} longer than data.max_question_length="
            f"{recipe.data.max_question_length} tokensand truncated"
        )
    if rows.unheld_answers:
        held = counted(rows.unheld_answers, "answer is", "answers are")
        told.append(
            f"{held} not contained in any window and not used in training; raise data.max_length, "
            "or lower "
            "data.stride"
        )
    return told
