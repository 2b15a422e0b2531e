"""Export a trained model to another format, and verify the export."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasllm import audit
from kerasllm.addresses import is_address
from kerasllm.data.labels import FILE_NAME as LABELS
from kerasllm.errors import CommandError, Interrupted, RunError
from kerasllm.export import formats
from kerasllm.export.formats import Engine, Options
from kerasllm.export.parity import FILE_NAME, Parity, compare, refuse_if_broken, write_report
from kerasllm.models.presets import PRESETS
from kerasllm.plurals import counted
from kerasllm.recipe import load
from kerasllm.run import Run, read_json, whole_folder, write_text
from kerasllm.signing import sign as sign_folder
from kerasllm.tasks.task import task_of
from kerasllm.workflows.sign import read_key_for
from kerasllm.workflows.signals import asked_to_stop
from kerasllm.workflows.trained import Trained, open_trained

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from kerasllm.export.source import Source
    from kerasllm.recipe import WholeRecipe
    from kerasllm.tasks.task import Task
    from kerasllm.workflows.report import Report

DEFAULT_FORMAT = next(iter(formats.FORMATS))

_NEEDS_RUN = "give a whole run directory of a classifier: recipe.yaml, metrics.json, model/"
_ALL = "all"


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        folder: The folder.
        files: The files in it, by their path in the folder, and their sizes in bytes.
        parity: How far each precision is from the model.
        engine: What ran the files for that.
    """

    folder: Path
    files: dict[str, int]
    parity: list[Parity]
    engine: Engine


@dataclass(frozen=True)
class Request:
    """An export that was checked as far as it can be without TensorFlow; see `check`.

    Args:
        trained: The run or the preset.
        format: The name of the format.
        output: The folder to write.
        options: What was chosen about the format.
        rows: How many rows are compared, or `"all"`; `None`: what the model's head says.
        key: What the folder is signed with. Defaults to `None`: it is not.
    """

    trained: Trained
    format: str
    output: Path
    options: Options
    rows: int | str | None
    key: ec.EllipticCurvePrivateKey | None = None


def check(
    source: str | Path,
    format: str = DEFAULT_FORMAT,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    precisions: tuple[str, ...] = (),
    rows: int | str | None = None,
    sign: str | Path | None = None,
    password: str | None = None,
) -> Request:
    """Refuses what cannot be exported, before TensorFlow is imported; see `export`.

    Raises:
        KerasllmError: If the run, the format or the output is refused.
    """
    formats.find_format(format)
    options = Options(formats.choose_precisions(format, precisions))
    if rows not in (None, _ALL) and (not isinstance(rows, int) or rows < 1):
        raise CommandError(f"--rows must be 1 or more, or all. Received: {rows}", where="--rows")
    trained = open_trained(source)
    if trained.run:
        # The card needs both.
        trained.run.read_metrics()
        trained.run.read_environment()
    else:
        _refuse_encoder(str(source))
        _refuse_part_of_a_run(Path(source))
    formats.refuse_model(format, trained.task, _family(trained.run) if trained.run else None)
    formats.refuse_missing_packages(format)
    folder = _output(trained.run, str(source), format, output)
    _refuse_existing(folder, overwrite)
    key = None if sign is None else read_key_for(folder, sign, password)
    return Request(trained, format, folder, options, rows, key)


