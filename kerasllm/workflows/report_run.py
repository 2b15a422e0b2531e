"""Write the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerasllm.output_files import make_folder_of
from kerasllm.reports.damaged import damaged_run_refused
from kerasllm.reports.run_facts import facts_for_report
from kerasllm.run import Run, write_text

SUFFIXES = {"html": ".html", "md": ".md"}


def report_run(
    source: str | Path, output: str | Path | None = None, *, format: str = "html"
) -> tuple[Path, dict[str, Any]]:
    """Writes the report of a run, finished or not; no model is loaded.

    Args:
        source: The run directory.
        output: The file to write. Defaults to `None`: `report.html` or `report.md` in the run.
        format: `"html"`, a page that opens offline; or `"md"`, a model card. Defaults to `"html"`.

    Returns:
        The file, and what it shows; see `kerasllm.reports.run_facts.facts_for_report`.

    Raises:
        KerasllmError: If there is no such run, it is damaged, or the file cannot be written.

    Example:

    ```python
    path, facts = report_run("my_run")
    facts["headline"]["value"]
    ```
    """
    path = Path(output) if output is not None else Run(source).path / f"report{SUFFIXES[format]}"
    with damaged_run_refused(source):
        facts = facts_for_report(source)
        text = _WRITERS[format](source, facts)
    if output is not None:
        make_folder_of(path)
    write_text(path, text)
    return path, facts


def _page(source: str | Path, facts: dict[str, Any]) -> str:
    from kerasllm.reports.page import report_page

    return report_page(facts)


def _card(source: str | Path, facts: dict[str, Any]) -> str:
    from kerasllm.reports.card import report_card

    return report_card(source, facts)


_WRITERS = {"html": _page, "md": _card}
