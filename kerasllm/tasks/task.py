"""The contract of a task, and the registry that finds tasks by name.

A task is one file in `kerasllm/tasks/`, named after the task, with a subclass of `Task`, and one
recipe; or a class of another package, named by an entry point of the group `kerasllm.tasks`:

    [options.entry_points]
    kerasllm.tasks =
        ordinal = my_package.ordinal:Ordinal

The top level of a task's file imports pydantic and `kerasllm.recipe` alone, so that a mistake in a
recipe is told before TensorFlow is imported. Its methods import what they need when they run.
docs/adding_a_task.md goes through the contract with an example.
"""

from __future__ import annotations

import abc
import difflib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from kerasllm.errors import CommandError, DataError, RecipeError
from kerasllm.plurals import counted
from kerasllm.recipe.schema import WholeRecipe

if TYPE_CHECKING:
    import keras
    import numpy as np

    from kerasllm.data.report.rows import ReportRows
    from kerasllm.evaluation.outcomes import Outcomes
    from kerasllm.evaluation.resampling import Measure
    from kerasllm.models.explained.output import ExplainedOutput
    from kerasllm.run import Run

ENTRY_POINTS = "kerasllm.tasks"
"""The entry point group in which other packages name their tasks."""

PARTS = ("train", "validation", "test")
"""The parts of a run's data, in the order in which they are shown."""


@dataclass(frozen=True)
class Headline:
    """The one metric that search, compression and reports go by.

    Attributes:
        metric: Its name, as `Task.evaluate` gives it.
        higher_is_better: Whether more of it is better.
    """

    metric: str
    higher_is_better: bool = True


class TaskData(Protocol):
    """The data of a run; a task adds what it learns from them, such as labels."""

    @property
    def parts(self) -> Mapping[str, Any]:
        """The rows of each part that there is, by name: `train`, `validation`, `test`."""

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """What tells the data of each part from others."""

    @property
    def tokenizer(self) -> Any:
        """What the tokens were made with."""

    @property
    def train(self) -> Any:
        """What the model trains on."""

    @property
    def validation(self) -> Any | None:
        """What is measured while it trains, or `None`."""

    @property
    def test(self) -> Any | None:
        """What is measured at the end, or `None`."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured on some rows.

    Attributes:
        metrics: By name, as `json.dumps` takes them; scalars and what tables are made of.
        outputs: What the model gave each row, such as logits `[rows, classes]`; for `mistakes`.
        decisions: What it predicted for each row, an array that two models can be compared by;
            `None` where nothing is decided. Defaults to `None`.
        rows: What is written of each row where the user asks for a file. Defaults to none.
        document: Returns what a `.json` file holds, where the user asks for one; see
            `Task.writes_document`. Defaults to `None`.
    """

    metrics: dict[str, Any]
    outputs: Any
    decisions: np.ndarray | None = None
    rows: Iterable[Mapping[str, Any]] = ()
    document: Callable[[], Any] | None = None