def export(
    source: str | Path,
    format: str = DEFAULT_FORMAT,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    precisions: tuple[str, ...] = (),
    rows: int | str | None = None,
    sign: str | Path | None = None,
    password: str | None = None,
    command: str = "",
    report: Report | None = None,
) -> Exported:
    """Exports the model of a run, or a language model's preset.

    What was written is run on real rows of the run and compared with the model, and kept only if
    it gives the same outputs. The folder also gets the numbers, `parity.json`, and a model card.

    Args:
        source: A run directory, or for a language model also a preset.
        format: A name of `kerasllm.export.formats.FORMATS`. Defaults to `"saved_model"`.
        output: The folder to write. Defaults to `None`: `export/FORMAT` in the run.
        overwrite: Whether an export that is there is replaced. Defaults to `False`.
        precisions: What the weights are written in, of those that the format has. Defaults to
            `()`: float32; of litert all, a file each.
        rows: How many rows are compared, or `"all"`. Defaults to `None`: what the task says, such
            as 256 of a classifier and 64 of a language model.
        sign: The file of a private key to sign the folder with; see `kerasllm.workflows.sign`.
            Defaults to `None`: it is not signed.
        password: What the key is encrypted with. Defaults to `None`: `KERASLLM_SIGN_PASSWORD`.
        command: The command that was typed, for the record. Defaults to `""`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Raises:
        KerasllmError: If the run, the format or the output is refused.
        JobError: If what was exported does not give the model's outputs; nothing is kept then.
        Interrupted: If SIGTERM or Ctrl-C ended it while it wrote; nothing is kept then either.

    Example:

    ```python
    export("my_run", "onnx", output="reviews_onnx").parity[0].agreement  # 1.0
    ```
    """
    request = check(
        source,
        format,
        output=output,
        overwrite=overwrite,
        precisions=precisions,
        rows=rows,
        sign=sign,
        password=password,
    )
    from kerasllm.export.card import CARD, write_card
    from kerasllm.workflows.report import Report

    report = report or Report()
    with report.busy("loading the model") as busy:
        opened = _open(request, busy.update, report.line)
        formats.refuse_model(format, opened.task, opened.family, opened.head)
        chosen = formats.load_format(format)
        chosen.refuse(opened, request.options)
        for remark in chosen.remarks(opened):
            report.line(remark)
        with _stopped_by_signals(), whole_folder(request.output) as folder:
            busy.update(f"writing {format}")
            chosen.write(opened, folder, request.options)
            rows = counted(len(opened.rows), "row")
            busy.update(f"running the model on {rows}")
            expected = opened.expected
            results = []
            for precision in request.options.precisions:
                busy.update(f"running the export in {precision} on {rows}")
                found = chosen.predict(opened, folder, Options((precision,)))
                results.append(compare(opened.head, format, precision, expected, found))
            refuse_if_broken(format, results)
            card = write_card(
                opened, format, chosen, request.options, results, files=_sizes(folder)
            )
            write_text(folder / CARD, card)
            engine = chosen.engine()
            write_report(
                folder, format, opened.task.name, opened.head, opened.rows_from, engine, results
            )
            signed = None
            if request.key is not None:
                busy.update("signing")
                signed = sign_folder(folder, request.key, name=request.output.name)
    if (run := request.trained.run) is not None:
        facts = {"format": format, "output": str(request.output.absolute()), "outcome": "done"}
        key = signed and signed.key.fingerprint
        try:
            audit.note(run.path, "export", command=command, **facts, signed_with=key)
        except OSError as error:
            # The run may be another's, or on a disk that is only read.
            report.line(f"{run.path} cannot record the export: {error.strerror}")
    return Exported(request.output, _sizes(request.output), results, engine)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does: with an exception, which cleans up."""

    def interrupt(signal: object) -> None:
        # Not an `Exception`, which TensorFlow would take for an error of what it traces.
        raise KeyboardInterrupt

    with asked_to_stop(interrupt) as caught:
        try:
            yield
        except KeyboardInterrupt:
            if caught.signal is None:
                raise
            raise Interrupted(
                "The export was stopped; nothing was kept", signal=caught.signal
            ) from None


def _open(request: Request, notify: Callable[[str], None], warn: Callable[[str], None]) -> Source:
    """Loads the model in float32, and the rows that it is compared on."""
    from kerasllm.export.card_facts import facts_of_preset
    from kerasllm.export.sample_texts import sample_rows
    from kerasllm.export.source import Source

    trained, run = request.trained, request.trained.run
    task, recipe = trained.task, trained.recipe
    model = trained.open(precision="float32", progress=notify)
    count = task.head(model).rows if request.rows is None else request.rows
    fingerprints = run.read_environment().get("data") if run else None
    rows, rows_from = sample_rows(
        task, model, recipe, None if count == _ALL else count, fingerprints, warn
    )
    return Source(
        task=task,
        model=model,
        name=_name(trained),
        max_length=model.max_length or recipe.data.max_length,
        rows=rows,
        rows_from=rows_from,
        facts=_facts(run, recipe, task) if run else facts_of_preset(str(trained.source)),
    )


def _facts(run: Run, recipe: WholeRecipe, task: Task) -> dict:
    """Returns what the card tells of a run, with the intervals of its report."""
    from kerasllm.evaluation.outcomes import read_outcomes
    from kerasllm.export.card_facts import facts_of_run
    from kerasllm.reports.run_facts import intervals_of

    facts, intervals = facts_of_run(run, recipe), None
    if run.predictions.is_file() and facts["metrics"].get("test"):
        # A damaged file of predictions takes intervals from the card, and nothing from the export.
        with suppress(RunError):
            outcomes = read_outcomes(run.predictions)
            intervals = intervals_of(task, outcomes, facts["metrics"]["test"])
    return {**facts, "intervals": intervals}


def _refuse_encoder(preset: str) -> None:
    """Refuses a preset that has no labels before it is trained, where its name tells."""
    if preset in PRESETS and not task_of(load(PRESETS[preset].recipe)).generates:
        raise CommandError(
            f"{preset} has no labels before it is trained",
            fix=f"train it, `kerasllm finetune --recipe {PRESETS[preset].recipe}`, and export the "
            "run",
        )


def _refuse_part_of_a_run(path: Path) -> None:
    """Refuses a folder that is not a preset of a language model, but belongs to a run."""
    if (path / LABELS).is_file():
        whole = Run(path.absolute().parent).recipe.is_file()
        raise RunError(
            "The folder holds the model of a classifier, without the rest of its run",
            where=str(path),
            fix=f"did you mean {path.parent}?" if whole else _NEEDS_RUN,
        )
    if (path / "model").is_dir():
        classifies = (path / "model" / LABELS).is_file()
        raise RunError(
            "The run directory has no recipe.yaml",
            where=str(path),
            fix=_NEEDS_RUN if classifies else f"export the model alone: {path / 'model'}",
        )
    if path.is_dir() and any(path.glob("*/recipe.yaml")):
        Run.open(path)  # it says which run may be meant


def _output(run: Run | None, source: str, format: str, output: str | Path | None) -> Path:
    if is_address(output):
        raise CommandError(
            "An export is written to a folder of this machine",
            where=f"--output {output}",
            fix="name a folder, and copy it there afterwards",
        )
    if output is not None:
        folder = Path(output)
    elif run is not None:
        folder = run.path / "export" / format
    elif source in PRESETS or "://" in source or Path(source).exists():
        raise CommandError(
            f"The preset {source} is not a run directory that the export could be written into",
            fix="name the folder to write with --output",
        )
    else:
        raise CommandError(
            f"{source} is neither a run directory nor a preset of `kerasllm presets list`",
            fix="check the path of the run; for another preset, name the folder to write with "
            "--output",
        )
    # The folder is renamed to its place, which a link would not outlive.
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def _family(run: Run) -> str | None:
    """Returns the class of the backbone of a run's model, as its files call it."""
    try:
        return read_json(run.model / "config.json").get("class_name")
    except (OSError, RunError):
        return None  # what loads the model says what is wrong with its files


