"""Samples of a language model during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from kerasllm.data.chat.messages import without_mark
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import generate_text
from kerasllm.models.causal_lm import CausalLM


class Samples(keras.callbacks.Callback):
    """Lets a model write after every epoch, or every few steps.

    Args:
        prompts: What the samples begin with; with a chat template, what a user says.
        settings: How they are generated.
        every: Steps between samples, or `"epoch"`. Defaults to `"epoch"`.
        chat: Whether prompts go through the model's chat template. Defaults to `False`.
        on_samples: Called with the step and `(prompt, text)` of each sample.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        settings: GenerationSettings,
        *,
        every: int | str = "epoch",
        chat: bool = False,
        on_samples: Callable[[int, list[tuple[str, str]]], None],
    ):
        super().__init__()
        self._prompts = list(prompts)
        self._every = every
        self._chat = chat
        self._settings = settings
        self._on_samples = on_samples

    def on_train_batch_end(self, batch, logs=None):
        done = self.model.steps_done
        before = done - len(self.model.last_execution["step_loss"])
        if self._every != "epoch" and before // self._every != done // self._every:
            self._write(done)

    def on_epoch_end(self, epoch, logs=None):
        if self._every == "epoch":
            self._write(self.model.steps_done)

    def _write(self, step: int) -> None:
        prompts = [_asked(self.model, prompt) if self._chat else prompt for prompt in self._prompts]
        texts = generate_text(self.model, prompts, self._settings)
        self._on_samples(step, list(zip(self._prompts, texts, strict=True)))


def _asked(model: CausalLM, question: str) -> str:
    messages = [{"role": "user", "content": without_mark(question)}]
    return model.chat_template.render(messages, add_generation_prompt=True)
