"""Beam search with the scores and the stopping rules of transformers.

A beam's score is the sum of its log-probabilities; that of a text that has ended is divided by its
number of new tokens to the power of the length penalty. The search ends when as many texts have
ended as there are beams, and the best open one is not expected to become better than the worst of
them, as `early_stopping` says.
"""

from __future__ import annotations

import numpy as np

from kerasllm.generation.compiled import Functions, Sizes, padded
from kerasllm.generation.settings import GenerationSettings


def beam_search(
    functions: Functions,
    weights,
    prompt: list[int],
    sizes: Sizes,
    new_tokens: int,
    settings: GenerationSettings,
    stops: tuple[int, ...],
) -> list[int]:
    """Returns the new tokens of the best text, with the stop token that ended it, if any.

    Args:
        functions: What computes.
        weights: What the decoder computes with.
        prompt: Token ids.
        sizes: Sizes that hold the prompt, with a row for each beam.
        new_tokens: The maximum number of new tokens.
        settings: The number of beams, the penalties.
        stops: Tokens that end a text.
    """
    beams, power = settings.beams, settings.length_penalty
    # Enough that a full set of beams continues, whichever candidates end.
    kept = max(2, 1 + len(stops)) * beams
    penalizes = settings.repetition_penalty != 1
    penalty = np.float32(settings.repetition_penalty)
    token_ids, lengths = padded([prompt], sizes)
    start = functions.start_beams(sizes, penalizes, kept)
    advance = functions.advance_beams(sizes, penalizes, kept)
    best, tokens, cache, seen = start(weights, token_ids, lengths, penalty)
    best, tokens, parents = best.numpy(), tokens.numpy(), np.zeros(kept, np.int32)
    texts: list[list[int]] = [[] for _ in range(beams)]
    finished: list[tuple[float, list[int]]] = []
    for count in range(1, new_tokens + 1):
        candidates = [[*texts[p], int(t)] for p, t in zip(parents, tokens)]
        ends = np.isin(tokens, stops) | (count == new_tokens)
        # Only the first ones may end; the others are kept to continue.
        finished += [
            (float(best[i]) / count**power, candidates[i]) for i in range(beams) if ends[i]
        ]
        finished = sorted(finished, key=lambda each: -each[0])[:beams]
        open_ones = [i for i in range(kept) if not ends[i]][:beams]
        if not open_ones:
            break
        if len(finished) == beams:
            never = settings.early_stopping == "never" and power > 0
            hope = best[open_ones[0]] / (new_tokens if never else count) ** power
            if settings.early_stopping is True or hope <= finished[-1][0]:
                break
        texts = [candidates[i] for i in open_ones]
        spare = sizes.rows - len(open_ones)
        scores = np.pad(best[open_ones], (0, spare), constant_values=-1e9).astype(np.float32)
        answer = advance(
            weights,
            cache,
            seen,
            scores,
            np.pad(tokens[open_ones], (0, spare)),
            np.pad(parents[open_ones], (0, spare)),
            np.int32(count),
            lengths,
            penalty,
        )
        best, tokens, parents = (each.numpy() for each in answer[:3])
        cache, seen = answer[3:]
    return finished[0][1]