@dataclass(frozen=True)
class DataFacts:
    """What `finetune` and `plan` show of a run's data.

    Attributes:
        facts: Names and values, a line each.
        tables: Rich tables, below them. Defaults to none.
        remarks: Sentences on what was cut, skipped or changed. Defaults to none.
    """

    facts: Sequence[tuple[str, str]]
    tables: Sequence[Any] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class EvaluateOptions:
    """What `kerasllm evaluate` was told besides the data; a task names those that it takes.

    Attributes:
        text: Column of the texts.
        text_pair: Column of the second texts.
        label: Column of the labels.
        encoding: Encoding of the files' text.
        delimiter: Field delimiter of csv and tsv files.
        on_bad_row: `"error"` or `"skip"`; `None` is the recipe's.
        stride: How many tokens a window over a text moves on.
        max_length: The maximum number of tokens of a window or a conversation.
        chat_template: A built-in chat template or a file.
        template: What a question with choices becomes.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    on_bad_row: str | None = None
    stride: int | None = None
    max_length: int | None = None
    chat_template: str | None = None
    template: str | None = None


@dataclass(frozen=True)
class PredictOptions:
    """What `kerasllm predict` was told besides the inputs; a task names those that it takes.

    Attributes:
        text: Column of the texts.
        text_pair: Column of the second texts.
        encoding: Encoding of the files' text.
        delimiter: Field delimiter of csv and tsv files.
        abstain_below: The probability below which no label is given.
        question: A question, to be answered from `context`.
        context: The text that may hold the answer.
        n_best: How many answers there are to a question, or words for each that is hidden.
    """

    text: str | None = None
    text_pair: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    abstain_below: float | None = None
    question: str | None = None
    context: str | None = None
    n_best: int | None = None


@dataclass(frozen=True, eq=False)
class TextOutputs:
    """What a graph on texts gives that is made of the outputs of their tokens, such as spans.

    Attributes:
        make: Makes the named outputs, each with an entry for every text, of a
            `kerasllm.export.graph_windows.GraphTexts`: the texts, where their tokens stand, and
            what the model computes of each; or for every pair of texts of a `GraphPairs`.
        stride: How many tokens a window over a long text, or over the second text of a pair, moves
            on; `None`: half of the room for it.
        described: What each output is, in words, by its name. Defaults to nothing.
        reading: Lines of Python that print `outputs`, a dict of arrays, for `texts`. Defaults to
            none.
        first_length: The maximum number of tokens of the first text of a pair. Defaults to `None`.
    """

    make: Callable[[Any], dict[str, Any]]
    stride: int | None
    described: Mapping[str, str] = field(default_factory=dict)
    reading: Sequence[str] = ()
    first_length: int | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """What export knows of a model's head: its inputs, its outputs, and how these compare.

    Attributes:
        kind: What a task calls itself in a model card, such as `"text classifier"`.
        texts: Names of the string inputs of one row, in order: `("text",)`, `("text",
            "text_pair")`; a decoder's `("prompt",)`.
        outputs: Makes the named outputs of a graph from what the model computes of token ids, a
            float32 tensor: `[batch, outputs]`, and with `per_token` `[batch, length, outputs]`.
            Each output has an entry for every row of the batch. Strings are left out where an
            engine has none (ONNX, LiteRT).
        compared: The name of the numeric output that parity compares.
        compared_words: That output in words: `"the probabilities of all labels"`.
        agrees: Takes two arrays of that output, expected and found, and returns bool `[rows]`:
            whether both mean the same, as the same label. With `per_token` a row is a token. A
            task that decides nothing, such as a regression, returns whether they are close.
        agreeing: What agrees, in words: `"labels"`.
        tolerances: By `(format, precision)`, `(None, precision)` or `(None, None)`, the first of
            these that is there: the largest absolute difference of `compared`, and the least share
            of rows that agree.
        architecture: The ending of the class in transformers: `"ForSequenceClassification"`,
            `"ForTokenClassification"`, `"ForCausalLM"`. `None` where transformers has none; a head
            on the mean of all tokens is then written for sentence-transformers.
        pipeline: The pipeline tag of model hubs, or `None`.
        config: What `config.json` of transformers says besides. Defaults to nothing.
        facts: What `parity.json` and the card say of the head. A list has a value for each output
            and is a column of a table (`"labels"`, `"thresholds"`); another value is a line
            (`"unit"`). Defaults to nothing.
        formats: The formats that the task has; `None`: all. Defaults to `None`.
        example: Texts for the code in a model card, one tuple for each row. Defaults to two.
        described: What each output is, in words, by its name. Defaults to nothing.
        from_logits: Lines of Python that make `outputs`, a dict of arrays, of `logits`, an array of
            what the model computes; NumPy is `np`. Defaults to `outputs = {"logits": logits}`.
        reading: Lines of Python that print `outputs`, a dict of arrays, for `texts`. Defaults to
            none.
        limits: Sentences on what the model cannot do, for the card. Defaults to none.
        rows: How many rows parity compares unless it is told. Defaults to `256`.
        per_token: Whether the model has outputs for each token. Graphs on texts then also give
            `tokens`, int32 `[batch, length]`, 1 for a token and 0 for padding. Defaults to `False`.
        of_texts: What graphs on texts give instead of `outputs`, where those of tokens are of no
            use by themselves. Defaults to `None`.
    """

    kind: str
    texts: tuple[str, ...]
    outputs: Callable[[Any], dict[str, Any]]
    compared: str
    compared_words: str
    agrees: Callable[[np.ndarray, np.ndarray], np.ndarray]
    agreeing: str
    tolerances: Mapping[tuple[str | None, str | None], tuple[float, float]]
    architecture: str | None
    pipeline: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] | None = None
    example: Sequence[tuple[str, ...]] = (("one text",), ("and another",))
    described: Mapping[str, str] = field(default_factory=dict)
    from_logits: Sequence[str] = ('outputs = {"logits": logits}',)
    reading: Sequence[str] = ()
    limits: Sequence[str] = ()
    rows: int = 256
    per_token: bool = False
    of_texts: TextOutputs | None = None

    def limits_of(self, format: str, precision: str) -> tuple[float, float]:
        """Returns the largest difference and the least agreement of a format in a precision."""
        for key in ((format, precision), (None, precision), (None, None)):
            if key in self.tolerances:
                return self.tolerances[key]
        raise KeyError(f"Head.tolerances has no (None, None). Received: {dict(self.tolerances)}")


def valid_unicode(text: str) -> str:
    """Returns a text that a tokenizer can read: JSON can write half of a pair, UTF-8 cannot.

    Raises:
        PydanticCustomError: If it holds half of a pair of UTF-16.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start + 1} is {text[error.start]!a}, half of a pair"
        raise _refused(f"is not valid Unicode: {half}") from None
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise _refused("is empty")
    return text


