"""Training the GPT-2 of the recipe gpt_lm, against the same model in PyTorch.

Both train on the same rows of Moby Dick's tokens in the same order, with dropout, AdamW and
clipping; the first steps, which trace and compile, are not counted. Weights begin at random, so
that losses at the end differ a little.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.measure import run_measured
from benchmarks.suite import OURS, PEERS, Case, SuiteOptions, Target, Way

PEER = "pytorch"
STEPS = 200


class GptLm(Case):
    name = "gpt_lm"
    description = "trains the small GPT-2 of gpt_lm from scratch, 8 x 128 tokens a step"
    figure = "tokens_per_second"
    unit = "tokens/s"
    more_is_better = True
    targets = (Target("tokens_per_second", PEER, 1.3),)

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        steps = str(4 if options.quick else STEPS)
        run_measured([*self._ours(folder), "--write", "--steps", steps])
        self._settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        peer = [options.peer_python, str(PEERS / "pytorch_gpt.py"), *self._files(folder)]
        ways = [
            Way(OURS, name, [*self._ours(folder), "--precision", name])
            for name in ("mixed_bfloat16", "float32")
        ]
        for precision in ("bfloat16", "float32"):
            command = [*peer, "--precision", precision]
            ways += [
                Way(PEER, precision, command),
                Way(PEER, f"{precision}, compiled", [*command, "--compile"]),
            ]
        return ways

    def floor(self, results, ceilings):
        sizes, tokens = self._settings, results.work["tokens"]
        width = sizes["width"]
        # The layers' matrices and the head's; attention sees all tokens of a row, masked or not.
        weights = sizes["layers"] * 12 * width**2 + sizes["vocabulary_size"] * width
        operations = 6 * weights * tokens
        operations += 12 * sizes["layers"] * width * sizes["length"] * tokens
        seconds = operations / ceilings["bfloat16"]
        speed = results.best(OURS, self.figure, self.more_is_better).median(self.figure)
        return {
            "seconds": seconds,
            "share": seconds * speed / tokens,
            "how": f"{operations / 1e12:.1f} trillion operations of matrix products for "
            f"{tokens:,} tokens, at the measured rate of bfloat16",
        }

    def _ours(self, folder: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.workers.gpt_lm", *self._files(folder)]

    def _files(self, folder: Path) -> list[str]:
        return ["--rows", str(folder / "rows.npy"), "--settings", str(folder / "settings.json")]


CASE = GptLm()
