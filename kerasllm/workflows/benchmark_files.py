"""The files of a benchmark's tasks: found in their folders, as they are published."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import CommandError, DataError
from kerasllm.run import write_text
from kerasllm.workflows.benchmark_tasks import Benchmark, GlueTask

_FILE = re.compile(
    r"(?P<stem>[\w-]+?)(?P<shard>-\d+-of-\d+)?"
    r"(?P<format>\.(?:tsv|csv|jsonl|parquet)(?:\.(?:gz|zst|bz2|xz))?)"
)


@dataclass(frozen=True)
class FoundTask:
    """A task whose files are there.

    Attributes:
        task: The task.
        train: The training files.
        dev: The files that are measured.
        second: The second files that are measured; none of most tasks.
    """

    task: GlueTask
    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    second: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes of training data."""
        return sum(file.stat().st_size for file in self.train)

    def files(self, part: str, folder: Path) -> list[str]:
        """Returns the files that are read of a part.

        Args:
            part: `"train"`, `"dev"` or `"second"`.
            folder: Where `write_copies` writes.
        """
        if self.task.word is not None:
            return [str(folder.absolute() / f"{part}.jsonl")]
        return [str(file.absolute()) for file in getattr(self, part)]

    def write_copies(self, folder: Path) -> None:
        """Writes the files of a task whose texts belong to a word, with that word in them."""
        if self.task.word is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for part in ("train", "dev"):
                (file,) = getattr(self, part)
                text = "".join(_with_word(file, self.task.word))
                write_text(Path(*self.files(part, folder)), text)


def find_tasks(
    benchmark: Benchmark, data: Path, names: Sequence[str] = ()
) -> tuple[list[FoundTask], dict[str, str]]:
    """Finds the tasks of a benchmark in a folder.

    Args:
        benchmark: The benchmark.
        data: The folder, with a folder for each task.
        names: The tasks. Defaults to none: all that are there.

    Returns:
        The tasks that are there, and why others are not, by name.

    Raises:
        KerasllmError: If a name is not known, a named task is not there, or none is.
    """
    if not data.is_dir():
        raise DataError(
            "There is no such folder",
            where=f"--data {data}",
            fix=f"name the folder that contains the folders of {benchmark.name}'s tasks",
        )
    asked = [_task_named(benchmark, name) for name in names]
    folders = {plain_name(each.name): each for each in sorted(data.iterdir()) if each.is_dir()}
    found, missing = [], {}
    for task in benchmark.tasks:
        if asked and task not in asked:
            continue
        folder = folders.get(plain_name(task.name))
        if folder is None:
            missing[task.name] = "there is no such folder"
            continue
        stems = (task.train, task.dev, task.second)
        files = [_files(folder, each) for each in stems]
        lacking = [each[0] for each, there in zip(stems, files, strict=True) if each and not there]
        if lacking:
            missing[task.name] = f"its folder has no {lacking[0]}.tsv, .jsonl or .parquet"
        else:
            found.append(FoundTask(task, *files))
    if missing and asked:
        raise DataError(
            f"Tasks are missing: {in_words(missing)}",
            where=str(data),
            fix="put their files there, or leave them out of --tasks",
        )
    if not found:
        names = ", ".join(task.name for task in benchmark.tasks)
        raise DataError(
            f"The folder has none of {benchmark.name}'s tasks",
            where=f"--data {data}",
            fix=f"name the folder that holds a folder for each, with its files: {names}",
        )
    if not asked:
        refused = {plain_name(name): name for name in benchmark.refused}
        there = [refused[name] for name in folders if name in refused]
        missing |= {name: benchmark.refused[name] for name in there}
    return found, missing


def settings_of(found: FoundTask, folder: Path) -> dict[str, Any]:
    """Returns what a task sets over its recipe: its files, read as they are published.

    Args:
        found: The task.
        folder: Where `FoundTask.write_copies` writes.
    """
    return {
        "data.train": found.files("train", folder),
        "data.test": found.files("dev", folder),
        # All rows train, and the development set is measured once.
        "data.validation_split": 0,
        # Some texts are in more than one part, as they were published.
        "data.leaks": "warn",
        "data.max_length": 128,
        **found.task.settings,
    }


def in_words(missing: Mapping[str, str]) -> str:
    """Returns tasks and why they are left out, those with the same reason together."""
    names: dict[str, list[str]] = {}
    for name, why in missing.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(those)}: {why}" for why, those in names.items())


def plain_name(name: str) -> str:
    """Returns the name of a task in lower case, without what stands between its parts."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _task_named(benchmark: Benchmark, name: str) -> GlueTask:
    known = {plain_name(task.name): task for task in benchmark.tasks}
    if found := known.get(plain_name(name)):
        return found
    what, fix = f"{benchmark.name} has no task {name!r}", "choose from "
    for each, why in benchmark.refused.items():
        if plain_name(each) == plain_name(name):
            what = f"{benchmark.name}'s {each} is not trained: {why}"
    if near := difflib.get_close_matches(plain_name(name), known, n=1):
        fix = f"did you mean {known[near[0]].name}? {fix}"
    names = ", ".join(task.name for task in benchmark.tasks)
    raise CommandError(what, where=f"--tasks {name}", fix=fix + names)


def _files(folder: Path, stems: Sequence[str]) -> tuple[Path, ...]:
    """Returns the file of a folder that has one of some names, or its shards."""
    named = [
        (match, file)
        for file in sorted(folder.iterdir())
        if (match := _FILE.fullmatch(file.name)) and file.is_file()
    ]
    for stem in stems:
        those = [(match, file) for match, file in named if match["stem"] == stem]
        if those:
            first = those[0][0]
            return tuple(
                file
                for match, file in those
                if match["format"] == first["format"] and (match["shard"] or match is first)
            )
    return ()


def _with_word(file: Path, column: str) -> list[str]:
    """Returns the lines of a jsonl file, with the word of each row before its first text."""
    if file.suffix != ".jsonl":
        raise DataError(
            "WiC is read from SuperGLUE's own files",
            where=str(file),
            fix="unpack train.jsonl and val.jsonl of WiC into its folder",
        )
    lines = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                row["sentence1"] = f"{row[column]}: {row['sentence1']}"
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"The row has no {column} and sentence1",
                    where=f"{file}:{number}",
                    fix="restore the published file",
                ) from error
            kept = {key: row[key] for key in ("sentence1", "sentence2", "label") if key in row}
            lines.append(json.dumps(kept, ensure_ascii=False) + "\n")
    return lines
