"""`kerasllm tune`: search for the best hyperparameters of a recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from kerasllm.cli.recipe_options import load_recipe, missing_recipe, recipe_options
from kerasllm.errors import CommandError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command()
@recipe_options
@click.option(
    "--trials", type=click.IntRange(1), metavar="N", help="Number of trials.  [default: 20]"
)
@click.option(
    "--space",
    multiple=True,
    metavar="KEY=RANGE|FILE",
    help="Search space of a key, e.g. training.learning_rate=log:1e-5:1e-3, training.epochs=1,2,3 "
    "or model.dropout=float:0:0.3; or a YAML file. Repeatable.  [default: the task's own]",
)
@click.option(
    "--output", metavar="DIR", help="The folder of the search.  [default: runs/RECIPE-tune]"
)
@click.option("--resume", is_flag=True, help="Resume the search in --output with its own settings.")
@click.option(
    "--metric",
    metavar="NAME",
    help="Validation metric to optimize.  [default: the task's main metric]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Trials run in parallel.",
)
@click.option(
    "--storage",
    metavar="URL",
    help="URL of an Optuna database, e.g. sqlite:///search.db.  [default: a file in the folder]",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "asha", "none"]),
    default="median",
    show_default=True,
    help="How unpromising trials are stopped early.",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="Time limit of all trials together, e.g. 30m or 2h.  [default: no limit]",
)
@click.option(
    "--seeds",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Seeds to train the best settings and the recipe's own with, at the end.",
)
@click.option(
    "--lr-find", is_flag=True, help="Run a learning rate range test instead: one short training."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tune(
    recipe: str | None,
    trials: int | None,
    space: tuple[str, ...],
    output: str | None,
    resume: bool,
    metric: str | None,
    workers: int,
    storage: str | None,
    pruner: str,
    budget: str | None,
    seeds: int,
    lr_find: bool,
    as_json: bool,
    **options,
) -> None:
    """Search for the best hyperparameters of a recipe.

    \b
    kerasllm tune --recipe bert_cls --train reviews.csv --trials 20
    kerasllm tune --recipe bert_cls --space training.learning_rate=log:1e-5:1e-3
    kerasllm tune --recipe bert_cls --lr-find
    kerasllm tune --resume --output runs/bert_cls-tune

    Each trial is an ordinary run. The best trial is chosen on the validation data; at the end its
    settings and those of the recipe are evaluated on the test data. The same command resumes an
    interrupted search.
    """
    if not recipe and not (resume and output):
        raise click.UsageError(missing_recipe())
    changes = [name for name, value in {**options, "space": space}.items() if value]
    if not recipe and changes:
        raise CommandError(
            "A search that is resumed from its folder alone keeps its settings: "
            f"{', '.join(_option(name) for name in changes)} would change it",
            where="--resume",
            fix="leave it out, or give --recipe and another --output",
        )
    if lr_find:
        of_search = {"trials": trials, "space": space, "resume": resume, "metric": metric}
        of_search |= {"storage": storage, "budget": budget}
        if given := [_option(name) for name, value in of_search.items() if value]:
            raise CommandError(
                f"--lr-find runs a single training, to which {', '.join(given)} does not apply",
                where="--lr-find",
                fix="leave it out, or search without --lr-find",
            )
    loaded = load_recipe(recipe, options) if recipe else None
    seconds = None if budget is None else _seconds(budget)
    name = Path(recipe).stem if recipe else "tune"
    if lr_find:
        if loaded is None:
            raise click.UsageError("--lr-find needs --recipe")
        from kerasllm.cli.startup import import_tensorflow

        import_tensorflow(loaded.training.strategy)
        from kerasllm.workflows.lr_find import lr_find as run_lr_find

        found = run_lr_find(loaded, name=name, output=output)
    else:
        from kerasllm.workflows.tune import tune as run_tune

        found = run_tune(
            loaded,
            name=name,
            space=space,
            trials=trials,
            output=output,
            metric=metric,
            workers=workers,
            storage=storage,
            pruner=pruner,
            budget=seconds,
            seeds=seeds,
        )
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))


def _option(name: str) -> str:
    return "--set" if name == "overrides" else f"--{name.replace('_', '-')}"


def _seconds(text: str) -> float:
    """Returns the seconds of a time such as 30m, 1.5h or 90s."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    if not found or not float(found[1]):
        raise CommandError(
            f"expected a time such as 90s, 30m, 2h or 1d. Received: {text}", where="--budget"
        )
    return float(found[1]) * _SECONDS[found[2]]
