"""Writes what the recipe translate trains on, for a peer to train on the same.

    python -m benchmarks.workers.translate --write FOLDER --set data.train=... [OPTION OF FINETUNE]

FOLDER then holds `tokens.npz`: the ids of sources and targets, the batches of the whole training
in their order, and the ids of the test data; `references.json`; `tokenizer.json`; and
`settings.json`: the sizes of the model, and how it is trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import numpy as np

from kerasllm import recipe as recipes
from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.seq2seq_rows import TARGET, Seq2SeqRows
from kerasllm.tasks.task import task_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tests", type=int, help="so many test sentences alone")
    options = parser.parse_args()
    recipe = recipes.load("translate", options.set)
    print(json.dumps(write(options.write, recipe, options.tests)))


def write(folder: Path, recipe: recipes.WholeRecipe, tests: int | None = None) -> dict:
    data, training = task_of(recipe).load(recipe), recipe.training
    folder.mkdir(parents=True, exist_ok=True)
    rows = data.train
    plans = EpochPlans(rows.lengths, training.batch_size, recipe.data.buckets, seed=training.seed)
    steps = min(plans.steps * training.epochs, training.max_steps or plans.steps * training.epochs)
    batches = [plans(step // plans.steps).rows(step % plans.steps) for step in range(steps)]
    test = data.test.take(np.arange(len(data.test))[:tests])
    references = test.texts()[1]
    np.savez(
        folder / "tokens.npz",
        order=np.concatenate(batches),
        starts=np.concatenate([[0], np.cumsum([len(batch) for batch in batches])]),
        **_ids("", rows),
        **_ids("test_", test),
    )
    (folder / "references.json").write_text(json.dumps(references), encoding="utf-8")
    (folder / "tokenizer.json").write_text(data.tokenizer.content, encoding="utf-8")
    model = recipe.model
    settings = {
        **{name: getattr(model, name) for name in ("layers", "width", "heads", "dropout")},
        "feedforward": model.feedforward or 4 * model.width,
        "vocabulary_size": data.tokenizer.vocabulary_size,
        "start": data.text_side.start_token_id,
        "end": data.text_side.end_token_id,
        "pad": data.text_side.pad_token_id,
        **{
            name: getattr(training, name)
            for name in ("learning_rate", "weight_decay", "clip_norm", "label_smoothing")
        },
        "warmup": min(int(training.warmup), steps),
        "beams": recipe.generation.beams,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return {"steps": steps, "tokens": int(rows.lengths.sum())}


def _ids(prefix: str, rows: Seq2SeqRows) -> dict[str, np.ndarray]:
    """Returns the ids of sources and targets, one row after the other, and where each begins."""
    targets = rows.store.column(TARGET).take(rows.rows).combine_chunks().flatten().to_numpy()
    both = (("source", np.concatenate(rows.source_ids())), ("target", targets))
    found = {f"{prefix}{side}_ids": ids for side, ids in both}
    for place, (side, _) in enumerate(both):
        found[f"{prefix}{side}_offsets"] = np.append(0, np.cumsum(rows.lengths[:, place]))
    return found


if __name__ == "__main__":
    main()
