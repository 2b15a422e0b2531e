"""The output to explain for a language model: the logit of the next token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from kerasllm.data.token_offsets import contents_of, place_text
from kerasllm.errors import CommandError
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoder_forward import logits
from kerasllm.models.explained.output import ExplainedOutput, outputs_of

# Of a model that does not say how much it reads.
_LONGEST = 1024


def explained_next_tokens(
    model: CausalLM, texts: Iterable[str], target: str | None = None
) -> Iterator[ExplainedOutput]:
    """Yields what is explained of texts: the logit of the next token.

    Of a text that is longer than the model reads its end is read.

    Args:
        model: The model.
        texts: The texts.
        target: A text that follows; its first token is explained; a word mostly begins
            with a space. Defaults to `None`: the most likely token.

    Raises:
        CommandError: If the target is no token.
    """
    tokenizer, chosen = model.tokenizer, None
    if target is not None:
        ids = contents_of(tokenizer, [target])[0].ids
        if not len(ids):
            raise CommandError(
                "The target has no token", where=f"--target {target!r}", fix='give a word: " the"'
            )
        chosen = int(ids[0])
    for text in texts:
        content = contents_of(tokenizer, [text])[0]
        longest = min(model.max_length or _LONGEST, _LONGEST)
        room = longest - (tokenizer.start_token_id is not None)
        content = content.part(max(len(content.ids) - room, 0), len(content.ids))
        tokens = place_text(tokenizer, text, longest, content)
        hidden = outputs_of(model.backbone, tokens)
        found = keras.ops.convert_to_numpy(logits(model.backbone, hidden[:, -1])[0])
        number = int(found.argmax()) if chosen is None else chosen
        chances = np.exp(found.astype(np.float64) - found.max())
        chances /= chances.sum()
        best = int(found.argmax())

        def value(states, number=number):
            return logits(model.backbone, states[:, -1])[:, number]

        word = tokenizer.decode([number])
        yield ExplainedOutput(
            tokens,
            model.backbone,
            value,
            target=word,
            described=f"the logit of {word!r}",
            predicted=f"next token {tokenizer.decode([best])!r} ({chances[best]:.2f})",
        )
