"""A question answering model with its tokenizer and window settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasllm.data.labels import Labels
from kerasllm.data.question_tokens import CutQuestions, cut_questions
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.errors import DataError, PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models import presets
from kerasllm.models.encoder import load_token_task, save_task
from kerasllm.models.huggingface import is_huggingface
from kerasllm.models.huggingface.heads import OF_SPANS, has_head, read_token_head
from kerasllm.models.token_head import TokenHead, has_token_head, read_head
from kerasllm.models.token_model import TokenModel
from kerasllm.signing import trust
from kerasllm.training.span_loss import SoftenedSpanDivergence

ANSWERING = "answering.json"
"""The file beside a model that says how it reads contexts, and when it gives no answer."""

OUTPUTS = ("start", "end")
"""The outputs of a token: that an answer starts with it, and that one ends with it."""


@dataclass(frozen=True)
class Answering:
    """How a model reads contexts, and when it gives no answer.

    Attributes:
        stride: How many tokens a window over a long context moves on. Defaults to `None`: half of
            the room for the context.
        max_question_length: The maximum number of tokens of a question. Defaults to `64`.
        max_answer_length: The maximum number of tokens of an answer. Defaults to `50`.
        threshold: How much more likely it must be that there is no answer, for the model to give
            none: the difference of logarithms of probabilities. Defaults to `None`: it always gives
            one, as it was trained on questions that have one.
    """

    stride: int | None = None
    max_question_length: int = 64
    max_answer_length: int = 50
    threshold: float | None = None

    def save(self, folder: str | Path) -> None:
        """Writes `answering.json`."""
        text = json.dumps(vars(self), indent=2)
        (Path(folder) / ANSWERING).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Answering:
        """Reads `answering.json`; of a folder without it, as of transformers, all as by default.

        Raises:
            DataError: If it cannot be read.
        """
        file = Path(folder) / ANSWERING
        if not file.is_file():
            return cls()
        try:
            facts = read_json_file(file)
            stride, threshold = facts["stride"], facts["threshold"]
            return cls(
                None if stride is None else int(stride),
                int(facts["max_question_length"]),
                int(facts["max_answer_length"]),
                None if threshold is None else float(threshold),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"The answer settings of this model cannot be read: {error}",
                where=str(file),
                fix="the file is written by `kerasllm finetune`; copy it from the original run",
            ) from error


@keras.saving.register_keras_serializable(package="kerasllm")
class AnswerModel(TokenModel):
    """An encoder that finds the answer to a question in a context, and its tokenizer.

    It is trained as a run, by `kerasllm.finetune` or the command; `answer` answers questions.

    Args:
        task: The encoder with a head on every token, of two outputs, and its preprocessor.
        tokenizer: The tokenizer of the preset. Defaults to `None`: it is made of the task's.
        answering: How contexts are read. Defaults to `None`: as `Answering()`.

    Attributes:
        answering: As given; may be set.

    Example:

    ```python
    model = AnswerModel.from_preset("my_run/model")
    model.answer([("Where was Ada born?", "Ada Lovelace was born in London.")])[0]["answer"]
    ```
    """

    def __init__(
        self,
        task: TokenHead,
        tokenizer: Tokenizer | None = None,
        answering: Answering | None = None,
        **kwargs,
    ):
        super().__init__(task, tokenizer, **kwargs)
        self.answering = answering or Answering()

    @property
    def labels(self) -> Labels:
        """The outputs of a token, by name."""
        return Labels(OUTPUTS)

    @property
    def truncation(self) -> str:
        """How a question with a context is cut that is longer than a window, where it is cut."""
        return "only_second"

    def answer(self, pairs: list[tuple[str, str]], n_best: int = 1) -> list[dict]:
        """Answers questions.

        Args:
            pairs: Questions, each with the context that may hold the answer.
            n_best: How many answers there may be under `n_best`. Defaults to `1`.

        Returns:
            What `kerasllm.models.answer_texts.answer_texts` does.
        """
        from kerasllm.models.answer_texts import answer_texts

        return answer_texts(self, pairs, n_best=n_best)

    def cut(self, pairs: list[tuple[str, str]]) -> CutQuestions:
        """Returns questions with the windows over their contexts, as the model reads them."""
        return cut_questions(
            self.tokenizer,
            [question for question, _ in pairs],
            [context for _, context in pairs],
            self.max_length,
            self.answering.stride,
            self.answering.max_question_length,
        )

    def distillation_loss(self, temperature: float) -> keras.losses.Loss:
        """Returns the loss that makes the choice of starts and ends that of a teacher.

        Args:
            temperature: Softens the probabilities of tokens.
        """
        return SoftenedSpanDivergence(temperature)

    def student(self, task: TokenHead) -> AnswerModel:
        """Returns a model that reads contexts as this one does, on another encoder."""
        return AnswerModel(task, answering=self.answering)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder of the encoder, the head, and how contexts are read.

        `keras_hub` alone loads the backbone and the tokenizer.
        """
        save_task(self.task, folder)
        self.save_outputs(folder)

    def save_outputs(self, folder: str | Path) -> None:
        """Writes `answering.json`, and `labels.json`, the names of the outputs."""
        self.labels.save(Path(folder))
        self.answering.save(folder)

    @classmethod
    def from_preset(cls, folder: str | Path, *, precision: str | None = None) -> AnswerModel:
        """Loads a model that was saved with its head: the `model` of a run.

        Args:
            folder: The folder, the run, or a folder of transformers with a
                `...ForQuestionAnswering`.
            precision: A Keras dtype policy. Defaults to `None`: float32.

        Raises:
            PresetError: If the folder has no such head, or cannot be read.
            DataError: If how it reads contexts cannot be read.
        """
        folder = Path(folder)
        if (folder / "recipe.yaml").is_file():
            folder = folder / "model"
        if folder.exists():
            trust.check(folder)
        if not finds_answers(folder):
            raise PresetError(
                f"{folder} is not a question answering model",
                fix="give a question answering run, or a transformers folder with a "
                "...ForQuestionAnswering",
            )
        answering = Answering.load(folder)
        return cls(load_token_task(folder, precision), answering=answering)


def finds_answers(folder: Path) -> bool:
    """Tells whether a folder holds a model that finds answers, with its head."""
    if is_huggingface(folder):
        return has_head(folder, OF_SPANS)
    return has_token_head(folder) and (folder / ANSWERING).is_file()


def trained_head(preset: str | Path) -> dict[str, np.ndarray] | None:
    """Returns the head of a preset that was trained to find answers.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.

    Returns:
        `kernel` and `bias`; `None` where the preset has no such head.
    """
    folder = presets.resolve(preset)
    if not isinstance(folder, Path) or not finds_answers(folder):
        return None
    return read_token_head(folder) if is_huggingface(folder) else read_head(folder)[1]
