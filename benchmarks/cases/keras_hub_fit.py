"""The main job against KerasHub's own `fit`, as its guides do it: all rows padded to 128 tokens.

One precision of the peer, the best that is known, is run whole, also for its accuracy. The others
are timed on a part of the epoch's steps, which all have the same shape, and reckoned for all. The
peer runs in kerasllm's environment, for KerasHub is a dependency, but its script imports nothing of
kerasllm. The same work is the same steps on the same rows: KerasHub's tokenizer makes 215,846
tokens of them, where the reference and kerasllm make 215,945.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.cases import bert_cls
from benchmarks.inputs import KERASLLM
from benchmarks.measure import has_bfloat16, run_measured
from benchmarks.suite import PEERS, REPEAT, Case, NotBelow, SuiteOptions, Target, Way

PEER = "keras_hub"
PART = 24
QUICK_PART = 2


class KerasHubFit(Case):
    name = "keras_hub_fit"
    description = "the same job as bert_cls against KerasHub's fit, padded to 128"
    targets = (Target("seconds", PEER, 5), NotBelow("accuracy", PEER, 0.005))
    uses_peers = False

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        arguments = bert_cls.recipe_arguments(options, bert_cls.rows(options))
        run_measured([*KERASLLM, "plan", "--no-step", *arguments])

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        rows = bert_cls.rows(options)
        script = [sys.executable, str(PEERS / "keras_hub_bert_cls.py")]
        script += [*bert_cls.settings(options, rows), "--seed", REPEAT]
        part = ("--steps", str(QUICK_PART if options.quick else PART))
        precisions = ["mixed_bfloat16", "bfloat16", "float32"]
        if not has_bfloat16():
            precisions.reverse()
        whole, *others = precisions
        return [
            bert_cls.kerasllm_way(options, rows, "--work", "steps"),
            Way(PEER, whole, [*script, "--precision", whole]),
            *(Way(PEER, name, [*script, "--precision", name, *part]) for name in others),
        ]


CASE = KerasHubFit()