def _refuse_existing(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that is there, or cannot be made; only an export of ours is overwritten."""
    where = str(folder)
    if Path.cwd().is_relative_to(os.path.realpath(folder)) or os.path.ismount(folder):
        mounted = os.path.ismount(folder)
        why = "a file system is mounted there" if mounted else "it is the current directory"
        raise RunError(
            f"The folder cannot be replaced as a whole: {why}",
            where=where,
            fix=f"name a new folder, such as {folder / 'exported'}, with --output",
        )
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / FILE_NAME).is_file():
            raise RunError(
                f"The folder is not an export: it has no {FILE_NAME} in it",
                where=where,
                fix="choose another folder with --output; this one was left unchanged",
            )
        if not overwrite:
            raise RunError(
                "The folder already holds an export",
                where=where,
                fix="replace it with --overwrite, or choose another folder with --output",
            )
    if os.path.lexists(folder) and not folder.is_dir():
        what = "There is a file of this name"
        if folder.is_symlink():
            what = "This is a link that does not lead to a folder"
        raise RunError(what, where=where, fix="choose another folder with --output")
    parent = next(one for one in folder.absolute().parents if os.path.lexists(one))
    try:
        # For root, and on some file systems, only making a folder tells.
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=parent))
    except OSError as error:
        why = "is a file or a broken link"
        if parent.is_dir():
            why = f"cannot be written ({error.strerror})"
        raise RunError(
            f"The folder cannot be made: {parent} {why}",
            where=where,
            fix="choose another folder with --output",
        ) from error


def _name(trained: Trained) -> str:
    """Returns a plain word for the model: the name of the run's directory, or of the preset."""
    if trained.run:
        name = os.path.basename(os.path.realpath(trained.run.path))
    else:
        name = Path(str(trained.source).rstrip("/")).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.") or "model"


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
