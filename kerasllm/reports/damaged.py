"""A run whose files hold something else than kerasllm writes is refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2

from kerasllm.errors import KerasllmError, RunError, cut

_OF_WRONG_VALUES = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(NotImplementedError, RecursionError, jinja2.TemplateError),
)
"""What a text raises where a number should be, or a list where an object should be."""


@contextmanager
def damaged_run_refused(*paths: str | Path) -> Iterator[None]:
    """Refuses runs of whose files one has a value of another type than expected.

    The files are JSON and Parquet, which anyone may have edited: what reads them checks that they
    are objects, and not each value in them.

    Args:
        *paths: The run directories.

    Raises:
        RunError: Instead of the error that the value raised, which `--debug` shows.
    """
    try:
        yield
    except KerasllmError:
        raise
    except _OF_WRONG_VALUES as error:
        why = cut(f"{type(error).__name__}: {error}".partition("\n")[0], 200)
        raise RunError(
            f"The files of the run are not what kerasllm wrote: {why}",
            where=", ".join(map(str, paths)),
            fix="restore metrics.json, environment.json and predictions.parquet; "
            "--debug shows what failed",
        ) from error
