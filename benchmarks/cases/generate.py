"""Greedy generation against transformers: one prompt alone, and the same eight times at once.

What was compiled or warmed up before is not counted. The share of the tokens that are those of
transformers in float32 is told: in bfloat16 two of like probability may change places, and what
follows differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.inputs import decoder_weights, language_model, make_language_model, read_config
from benchmarks.measure import run_measured
from benchmarks.suite import OURS, PEERS, Case, SuiteOptions, Target, Way

PEER = "transformers"
PROMPT = "The whale is the largest animal of the sea, and"
NEW_TOKENS = 96
# Of a weight.
BYTES = {"bfloat16": 2, "float32": 4}


class Generate(Case):
    name = "generate"
    description = "generates 96 tokens with SmolLM2-135M, alone and in a batch of 8"
    figure = "tokens_per_second"
    unit = "tokens/s"
    more_is_better = True
    targets = (
        Target("tokens_per_second", PEER, 2.0),
        Target("tokens_per_second_of_8", PEER, 2.0),
    )

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        make_language_model(options)
        self._config = read_config(language_model(options))
        command = [*self._peer(folder, options), "--precision", "float32", "--tokens-only"]
        made = run_measured(command).stdout.splitlines()[-1]
        (folder / "expected.json").write_text(made, encoding="utf-8")

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        ours = [sys.executable, "-m", "benchmarks.workers.generate"]
        sides = {
            OURS: [*ours, *self._shared(options)],
            PEER: self._peer(folder, options),
        }
        expected = ["--expected", str(folder / "expected.json")]
        return [
            Way(side, precision, [*command, *expected, "--precision", precision])
            for side, command in sides.items()
            for precision in BYTES
        ]

    def floor(self, results, ceilings):
        best = results.best(OURS, self.figure, self.more_is_better)
        weights = decoder_weights(self._config) * BYTES[best.way.name]
        token = weights / ceilings["bandwidth"]
        return {
            "seconds": token * results.work["new_tokens"][0],
            "share": token * best.median(self.figure),
            "how": f"one prompt: {weights / 1e6:.0f} MB of weights read for each token, at the "
            "measured bandwidth",
        }

    def _shared(self, options: SuiteOptions) -> list[str]:
        new_tokens, rounds = (8, 1) if options.quick else (NEW_TOKENS, 3)
        shared = ["--model", str(language_model(options)), "--prompt", PROMPT]
        return [*shared, "--new-tokens", str(new_tokens), "--rounds", str(rounds)]

    def _peer(self, folder: Path, options: SuiteOptions) -> list[str]:
        script = PEERS / "huggingface_generate.py"
        return [options.peer_python, str(script), *self._shared(options)]


CASE = Generate()
