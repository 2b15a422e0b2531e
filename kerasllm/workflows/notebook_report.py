"""What a notebook shows: a progress bar that is updated in place, and tables as HTML."""

from __future__ import annotations

import html
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_SECONDS_BETWEEN_UPDATES = 0.25
# Of what fits itself to a terminal: a cell of a notebook scrolls.
_WIDTH = 200


class NotebookProgress:
    """Shows what is being done in the output of a cell; stands in for `rich.progress.Progress`.

    rich needs ipywidgets for it, and each frontend their extension; what is used here is an output
    that is replaced, which every frontend has. A bar stays as it was at its end, text goes.
    """

    disable = False

    def __init__(self) -> None:
        self._display: Any = None
        self._description = ""
        self._total: int | None = None
        self._completed = 0
        self._first = 0
        self._values = self._now = ""
        self._began = self._shown = 0.0

    def __enter__(self) -> NotebookProgress:
        from IPython.display import display

        self._began = time.monotonic()
        self._display = display(_Html(""), display_id=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self._html() if self._total else "")

    def add_task(
        self,
        description: str,
        *,
        total: int | None = None,
        completed: int = 0,
        values: str = "",
        **_: object,
    ) -> int:
        """Begins to show something; see `rich.progress.Progress.add_task`."""
        self._total, self._completed, self._first = total, completed, completed
        self.update(0, description=description, values=values)
        return 0

    def update(
        self,
        task: int,
        *,
        description: str | None = None,
        completed: int | None = None,
        values: str | None = None,
        since: float | None = None,
        **_: object,
    ) -> None:
        """Shows how far it is; see `rich.progress.Progress.update`."""
        self._description = self._description if description is None else description
        self._completed = self._completed if completed is None else completed
        # What was measured last stays, also at the end; that it is validating goes.
        if values and since is None:
            self._values = values
        self._now = values if values and since is not None else ""
        if time.monotonic() - self._shown > _SECONDS_BETWEEN_UPDATES:
            self._show(self._html())

    def _show(self, shown: str) -> None:
        self._shown = time.monotonic()
        self._display.update(_Html(shown))

    def _html(self) -> str:
        texts = [self._description, self._now or self._values]
        if not self._total:
            return f"<pre>{html.escape('  '.join(filter(None, texts)))}</pre>"
        done = self._completed - self._first
        if done and self._completed < self._total:
            left = (time.monotonic() - self._began) / done * (self._total - self._completed)
            texts.append(f"{int(left) // 60}:{int(left) % 60:02} left")
        counted = f"step {self._completed}/{self._total}"
        words = html.escape("  ".join(filter(None, [counted, *texts])))
        return (
            f'<progress value="{self._completed}" max="{self._total}" style="width: 20em">'
            f'</progress> <code style="white-space: pre-wrap">{words}</code>'
        )


def show_html(shown: str) -> None:
    """Adds HTML to the output of a cell."""
    from IPython.display import display

    display(_Html(shown))


class _Html:
    """HTML in the output of a cell."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def _repr_html_(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return ""


class Metrics(dict):
    """Metrics by name, which a notebook shows as tables."""

    def __init__(self, metrics: Mapping[str, Any], task: Any):
        super().__init__(metrics)
        self._task = task

    def _repr_html_(self) -> str:
        return "".join(map(html_of, self._task.tables({"value": self}, detailed=True)))


def html_of(table: Any) -> str:
    """Returns a rich table, or what renders as tables, as HTML, which a notebook styles."""
    if not isinstance(table, Table):
        console = Console(file=io.StringIO(), width=_WIDTH)
        return "".join(map(html_of, table.__rich_console__(console, console.options)))
    title = f"<caption>{html.escape(_plain(table.title))}</caption>" if table.title else ""
    rows = zip(*(map(_plain, column.cells) for column in table.columns), strict=True)
    return html_table([_plain(column.header) for column in table.columns], rows, title)


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """Returns an HTML table.

    Args:
        header: The names of the columns.
        rows: The cells of each row, plain texts.
        title: HTML to begin with, as a `<caption>`. Defaults to `""`.
    """
    lines = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{_cells('th', header)}</tr></thead>"
    return f"<table>{title}{head}<tbody>{lines}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _plain(cell: Any) -> str:
    if isinstance(cell, str):
        return Text.from_markup(cell).plain
    return cell.plain if isinstance(cell, Text) else str(cell)
