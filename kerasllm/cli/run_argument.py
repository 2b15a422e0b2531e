"""The argument RUN, which may be the address of a run or of a preset."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from kerasllm.addresses import is_address
from kerasllm.cli import completion


class RunArgument(click.ParamType):
    """A run directory or a preset as it is typed; downloaded, where it lies on an object store."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_address(value):
            return value
        from kerasllm.models.remote import local

        return str(local(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completion.runs(ctx, param, incomplete)


RUN = RunArgument()
