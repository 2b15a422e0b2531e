"""The output of a job while it runs: on stderr, so that stdout is free for results."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.syntax import Syntax
from rich.table import Column
from rich.text import Text

from kerasllm.plurals import counted
from kerasllm.training.listeners import Listener
from kerasllm.workflows.notebook_report import NotebookProgress, html_of, show_html

_LOG_WIDTH = 120
_SECONDS_BETWEEN_LINES = 5
_SECONDS_BETWEEN_ROWS = 30
# Of the progress bar, and of what stands beside it but for the values: the time left, spaces.
_BAR_WIDTH, _REST_WIDTH = 12, 10
# What a row says besides loss and metrics.
_NOT_METRICS = {
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
    "step_seconds",
    "input_wait",
    "peak_memory",
    "seconds",
    "skipped",
}
# What is copied as a whole.
_COMMANDS = ("kerasllm ", "tensorboard ")
# What is shown of a validation, where it was measured.
_VALIDATED = {
    "loss": "loss",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "f1": "F1",
    "token_accuracy": "token accuracy",
    "macro_f1": "macro F1",
}


class Report:
    """Prints to a console; on a terminal it draws a live progress bar, elsewhere it prints lines.

    Args:
        console: A rich console. Defaults to `None`: one on stderr.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        if not self.console.is_terminal:
            # A log file has no width that tables must fit, unless the user says so.
            if "COLUMNS" not in os.environ:
                self.console.width = max(self.console.width, _LOG_WIDTH)

    @classmethod
    def silent(cls) -> Report:
        """Returns a report that shows nothing, for a worker that is not the chief."""
        return cls(Console(quiet=True))

    def line(self, text: str = "") -> None:
        """Prints a line; on a terminal it is broken between words."""
        if self.console.is_terminal:
            text = _wrapped(text, self.console.width)
        self.console.print(text, markup=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Prints the title of a section."""
        self.console.print()
        self.console.print(text, style="bold", markup=False, soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        """Prints a rich table or the like; in a notebook as an HTML table."""
        if self._in_notebook:
            show_html(html_of(renderable))
        else:
            self.console.print(renderable)

    def yaml(self, text: str) -> None:
        """Prints YAML in colours."""
        self.console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Prints names and values in two columns; commands and paths stay whole, to be copied."""
        indent = max((len(name) for name, _ in facts), default=0) + 2
        for name, value in facts:
            value = _wrapped(value, self.console.width - indent).replace("\n", "\n" + " " * indent)
            line = Text.assemble((f"{name:{indent}}", "dim"), value)
            self.console.print(line, soft_wrap=True)

    @contextmanager
    def busy(self, text: str) -> Iterator[Busy]:
        """Shows that something is being done, and for how long, until the block ends."""
        with self._progress(
            TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        ) as progress:
            yield Busy(self, progress, text)

    @contextmanager
    def training(self, steps: int, done: int = 0) -> Iterator[TrainingProgress]:
        """Shows a progress bar with loss, metrics, learning rate, speed and time left.

        Args:
            steps: All steps.
            done: Steps that were done before. Defaults to `0`.
        """
        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=_BAR_WIDTH),
            _Values(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            _TimeLeft(),
        )
        with self._progress(*columns, expand=True) as progress:
            yield TrainingProgress(self, progress, steps, done)

    @contextmanager
    def rows(self, rows: int, done: int = 0) -> Iterator[RowsProgress]:
        """Shows a progress bar with rows a second and the time left.

        Args:
            rows: All rows.
            done: Rows that were done before. Defaults to `0`.
        """
        columns = (
            TextColumn("{task.completed:,} of {task.total:,} rows"),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[values]}", table_column=Column(ratio=1, no_wrap=True)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with self._progress(*columns, expand=True) as progress:
            yield RowsProgress(self, progress, rows, done)

    @property
    def _in_notebook(self) -> bool:
        return self.console.is_jupyter and not self.console.quiet

    def _progress(self, *columns, expand: bool = False) -> Progress | NotebookProgress:
        if self._in_notebook:
            return NotebookProgress()
        return Progress(
            *columns,
            console=self.console,
            transient=True,
            expand=expand,
            disable=not self.console.is_terminal,
        )


class Busy:
    """Something that is being done; made by `Report.busy`."""

    def __init__(self, report: Report, progress: Progress, text: str):
        self._report = report
        self._progress = progress
        self._task = progress.add_task(text, total=None)
        self._said = float("-inf")
        self.update(text)

    def update(self, text: str) -> None:
        """Says what is being done now; off a terminal with a line every few seconds at most."""
        self._progress.update(self._task, description=text)
        if self._progress.disable and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._report.line(text)


class RowsProgress:
    """Rows that are computed; made by `Report.rows`."""

    def __init__(self, report: Report, progress: Progress, rows: int, done: int):
        self._report, self._progress, self._rows, self._before = report, progress, rows, done
        self._task = progress.add_task("", total=rows, completed=done, values="loading the model")
        self._began = self._said = time.monotonic()

    def begin(self) -> None:
        """Says that the first row is being computed: from now on time counts."""
        self._began = self._said = time.monotonic()
        self._progress.update(self._task, values="computing the first batch", refresh=True)

    def done(self, rows: int) -> None:
        """Takes how many rows are done; off a terminal a line is printed now and then."""
        now = time.monotonic()
        rate = (rows - self._before) / max(now - self._began, 1e-6)
        values = f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.2g} rows/s"
        self._progress.update(self._task, completed=rows, values=values)
        if self._progress.disable and now - self._said > _SECONDS_BETWEEN_ROWS:
            self._said = now
            left = duration((self._rows - rows) / rate)
            self._report.line(f"{rows:,} of {self._rows:,} rows  {values}  {left} left")


