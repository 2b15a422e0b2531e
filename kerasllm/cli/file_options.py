"""The options for reading files, shared by several verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class _Encoding(click.ParamType):
    name = "encoding"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from kerasllm.recipe.types import known_encoding

        try:
            return known_encoding(value)
        except ValueError as error:
            self.fail(f"{error}; known are utf-8, cp1252, utf-16, shift_jis...")


class _Delimiter(click.ParamType):
    name = "delimiter"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if value not in ("tab", "\\t", "^A", "::") and (len(value) != 1 or value in '"\r\n'):
            self.fail(f"{value!r} is not one character, nor tab, ^A (of Hive) or ::")
        return value


def encoding_options(command: Callable) -> Callable:
    """Adds `--encoding` and `--delimiter` to a command that is given files."""
    delimiter = click.option(
        "--delimiter",
        type=_Delimiter(),
        metavar="CHARACTER",
        help="Field delimiter of csv and tsv files.  [default: detected]",
    )
    encoding = click.option(
        "--encoding",
        type=_Encoding(),
        metavar="NAME",
        help="Encoding of the files, e.g. cp1252.  [default: the recipe's, else UTF-8]",
    )
    return encoding(delimiter(command))