def _refused(what: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{what}", {"what": what})


InputText = Annotated[str, AfterValidator(_not_blank), AfterValidator(valid_unicode), "a text"]
"""A text of an `Instance`: valid Unicode, and not blank."""


class Instance(BaseModel):
    """The fields of one instance of a request; a task's own has them as annotations.

    A string in a field's `Annotated` is what error messages call its type. A validator refuses
    with a `ValueError`.

    Example:

    ```python
    class Pair(Instance):
        text: InputText
        text_pair: InputText
    ```
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Samples(NamedTuple):
    """Real inputs of a part of a run's data, on which an export is compared.

    Attributes:
        inputs: Texts, or tuples of texts where a row has several, as `Task.predict` takes them.
        files: The names of their files.
        fingerprint: What tells these files from others, as the run noted it in its environment;
            `None` where what the run noted is not a fingerprint of files. Defaults to `None`.
        noun: What an input is, in a word. Defaults to `"row"`.
    """

    inputs: Iterator[Any]
    files: tuple[str, ...]
    fingerprint: str | None = None
    noun: str = "row"


@dataclass(frozen=True, eq=False)
class Api:
    """What `kerasllm serve` answers with a model.

    A model that writes text has a `generator`. Any other has `Instance`, `outputs`, `predict` and
    `example`.

    Attributes:
        Instance: The schema of one instance of a `:predict` request, a subclass of `Instance`
            above: its fields are the inputs. A request may give the first field alone.
        outputs: The outputs by name, each `(dtype, sizes)` as TensorFlow Serving's metadata has
            them: `("DT_FLOAT", (-1, 3))`.
        predict: Computes instances that wait together; returns for each a dict that
            `json.dumps` takes, with the keys of `outputs`. In column format each key becomes a
            list; where its values are dicts with the same keys, a dict of lists.
        example: An instance as JSON, for the command that is printed when the server has started:
            the first field alone, or a dict.
        warm_up: Computes what is computed once, before the first request. Defaults to nothing.
        facts: What the metadata say besides: labels, `max_length`. Defaults to nothing.
        tokens: Returns how many tokens the model has read so far, for the server's counters.
            Defaults to `None`: they are not counted.
        generator: A `TextGenerator`, where the model writes text: it is served by OpenAI's API,
            and nothing of the above is used. Defaults to `None`.

    Raises:
        TypeError: If there is no generator, and one of the four is missing.
        pydantic.ValidationError: If the example is no instance.
    """

    Instance: type[BaseModel] | None = None
    outputs: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    predict: Callable[[Sequence[Any]], list[dict]] | None = None
    example: Any = None
    warm_up: Callable[[], None] = lambda: None
    facts: Mapping[str, Any] = field(default_factory=dict)
    tokens: Callable[[], int] | None = None
    generator: Any = None

    def __post_init__(self) -> None:
        if self.generator is not None:
            return
        wanted = ("Instance", "outputs", "predict", "example")
        missing = [name for name in wanted if not getattr(self, name)]
        if missing:
            raise TypeError(f"An Api without a generator needs {', '.join(missing)}")
        first = next(iter(self.Instance.model_fields))
        fields = self.example if isinstance(self.example, dict) else {first: self.example}
        self.Instance.model_validate(fields, strict=True)


class Task(abc.ABC):
    """What a model learns: everything that depends on it, and on nothing else.

    Attributes:
        name: The name, `task:` of its recipes; that of its file.
        Recipe: The pydantic schema of its recipes, with the sections `model`, `data`, `training`.
        preset_kind: What it begins with: `"encoder"`, `"decoder"` or `"encoder_decoder"`.
        headline: The metric that search, compression and reports go by.
        metrics: The name of each metric in a table, by its key, in the table's order.
        lower_is_better: The metrics where lower is better. Defaults to the loss.
        evaluate_options: The options of `kerasllm evaluate` that it takes.
        predict_options: The options of `kerasllm predict` that it takes.
        sliced: Whether a CPU may compute a batch in slices, a core each. Defaults to `True`.
        sharded: Whether `--strategy sharded` trains it: its models, losses and metrics then compute
            with `keras.ops` alone. Defaults to `False`.
        older: What keys of the recipe were before they were keys, by their dotted name: so a run
            that lacks them was trained, and is resumed. Defaults to nothing.
        predicts: Whether `kerasllm predict` works with its models. Defaults to `True`.
        writes_document: Whether `kerasllm evaluate --output` writes a `.json` file besides
            `.jsonl`; see `Evaluation.document`. Defaults to `False`.
        text_suffixes: The suffixes of files of text, such as `.conll`, that predictions can be
            written to; see `text`. Defaults to none.
        generates: Whether its models write text. Defaults to `False`.
        opens_presets: Whether its models are used without training: presets are then opened as
            models of this task. Defaults to `False`.
        compressions: The methods of `kerasllm compress` for its models. Defaults to none.
        formats: The formats of `kerasllm export` for its models, where the class can tell; see also
            `Head.formats`. Defaults to `None`: all.
        search_space: What `kerasllm tune` varies unless it is told: the range of each key, as
            `--space` takes it. The batch size is the user's choice, and not among them. Defaults
            to the learning rate and the weight decay.
    """

    name: ClassVar[str]
    Recipe: ClassVar[type[WholeRecipe]]
    preset_kind: ClassVar[str]
    headline: ClassVar[Headline]
    metrics: ClassVar[Mapping[str, str]]
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"loss"})
    evaluate_options: ClassVar[tuple[str, ...]] = ()
    predict_options: ClassVar[tuple[str, ...]] = ()
    sliced: ClassVar[bool] = True
    sharded: ClassVar[bool] = False
    older: ClassVar[Mapping[str, Any]] = {}
    predicts: ClassVar[bool] = True
    writes_document: ClassVar[bool] = False
    text_suffixes: ClassVar[tuple[str, ...]] = ()
    generates: ClassVar[bool] = False
    opens_presets: ClassVar[bool] = False
    compressions: ClassVar[tuple[str, ...]] = ()
    formats: ClassVar[tuple[str, ...] | None] = None
    search_space: ClassVar[Mapping[str, str]] = {
        "training.learning_rate": "around:5",
        "training.weight_decay": "float:0:0.2",
    }

    # Data and training

    @abc.abstractmethod
    def load(self, recipe: Any, notify: Callable[[str], None] | None = None) -> TaskData:
        """Reads, tokenizes and splits the data of a recipe.

        Args:
            recipe: A recipe of this task.
            notify: Called with what is being done. Defaults to `None`.

        Raises:
            KerasllmError: If the preset or the data is refused.
        """

    def report_rows(self, recipe: Any, part: str) -> ReportRows | None:
        """Returns the rows of a part of the data as `kerasllm data report` checks them.

        The rows are texts with a label and a place, and no model or tokenizer is loaded; rows that
        cannot be used are counted, not refused. `kerasllm.data.report.rows` has readers.

        Args:
            recipe: A recipe of this task.
            part: `train`, `validation` or `test`, whose files the recipe names.

        Returns:
            The rows; `None`, the default, where a report on such data is not known.

        Raises:
            DataError: If a file is missing, or holds other data.
        """
        return None

    @abc.abstractmethod
    def build(self, recipe: Any, data: TaskData, precision: str) -> keras.Model:
        """Builds the model of a recipe for its data, a `FineTunedModel`; changes nothing else.

        Args:
            recipe: A recipe of this task.
            data: What `load` gave.
            precision: A Keras dtype policy.

        Raises:
            KerasllmError: If the preset is refused, or does not fit the data.
        """

    def prepare_reference(self, recipe: Any, model: keras.Model, data: TaskData) -> None:
        """Computes what a loss needs besides the data, from the model before it trains.

        Called once before a training; never by `plan`. Defaults to nothing.
        """

    @abc.abstractmethod
    def loss(self, recipe: Any, data: TaskData) -> keras.losses.Loss:
        """Returns the loss of a recipe."""

    def callbacks(
        self, recipe: Any, data: TaskData, on_samples: Callable[[int, list], None]
    ) -> list[keras.callbacks.Callback]:
        """Returns callbacks of the training, such as one that writes samples; none by default.

        Args:
            recipe: A recipe of this task.
            data: What `load` gave.
            on_samples: Called with the step and `(prompt, text)` of each sample.
        """
        return []

    def finish(
        self, recipe: Any, model: keras.Model, data: TaskData, notify: Callable[[str], None]
    ) -> dict:
        """Fits what comes after the training, such as thresholds.

        Returns:
            Metrics to record; and under `"remarks"`, which is not recorded, lines to show.
        """
        return {}

    def prepare_retraining(self, recipe: Any, model: keras.Model, data: TaskData) -> None:
        """Makes a finished model ready to train on data again; `finish` follows that training.

        Undoes what `finish` did to the outputs, such as the unit of scores, so that they are what
        `loss` compares with the targets of the data. Called by `kerasllm compress` before it prunes
        a model or trains a student of it. Defaults to nothing.

        Args:
            recipe: The recipe of the model's run.
            model: What `open` gave; changed in place.
            data: What `load` gave.
        """

    # Measuring and predicting

    @abc.abstractmethod
    def rows(
        self,
        model: keras.Model,
        spec: str | Sequence[str],
        recipe: Any | None,
        options: EvaluateOptions,
        notify: Callable[[str], None],
    ) -> tuple[Any, list[str]]:
        """Reads data for `kerasllm evaluate --data`.

        Args:
            model: The model that is measured.
            spec: Files, globs or `starter:NAME`.
            recipe: The recipe of its run; `None` of a preset.
            options: What the user said besides.
            notify: Called with what is being done.

        Returns:
            What `evaluate` takes, and remarks for the user. Where bad rows were left out, the first
            may have an attribute `skipped`, how many.
        """

    @abc.abstractmethod
    def evaluate(
        self,
        model: keras.Model,
        rows: Any,
        *,
        buckets: int = 16,
        notify: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """Measures a model on some rows.

        Args:
            model: The model.
            rows: A part of `TaskData`, or what `rows` gave.
            buckets: The maximum number of lengths to pad to. Defaults to `16`.
            notify: Called with how far it is. Defaults to `None`.
        """

    def tables(self, reports: Mapping[str, Mapping[str, Any]], *, detailed: bool = False) -> list:
        """Returns rich tables of metrics: a column for each data set.

        Args:
            reports: The metrics of `Evaluation`, by the name of the data set.
            detailed: Whether the tables of the last data set's classes follow. Defaults to `False`.
        """
        from kerasllm.evaluation.tables import table_of

        return [table_of(reports, self.metrics)]

    def doubts(self, metrics: Mapping[str, Any]) -> list[str]:
        """Returns what looks as if the model had not learned its task; nothing by default.

        Args:
            metrics: Those that `evaluate` gave of a data set.

        Returns:
            What follows "the model" in a sentence, such as `"predicts 'good' for all 20 rows: train
            for more steps"`.
        """
        return []

    def figures(self, evaluation: Evaluation) -> dict[str, Any]:
        """Returns matplotlib figures of what was measured on the test data, by file name."""
        return {}

    def headline_of(self, metrics: Mapping[str, Any]) -> Headline:
        """Returns the main metric of a model, by what was measured of it."""
        return self.headline

    def source(self, trained: Any, spec: str | Sequence[str], options: PredictOptions) -> Any:
        """Returns files for `kerasllm predict --input`, a `kerasllm.data.readers.sources.Source`.

        Args:
            trained: The run, a `kerasllm.workflows.trained.Trained`.
            spec: The files.
            options: What the user said besides.

        Raises:
            DataError: If a file is missing, broken or lacks a column.
        """
        from kerasllm.data.loading import reading_of
        from kerasllm.data.readers.sources import Source

        column = options.text or getattr(trained.recipe.data, "text", None)
        reading = reading_of(trained.recipe.data, options)
        return Source(spec, split="test", text=column, labelled=False, **reading)

    def input_of(self, trained: Any, texts: Sequence[str]) -> Any:
        """Returns what `predict` takes of the texts of a row of a `source`.

        Raises:
            DataError: If it cannot be predicted for.
        """
        return texts[0] if len(texts) == 1 else tuple(texts)

    def inputs(
        self, trained: Any, spec: str | Sequence[str], options: PredictOptions
    ) -> Iterator[Any]:
        """Yields what `predict` takes of the rows of files, by `source` and `input_of`.

        Raises:
            DataError: If a file or a row is refused.
        """
        source = self.source(trained, spec, options)
        for batch in source.batches():
            for place, text in enumerate(batch.texts):
                texts = (text,) if batch.pairs is None else (text, batch.pairs[place])
                try:
                    yield self.input_of(trained, texts)
                except DataError as error:
                    where = f"{source.files[batch.file]}:{batch.lines[place]}"
                    raise DataError(error.what, where=where, fix=error.fix) from None

    def parse(self, trained: Any, texts: Sequence[str]) -> list[Any]:
        """Returns what `predict` takes of the texts of a command line."""
        return list(texts)

    def parse_line(self, trained: Any, line: str) -> Any:
        """Returns what `predict` takes of a line of stdin."""
        return line

    def predict(
        self,
        model: keras.Model,
        inputs: Iterable[Any],
        *,
        buckets: int = 16,
        chunk: int = 2048,
        options: PredictOptions | None = None,
    ) -> Iterator[dict]:
        """Predicts for inputs as they come, in memory that does not grow with their number.

        Args:
            model: The model.
            inputs: Texts, or tuples of texts where a row has two.
            buckets: The maximum number of lengths to pad to. Defaults to `16`.
            chunk: Inputs that are computed together. Defaults to `2048`.
            options: What the user said besides. Defaults to `None`: nothing.

        Yields:
            A dict for each input, in the order given, as `json.dumps` takes it. The texts of the
            input are under `text` and `text_pair`: a file that keeps the columns of its rows has
            them already.
        """
        raise NotImplementedError(f"{self.name} has no `predict`, and must say so by `predicts`.")

    def columns(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a file that has types, such as Parquet.

        A column's values have one type, or are `None`.
        """
        return dict(prediction)

    def flat(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as the columns of a line of csv: those of `columns`, as text."""
        return self.columns(prediction)

    def lines(self, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns a prediction as lines of csv, all with the same columns; one, that of `flat`.

        Of several, as one for each span of a text, each has the columns of the row that are kept.
        """
        return [self.flat(prediction)]

    def text(self, prediction: Mapping[str, Any]) -> str:
        """Returns a prediction as text for a file with a suffix of `text_suffixes`."""
        raise NotImplementedError(f"{self.name} writes no text; its `text_suffixes` are empty.")

    def line(self, prediction: Mapping[str, Any]) -> str:
        """Returns a prediction as a line for the terminal, its fields separated by tabs."""
        return "\t".join(str(value) for value in self.flat(prediction).values())

    def explained_outputs(
        self, model: keras.Model, inputs: Iterable[Any], target: str | None = None
    ) -> Iterator[ExplainedOutput]:
        """Yields what `kerasllm explain` explains of inputs: a number that the model computes.

        `kerasllm.models.explained` has some to use.

        Args:
            model: The model, in float32.
            inputs: Texts, or tuples of texts, as `predict` takes them.
            target: The name of what is explained, such as a label. Defaults to `None`: what the
                model predicts.

        Yields:
            For each input one output or several, such as one for each span that is found.

        Raises:
            CommandError: If there is no such target; by default, as nothing can be explained.
        """
        others = [name for name in names() if explains(find(name))]
        raise CommandError(
            f"What a model of the task {self.name} computes cannot be explained",
            fix=f"explain a run of one of the tasks {', '.join(others)}",
        )

    # Files

    @abc.abstractmethod
    def open(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        adapter: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> keras.Model:
        """Loads a model that `save` wrote, or a preset where `opens_presets`.

        Args:
            folder: The folder `model` of a run, or a preset.
            precision: A Keras dtype policy. Defaults to `"float32"`.
            adapter: A folder with a PEFT adapter to put on it. Defaults to `None`.
            progress: Called with a line of text before something slow. Defaults to `None`.

        Raises:
            KerasllmError: If it cannot be read, or takes no adapter.
        """

    @abc.abstractmethod
    def save(self, recipe: Any, model: keras.Model, run: Run) -> None:
        """Writes the trained model into a run."""

    # What users see

    @abc.abstractmethod
    def facts(self, recipe: Any, data: TaskData) -> DataFacts:
        """Returns what to show of the data before a training."""

    def contents(self, data: TaskData) -> dict[str, str]:
        """Returns how much each part of the data holds, in the task's own words.

        Args:
            data: What `load` gave.

        Returns:
            The words by part, such as `{"train": "57 conversations"}`; rows by default.
        """
        return {part: counted(len(rows), "row") for part, rows in data.parts.items()}

    def model_facts(self, recipe: Any, model: keras.Model) -> list[tuple[str, str]]:
        """Returns what the plan shows of a model besides its size; nothing by default."""
        return []

    def mistakes(self, recipe: Any, data: TaskData, evaluation: Evaluation) -> list[dict]:
        """Returns the most confident mistakes on the test data; none by default.

        Args:
            recipe: The recipe.
            data: The data of the run.
            evaluation: What `evaluate` gave of the test data.

        Returns:
            For each `text`, `expected`, `predicted` (both in words) and `where` (`file:line`).
        """
        return []

    def outcomes(self, recipe: Any, data: TaskData, evaluation: Evaluation) -> Outcomes | None:
        """Returns what became of each row of the test data, which a run keeps.

        The report of a run and the comparison of runs are made of it.

        Args:
            recipe: The recipe.
            data: The data of the run.
            evaluation: What `evaluate` gave of the test data.

        Returns:
            The rows; `None`, the default, where nothing is kept of them.
        """
        return None

    def measure(self, outcomes: Outcomes) -> Measure | None:
        """Returns what measures rows of `outcomes` again, for intervals and tests.

        Args:
            outcomes: What `outcomes` returned, read from the file of a run.

        Returns:
            A function of float64 `[rows]`, how often each row counts, to metrics by name: with 1
            for all, those of `evaluate`. `None`, the default, where metrics have no intervals.
        """
        return None

    def balance(self, data: TaskData) -> Mapping[str, Mapping[str, int]]:
        """Returns how often each class occurs in each part of the data, by part and name.

        Nothing by default.
        """
        return {}

    @abc.abstractmethod
    def next_steps(self, run: Run) -> list[tuple[str, str]]:
        """Returns what a user may do with the run, and the command for it.

        A path stands in it as `kerasllm.run.shell_word` gives it.
        """

    # Leaving kerasllm

    @abc.abstractmethod
    def head(self, model: keras.Model) -> Head:
        """Returns what export knows of a model."""

    @abc.abstractmethod
    def samples(
        self, recipe: Any | None, model: keras.Model, part: str, spec: Any, count: int | None
    ) -> Samples:
        """Returns real inputs of a part of a run's data, on which an export is compared.

        Args:
            recipe: The recipe of the run; `None` of a preset.
            model: The model.
            part: `train`, `validation` or `test`.
            spec: The files of that part.
            count: How many are wanted; `None`: all.

        Returns:
            The inputs, as `predict` takes them, read as they are needed.

        Raises:
            DataError: If the files are not there, or cannot be read.
        """

    @abc.abstractmethod
    def stand_in(self, model: keras.Model) -> str:
        """Returns the bundled data to use where a run's own are gone: `starter:NAME/PART`."""

    @abc.abstractmethod
    def api(self, model: keras.Model, limits: Any) -> Api:
        """Returns what `kerasllm serve` answers with a model.

        Args:
            model: The model.
            limits: `kerasllm.serving.limits.Limits`.
        """


def names() -> list[str]:
    """Returns the names of all tasks: kerasllm's own in alphabetical order, then others'."""
    return list(dict.fromkeys([*_own(), *_others()]))


def find(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        RecipeError: If there is no such task, with the nearest name that there is.
    """
    if name in _own():
        return _of_module(name)
    if name in _others():
        return _of_entry_point(name)
    raise unknown(name)


def explains(task: Task) -> bool:
    """Returns whether what the models of a task compute can be explained."""
    return type(task).explained_outputs is not Task.explained_outputs


def unknown(name: object, *, where: str | None = None, known: Sequence[str] = ()) -> RecipeError:
    """Returns the error for a task that there is not, with the nearest name that there is.

    Args:
        name: What was asked for.
        where: The place, for the message. Defaults to `None`.
        known: Names that are known besides the tasks. Defaults to none.
    """
    listed = [*names(), *known]
    near = difflib.get_close_matches(str(name), listed, n=1)
    return RecipeError(
        f"task {name!r} is not known. Expected: {' or '.join(listed)}",
        where=where,
        fix=f"did you mean {near[0]}?" if near else None,
    )


def task_of(recipe: WholeRecipe) -> Task:
    """Returns the task of a recipe."""
    return find(recipe.task)


def task_of_presets() -> Task:
    """Returns the task whose models are used without training."""
    return next(task for task in map(find, names()) if task.opens_presets)


@functools.cache
def _own() -> tuple[str, ...]:
    folder = Path(__file__).parent
    others = {"__init__", Path(__file__).stem}
    return tuple(sorted(path.stem for path in folder.glob("*.py") if path.stem not in others))


@functools.cache
def _others() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


@functools.cache
def _of_module(name: str) -> Task:
    module = importlib.import_module(f"kerasllm.tasks.{name}")
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Task) and kind.__module__ == module.__name__
    ]
    return kinds[0]()


@functools.cache
def _of_entry_point(name: str) -> Task:
    task = _others()[name].load()()
    if not isinstance(task, Task) or task.name != name:
        raise RecipeError(
            f"The entry point {name} of the group {ENTRY_POINTS} is not a task of that name",
            fix="fix the package that provides it: it names a subclass of "
            "kerasllm.tasks.task.Task whose `name` is the entry point's",
        )
    return task