class _Values(ProgressColumn):
    """What is said beside the bar of a training, and how long it takes where that is not known."""

    def render(self, task: Task) -> Text:
        text, since = task.fields["values"], task.fields["since"]
        return Text(text if since is None else f"{text}, {duration(time.monotonic() - since)}")


class _TimeLeft(ProgressColumn):
    """How long the steps that are left take, of a training."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(duration(task.finished_time or 0.0), style="progress.elapsed")
        left, since = task.fields["left"]
        if left is None:
            return Text("-:--", style="progress.remaining")
        left = max(left - (time.monotonic() - since), 0)
        return Text(duration(left), style="progress.remaining")


class TrainingProgress(Listener):
    """A training that is under way; made by `Report.training`."""

    def __init__(self, report: Report, progress: Progress, steps: int, done: int):
        self._report = report
        self._progress = progress
        self._steps = steps
        self._task = progress.add_task(
            "",
            total=steps,
            completed=done,
            values="tracing the first step",
            since=time.monotonic(),
            left=(None, 0.0),
        )
        self._values = ""
        self._left: float | None = None
        self._compiling = float("-inf")
        self._validating = (0.0, 0)
        self._validation_seconds: float | None = None

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self._report.line(text)

    def step(self, step: int) -> None:
        """Moves the bar to a step."""
        self._progress.update(self._task, completed=step, values=self._values, since=None)

    def compiling(self, length, done: int, lengths: int) -> None:
        """Says which length is being compiled; off a terminal with a line now and then."""
        width = "+".join(map(str, length)) if isinstance(length, tuple) else length
        # The first step is traced meanwhile.
        what = "compiling" if self._values else "tracing, and compiling"
        values = f"{what} length {width}, {done + 1} of {lengths}"
        now = time.monotonic()
        self._progress.update(self._task, values=values, since=now, refresh=True)
        if self._progress.disable and now - self._compiling > _SECONDS_BETWEEN_LINES:
            self._compiling = now
            self._report.line(values)

    def pace(self, seconds_left: float | None) -> None:
        """Takes how long the steps that are left take."""
        self._left = seconds_left
        self._progress.update(self._task, left=(seconds_left, time.monotonic()))

    def row(self, row: dict) -> None:
        """Shows the row that is logged; off a terminal as a line of its own."""
        if "validation" in row:
            return
        values = describe_row(row)
        room = self._report.console.width - len(f"step {self._steps}/{self._steps}")
        fitting = describe_row(row, room - _BAR_WIDTH - _REST_WIDTH)
        self._values = fitting
        self._progress.update(self._task, values=fitting, since=None, refresh=True)
        if self._progress.disable:
            left = "" if self._left is None else f"  {duration(self._left)} left"
            self._report.line(f"step {row['step']}/{self._steps}  {values}{left}")

    def validating(self, step: int, rows: int) -> None:
        """Says that a validation begins; off a terminal where it may take long."""
        self._validating = (time.monotonic(), rows)
        values, since = f"validating on {counted(rows, 'example')}", self._validating[0]
        self._progress.update(self._task, completed=step, values=values, since=since, refresh=True)
        took = self._validation_seconds
        if self._progress.disable and (took is None or took > _SECONDS_BETWEEN_LINES):
            self._report.line(f"step {step}/{self._steps}  {values}")

    def validated(self, step: int, metrics: dict) -> None:
        """Prints the result of a validation, and its speed where it took long."""
        began, rows = self._validating
        took = self._validation_seconds = time.monotonic() - began
        shown = "".join(
            f"  {name} {metrics[key]:.4f}" for key, name in _VALIDATED.items() if key in metrics
        )
        line = f"step {step}/{self._steps}  validation{shown}"
        if took > _SECONDS_BETWEEN_LINES:
            console, time_taken = self._report.console, f"  in {took:.0f} s"
            for speed in (f"{time_taken}, {rows / took:,.0f} examples/s", time_taken):
                # What has no room on a terminal is left out, as on the lines of steps.
                if not console.is_terminal or len(line + speed) <= console.width:
                    line += speed
                    break
        self._progress.update(self._task, values="", since=None)
        self._report.line(line)

    def samples(self, step: int, samples: Sequence[tuple[str, str]]) -> None:
        """Prints the model's continuations of some prompts."""
        for prompt, text in samples:
            said = " ".join(f"{prompt}{text}".split())
            self._report.line(f"step {step}/{self._steps}  sample  {said}")


def describe_row(row: dict, width: int | None = None) -> str:
    """Returns a logged row in words: loss, metrics, learning rate and real tokens per second.

    Args:
        row: The row.
        width: Characters that there is room for; what comes last is left out. Defaults to `None`:
            all is said.
    """
    waits = f", {row['input_wait']:.0%} waiting for data" if row["input_wait"] > 0.05 else ""
    parts = [f"loss {row['loss']:.4f}"]
    parts += [f"{name} {row[name]:.4f}" for name in row if name not in _NOT_METRICS]
    parts.append(f"lr {row['learning_rate']:.2e}")
    parts.append(f"{row['tokens_per_second']:,.0f} tokens/s{waits}")
    while width is not None and len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


def _wrapped(text: str, width: int) -> str:
    """Returns a text broken between words; a path or a command that is longer stays whole."""
    return "\n".join(
        line
        if len(line) <= width or line.lstrip().startswith(_COMMANDS)
        else "\n".join(
            textwrap.wrap(line, max(width, 20), break_long_words=False, break_on_hyphens=False)
        )
        for line in text.split("\n")
    )


def duration(seconds: float) -> str:
    """Returns a time as `1:05` or `2:00:00`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
