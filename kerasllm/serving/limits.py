"""The limits of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kerasllm.errors import CommandError


@dataclass(frozen=True)
class Limits:
    """How much a server takes, so that no client can fill its memory or keep the others out.

    Args:
        body: The maximum number of bytes of a request's body. Defaults to `1_000_000`.
        instances: The maximum number of instances of a request. Defaults to `1024`.
        batch: The maximum number of rows that are computed together. Defaults to `None`: 64
            instances, or 32 answers of a language model.
        queue: The maximum number of requests that wait. Defaults to `256`.
        tokens: The maximum number of tokens of an answer. Defaults to `1024`.
        length: The maximum number of tokens of prompt and answer together, where the model reads
            more. Defaults to `2048`.
        prefix_cache: The maximum number of bytes of keys and values that are kept for prompts that
            begin as texts before; `0`: none. Defaults to `128_000_000`.

    Raises:
        CommandError: If one is not above 0, but for the last.
    """

    body: int = 1_000_000
    instances: int = 1024
    batch: int | None = None
    queue: int = 256
    tokens: int = 1024
    length: int = 2048
    prefix_cache: int = 128_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1 and field.name != "prefix_cache":
                raise CommandError(
                    f"The limit must be 1 or more. Received: {value}", where=f"--max-{field.name}"
                )
