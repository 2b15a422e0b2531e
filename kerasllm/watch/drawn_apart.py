"""Pages of what runs hold, drawn in a process of their own, whose time and memory are bounded.

A run directory may be anyone's: a file of a few bytes in it can hold any number of rows.

    python -m kerasllm.watch.drawn_apart MOST_BYTES report|compare RUN...

It writes the page to stdout; or, with exit status 1, a line of JSON: `{"what": .., "fix": ..}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kerasllm.errors import KerasllmError

_MOST_MEMORY = 4 * 2**30
_SECONDS = 120


async def drawn_apart(kind: str, paths: Sequence[Path], most_memory: int = _MOST_MEMORY) -> str:
    """Returns a page that a process of its own has drawn.

    Args:
        kind: `"report"` or `"compare"`.
        paths: The runs.
        most_memory: What the process may take, in bytes. Defaults to 4 GiB.

    Raises:
        KerasllmError: If it is refused, or takes too long or too much memory.
    """
    command = [sys.executable, "-m", __name__, str(most_memory), kind, *map(str, paths)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        found, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        raise KerasllmError("What the run holds takes too long to read") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = found.decode("utf-8", "replace")
    if process.returncode == 0:
        return text
    with suppress(ValueError, TypeError, KeyError):
        refused = json.loads(text)
        raise KerasllmError(refused["what"], fix=refused["fix"])
    raise KerasllmError(
        "What the run holds cannot be read: it takes too much memory, or is damaged",
        fix="see what `kerasllm report` says of it",
    )


def drawn(kind: str, paths: Sequence[str | Path]) -> str:
    """Returns a page, drawn in this process; see `drawn_apart`."""
    from kerasllm.reports.comparison import compare
    from kerasllm.reports.damaged import damaged_run_refused
    from kerasllm.reports.page import compare_page, report_page
    from kerasllm.reports.run_facts import facts_for_report

    with damaged_run_refused(*paths):
        if kind == "report":
            return report_page(facts_for_report(paths[0]))
        return compare_page(compare(paths))


def main(most_memory: str, kind: str, *paths: str) -> int:
    """Writes a page, or why there is none; returns the exit status."""
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (int(most_memory), int(most_memory)))
    try:
        page = drawn(kind, paths)
    except KerasllmError as error:
        sys.stdout.write(json.dumps({"what": error.what, "fix": error.fix}))
        return 1
    sys.stdout.buffer.write(page.encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
