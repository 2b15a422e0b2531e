"""Writes targets with a trained encoder-decoder, and prints its numbers.

    python -m benchmarks.workers.write --run RUN --sources sources.json

`sources.json` is a list of texts, and `--written FILE` takes what was written.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

from kerasllm.environment import versions
from kerasllm.generation.seq2seq_texts import write_texts
from kerasllm.models.seq2seq_lm import Seq2SeqLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--precision")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--written", type=Path)
    options = parser.parse_args()
    sources = json.loads(options.sources.read_text(encoding="utf-8"))
    model = Seq2SeqLM.from_preset(options.run, precision=options.precision, dropout=0.0)
    # transformers has no limit that depends on the source.
    model.parts.generation.pop("max_length_ratio", None)
    settings = {"beams": options.beams, "max_new_tokens": options.max_new_tokens}
    seconds, written = [], []
    # The first round, in which graphs are built, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        written = [each.text for each in write_texts(model, sources, **settings)]
        seconds.append(time.perf_counter() - started)
    if options.written:
        options.written.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    print(
        json.dumps(
            {
                "texts_per_second": len(sources) / min(seconds[1:]),
                "first_round_seconds": seconds[0],
                "versions": versions(),
            }
        )
    )


if __name__ == "__main__":
    main()
