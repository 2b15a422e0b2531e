"""What a language model writes while it trains: the plainest sign that it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from kerasllm.generation import GenerationSettings, generate_text
from kerasllm.models.causal_lm import CausalLM
from kerasllm.recipe import AnyRecipe

# Likely words, but not the same ones each time round, as the likeliest are.
_TEMPERATURE, _TOP_P = 0.8, 0.95


class Samples(keras.callbacks.Callback):
    """Lets a model write after every epoch, or every few steps.

    Args:
        prompts: What the samples begin with; with a chat template, what a user says.
        tokens: Tokens of a sample.
        every: Steps between samples, or `"epoch"`. Defaults to `"epoch"`.
        chat: Whether prompts go through the model's chat template. Defaults to `False`.
        seed: Seed of the samples. Defaults to `0`.
        on_samples: Called with the step and `(prompt, text)` of each sample.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        tokens: int,
        *,
        every: int | str = "epoch",
        chat: bool = False,
        seed: int = 0,
        on_samples: Callable[[int, list[tuple[str, str]]], None],
    ):
        super().__init__()
        self._prompts = list(prompts)
        self._every = every
        self._chat = chat
        self._settings = GenerationSettings(
            max_new_tokens=tokens, temperature=_TEMPERATURE, top_p=_TOP_P, seed=seed
        )
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


def samples_of(
    recipe: AnyRecipe, *, chat: bool, on_samples: Callable[[int, list[tuple[str, str]]], None]
) -> list[Samples]:
    """Returns the callback that a recipe asks for, or none.

    Args:
        recipe: The recipe, of any task.
        chat: Whether the model trains on conversations.
        on_samples: As for `Samples`.
    """
    training = recipe.training
    if getattr(training, "sample_every", None) is None:
        return []
    return [
        Samples(
            training.sample_prompts,
            training.sample_tokens,
            every=training.sample_every,
            chat=chat,
            seed=training.seed,
            on_samples=on_samples,
        )
    ]


def _asked(model: CausalLM, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    return model.chat_template.render(messages, add_generation_prompt=True)
