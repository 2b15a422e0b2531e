"""`kerasllm evaluate`: evaluate a trained model on a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.sharded_option import sharded_option
from kerasllm.cli.startup import import_tensorflow


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Labelled data: a file, folder, glob or address. For a language model also text files "
    "(txt, md), conversations, or multiple-choice questions.  [default: the run's own test data]",
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
    help="What to do with a bad row: stop with an error, or skip and count it.  [default: the "
    "recipe's]",
)
@click.option(
    "--stride",
    type=int,
    metavar="N",
    help="Stride of the sliding window, in tokens.  [default: half a window]",
)
@click.option(
    "--max-length",
    type=int,
    metavar="N",
    help="Maximum tokens of a window or a conversation.  [default: the recipe's; 1024 for a "
    "preset]",
)
@click.option(
    "--chat-template",
    metavar="NAME",
    help="Chat template for conversations.  [default: the model's own]",
)
@click.option(
    "--template",
    metavar="TEXT",
    help="Prompt of a multiple-choice question.  [default: Question: {question}\\nAnswer:]",
)
@click.option("--adapter", metavar="FOLDER", help="PEFT adapter to load into a language model.")
@click.option(
    "--output",
    metavar="FILE",
    help="Write the result of each example: .jsonl; answers also .json.",
)
@sharded_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def evaluate(
    run: str, data: tuple[str, ...], as_json: bool, strategy: str | None, **options
) -> None:
    """Evaluate a trained model on a dataset.

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

    trained = open_trained(run).under(strategy)
    # Refused before TensorFlow is imported, where there is none.
    own = None if data else trained.test_data()
    import_tensorflow(strategy)
    from rich.console import Console

    from kerasllm.workflows.evaluate import evaluate as run_evaluate

    given = [take_credentials(one) for one in data]
    metrics = run_evaluate(trained, given or None, **options)
    if not trained.shows_results:
        return
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
