"""The formats that a model can be exported to, by name; a format's module is loaded when chosen.

Nothing here imports TensorFlow: what can be refused by name is refused at once.
"""

from __future__ import annotations

import abc
import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kerasllm import aliases
from kerasllm.errors import CommandError, KerasllmError

if TYPE_CHECKING:
    import numpy as np

    from kerasllm.export.source import Source
    from kerasllm.tasks.task import Head, Task


@dataclass(frozen=True)
class Options:
    """What a user chose about a format.

    Args:
        precisions: What the weights are written in: `"float32"`, `"bfloat16"`, `"float16"`,
            `"int8"`. Defaults to `("float32",)`.
    """

    precisions: tuple[str, ...] = ("float32",)

    @property
    def precision(self) -> str:
        """The first of the precisions: the only one for a format that writes one file."""
        return self.precisions[0]


@dataclass(frozen=True)
class Engine:
    """What runs the files that were written, for the comparison with the model.

    Args:
        name: Its name and version, in words.
        foreign: Whether it is the library that the files are for. Defaults to `True`; otherwise
            kerasllm reads its own files back, which shows less.
    """

    name: str
    foreign: bool = True

    @classmethod
    def of(cls, *packages: str) -> Engine:
        """Returns libraries that are installed here, by the names of their packages."""
        return cls(" and ".join(f"{one} {metadata.version(one)}" for one in packages))

    @classmethod
    def own(cls, library: str) -> Engine:
        """Returns kerasllm, instead of a library that is not installed here."""
        return cls(f"kerasllm, which read back its own files: {library} is not installed", False)


class Format(abc.ABC):
    """How a model is written for others, and how what was written is run again.

    A module of a format has one, as `FORMAT`. It knows no task: what a model reads and gives, and
    how that compares, is in `Source.head`.
    """

    def refuse(self, source: Source, options: Options) -> None:
        """Raises a `CommandError` if the format cannot hold this model, naming what can."""

    def remarks(self, source: Source) -> list[str]:
        """Returns what to tell the user at once of how this model is held, a line each."""
        return []

    @abc.abstractmethod
    def write(self, source: Source, folder: Path, options: Options) -> None:
        """Writes the files into an empty folder."""

    @abc.abstractmethod
    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """Runs the files that were written, and not the model, on `source.rows`.

        Args:
            source: What was exported.
            folder: The folder that `write` wrote.
            options: As for `write`, but with one precision.

        Returns:
            The output `Head.compared` for each row, `[rows, ...]`; of a language model the logits
            of the token after each row; with `Head.per_token` that of each token of all rows.
        """

    @abc.abstractmethod
    def engine(self) -> Engine:
        """Returns what `predict` runs the files with."""

    @abc.abstractmethod
    def usage(self, source: Source, options: Options) -> str:
        """Returns Markdown that shows how to load and run it, for the model card."""

    def library(self, source: Source) -> str | None:
        """Returns the library that model hubs shall name for the files, if they name one."""
        return None


@dataclass(frozen=True)
class Listed:
    """What is known of a format before its module is loaded.

    Args:
        description: One line.
        module: The module with its `FORMAT`.
        precisions: What its weights can be written in. Defaults to `("float32",)`.
        together: Whether a folder holds a file of each precision, and all of them unless it is
            said; a folder is written in one precision otherwise, and in the first unless it is
            said. Defaults to `False`.
        packages: What must be installed, as it is imported, beside kerasllm's own dependencies.
            Defaults to `()`.
        extra: The extra of kerasllm that installs them. Defaults to `None`.
        decoders: The language models that it holds, by the class of their backbone in KerasHub.
            Defaults to `None`: all.
        instead: The formats to use for what it does not hold. Defaults to `()`: all others.
    """

    description: str
    module: str
    precisions: tuple[str, ...] = ("float32",)
    together: bool = False
    packages: tuple[str, ...] = ()
    extra: str | None = None
    decoders: tuple[str, ...] | None = None
    instead: tuple[str, ...] = ()


