"""`kerasllm evaluate`: measure a trained model on data."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Labelled data of a classifier: a file, folder, glob or address. Of a language model "
    "also txt, md, folders of them; conversations; questions with choices.  [default: the run's "
    "own test data]",
)
@click.option("--text", metavar="COLUMN", help="Column of the texts.  [default: the recipe's]")
@click.option(
    "--text-pair", metavar="COLUMN", help="Column of the second texts.  [default: the recipe's]"
)
@click.option("--label", metavar="COLUMN", help="Column of the labels.  [default: the recipe's]")
@encoding_options
@click.option(
    "--on-bad-row",
    type=click.Choice(["error", "skip"]),
    help="What a row that cannot be used does: end the command, or be left out and counted.  "
    "[default: the recipe's]",
)
@click.option(
    "--stride",
    type=int,
    metavar="N",
    help="Tokens that a window over a text moves on.  [default: half a window]",
)
@click.option(
    "--max-length",
    type=int,
    metavar="N",
    help="Most tokens of a window or a conversation.  [default: the recipe's; 1024 of a preset]",
)
@click.option(
    "--chat-template", metavar="NAME", help="Of conversations.  [default: the model's own]"
)
@click.option(
    "--template", metavar="TEXT", help="Of questions.  [default: Question: {question}\\nAnswer:]"
)
@click.option("--adapter", metavar="FOLDER", help="A PEFT adapter to put on a language model.")
@click.option(
    "--output",
    metavar="FILE",
    help="Write what was measured of each row: .jsonl; answers also .json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def evaluate(run: str, data: tuple[str, ...], as_json: bool, **options) -> None:
    """Measure a trained model on data.

    \b
    kerasllm evaluate my_run
    kerasllm evaluate my_run --data reviews.csv
    kerasllm evaluate my_run --data starter:movie_reviews --json
    kerasllm evaluate smollm2_135m_instruct --data book.txt --stride 256
    kerasllm evaluate smollm2_135m_instruct --data starter:chat
    kerasllm evaluate my_run --data quiz.jsonl

    A row of quiz.jsonl is {"question": "...", "choices": ["...", "..."], "answer": 0}.
    """
    from kerasllm.addresses import take_credentials
    from kerasllm.workflows.trained import open_trained

    trained = open_trained(run)
    # Refused before TensorFlow is imported, where there is none.
    own = None if data else trained.test_data()
    import_tensorflow()
    from rich.console import Console

    from kerasllm.workflows.evaluate import evaluate as run_evaluate

    given = [take_credentials(one) for one in data]
    metrics = run_evaluate(trained, given or None, **options)
    if as_json:
        click.echo(json.dumps(metrics, ensure_ascii=False))
        return
    if own:
        given = [own] if isinstance(own, str) else own
    # The whole paths would leave no room for what stands beside them.
    named = {", ".join(Path(one).name if Path(one).exists() else one for one in given): metrics}
    tables = trained.task.tables(named, detailed=True)
    console = Console()
    with console.capture() as shown:
        for table in tables:
            console.print(table)
            console.print()
    click.echo(shown.get(), nl=False)
