"""The argument RUN, which may be the address of a run or of a preset."""

from __future__ import annotations

from typing import Any

import click

from kerasllm.addresses import is_address


class RunArgument(click.ParamType):
    """A run directory or a preset as it is typed; fetched, where it lies on an object store."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_address(value):
            return value
        from kerasllm.models.remote import local

        return str(local(value))


RUN = RunArgument()