FORMATS: dict[str, Listed] = {
    "saved_model": Listed(
        "TensorFlow SavedModel that takes strings, for TensorFlow Serving",
        "kerasllm.export.saved_model",
        precisions=("float32", "bfloat16"),
    ),
    "transformers": Listed(
        "Hugging Face folder: config, safetensors, tokenizer",
        "kerasllm.export.transformers",
    ),
    "litert": Listed(
        "LiteRT (TensorFlow Lite) files for phones and small devices",
        "kerasllm.export.litert",
        precisions=("float32", "float16", "int8"),
        together=True,
        # All others take a slice of a mask, with a new axis, for which LiteRT has no operation.
        decoders=("GPT2Backbone",),
        instead=("onnx", "saved_model", "transformers"),
    ),
    "onnx": Listed(
        "ONNX file for onnxruntime and other engines",
        "kerasllm.export.onnx",
        packages=("onnx", "onnxruntime", "tf2onnx"),
        extra="onnx",
    ),
    "keras": Listed(
        "One .keras file that Keras and KerasHub load without kerasllm",
        "kerasllm.export.keras_file",
    ),
    "keras_hub": Listed(
        "KerasHub preset folder",
        "kerasllm.export.keras_hub_preset",
    ),
}
"""Name to what is known of a format, the default first."""


def find_format(name: str) -> Listed:
    """Returns what is known of a format.

    Raises:
        CommandError: There is no such format.
    """
    if name not in FORMATS:
        if ours := aliases.FORMATS.get(aliases.normalized(name)):
            raise CommandError(
                f"There is no format {name!r}: here it is {ours}",
                where="--format",
                fix=f"type --format {ours}",
            )
        near = difflib.get_close_matches(name, FORMATS, n=1)
        raise CommandError(
            f"There is no format {name!r}",
            where="--format",
            fix=(f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(FORMATS)}",
        )
    return FORMATS[name]


def load_format(name: str) -> Format:
    """Imports the module of a format.

    Raises:
        KerasllmError: A package that it needs is not installed.
    """
    refuse_missing_packages(name)
    return importlib.import_module(find_format(name).module).FORMAT


def refuse_missing_packages(name: str) -> None:
    """Raises a `KerasllmError` if a package that a format needs is not installed."""
    listed = find_format(name)
    missing = [one for one in listed.packages if importlib.util.find_spec(one) is None]
    if missing:
        raise KerasllmError(
            f"The format {name} needs {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed",
            where="--format",
            fix=f'pip install "kerasllm[{listed.extra}]"',
        )


def refuse_model(
    name: str, task: Task, family: str | None = None, head: Head | None = None
) -> None:
    """Raises a `CommandError` if a format does not hold a model, naming those that do.

    Args:
        name: The format.
        task: The task of the model.
        family: The class of its backbone in KerasHub. Defaults to `None`: not known yet.
        head: Its head. Defaults to `None`: not known yet.
    """
    listed = find_format(name)
    few = [one for one in (task.formats, head and head.formats) if one is not None]
    held = [other for other in FORMATS if all(other in formats for formats in few)]
    what, instead = None, ()
    if name not in held:
        what = f"a {head.kind}" if head else f"models of the task {task.name}"
    elif task.generates and family and family not in (listed.decoders or (family,)):
        what = f"language models of the family {family.removesuffix('Backbone')}"
        instead = listed.instead
    if what:
        others = [other for other in instead or held if other in held and other != name]
        raise CommandError(
            f"The format {name} does not support {what}",
            where="--format",
            fix=f"use {', '.join(others)}" if others else "use the run directory itself",
        )


def choose_precisions(name: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the precisions to write: those that were asked for, else those of the format.

    Raises:
        CommandError: The format does not have one that was asked for, or has not room for all.
    """
    listed = find_format(name)
    known = listed.precisions
    for one in wanted:
        if one not in known:
            having = [other for other, each in FORMATS.items() if one in each.precisions]
            raise CommandError(
                f"The format {name} is not available in {one!r}",
                where="--precision",
                fix=f"it has {', '.join(known)}"
                + (f"; {one} is for --format {' or '.join(having)}" if having else ""),
            )
    chosen = tuple(one for one in known if one in wanted)
    if len(chosen) > 1 and not listed.together:
        raise CommandError(
            f"The format {name} holds a single precision per folder. Received: {', '.join(chosen)}",
            where="--precision",
            fix="export once for each, with different --output folders",
        )
    return chosen or (known if listed.together else known[:1])
