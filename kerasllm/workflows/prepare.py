"""`kerasllm data prepare`: tokenizes large data ahead of time, in several processes.

Run as a module it is one of these: `python -m kerasllm.workflows.prepare RECIPE STORE FILES`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasllm import recipe as recipes
from kerasllm.data import shards
from kerasllm.environment import store_dir
from kerasllm.errors import DataError, JobError, KerasllmError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import task_of
from kerasllm.workflows.report import Report

_SECONDS_BETWEEN_LOOKS = 0.5


def prepare_data(recipe: WholeRecipe, *, processes: int = 1, report: Report | None = None) -> None:
    """Tokenizes the data of a recipe into the store, where the next training finds them.

    Each process takes files of its own. What was broken off is continued at the file that was not
    finished.

    Args:
        recipe: A recipe; only its data, its preset and its seed count.
        processes: How many processes tokenize. Defaults to `1`: this one alone.
        report: Where progress is shown. Defaults to `None`: stderr.

    Raises:
        KerasllmError: If the data or the preset is refused.

    Example:

    ```python
    prepare_data(recipe.load("gpt_continue", ["data.train=corpus/*.jsonl"]), processes=8)
    ```
    """
    report = report or Report()
    started = time.perf_counter()
    task = task_of(recipe)
    with report.busy("reading the data") as busy:

        def make(fingerprint: str, files: Sequence[int]) -> None:
            _make(recipe, fingerprint, files, processes, busy.update)

        if processes == 1:
            data = task.load(recipe, busy.update)
        else:
            with shards.made_by(make):
                data = task.load(recipe, busy.update)
    report.heading("Prepared")
    report.facts(task.facts(recipe, data).facts)
    report.line(
        f"in {time.perf_counter() - started:.1f} s; training with the same data, preset and "
        f"lengths reads the tokens from {store_dir()}"
    )


def _make(
    recipe: WholeRecipe,
    fingerprint: str,
    files: Sequence[int],
    processes: int,
    notify: Callable[[str], None],
) -> None:
    """Lets processes write the shards of some files, and waits for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "recipe.yaml"
        written.write_text(recipe.to_yaml(), encoding="utf-8")
        workers = []
        try:
            for number in range(min(processes, len(files))):
                mine = ",".join(map(str, files[number::processes]))
                command = [sys.executable, "-m", __name__, str(written), fingerprint, mine]
                output = open(Path(folder) / f"{number}.json", "w+", encoding="utf-8")
                # What a library says of itself is no news, once for each process.
                process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
                workers.append((process, output))
            before = shards.count_shards(store_dir(), fingerprint)
            while any(process.poll() is None for process, _ in workers):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                done = shards.count_shards(store_dir(), fingerprint) - before
                notify(
                    f"tokenizing in {counted(len(workers), 'process', 'processes')}: "
                    f"{done:,} of {counted(len(files), 'file')}"
                )
            for process, output in workers:
                _raise_of(process.returncode, output)
        finally:
            for process, output in workers:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                output.close()


def _raise_of(status: int, output) -> None:
    """Raises what a process was refused by, if it was."""
    output.seek(0)
    said = output.read().strip()
    if status == 0:
        return
    if said:
        raise DataError(**json.loads(said))
    raise JobError(
        f"A process that tokenizes ended with status {status}",
        fix="start the same command again, which continues; with --processes 1 it shows why",
    )


def _work(recipe_file: str, fingerprint: str, files: str) -> int:
    """Writes the shards of some files; on a refusal prints it for the process that waits."""
    recipe = recipes.load(recipe_file)
    try:
        with shards.writing(fingerprint, list(map(int, files.split(",")))):
            task_of(recipe).load(recipe)
    except KerasllmError as error:
        print(json.dumps({"what": error.what, "where": error.where, "fix": error.fix}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_work(*sys.argv[1:]))
