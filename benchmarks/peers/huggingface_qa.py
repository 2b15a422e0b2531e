"""Trains a model that answers questions with Hugging Face's Trainer, as fast as possible on a CPU.

The settings are those of huggingface_bert_cls.py; windows, and the score, are those of the usual
script. Runs in the environment of `setup.sh`, imports nothing of kerasllm, and prints one JSON
object on stdout:

    python huggingface_qa.py --model FOLDER --train train.json.gz --test test.json.gz
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import json
import re
import string
import sys
import tempfile
import time

import torch
import transformers

N_BEST = 20
ROWS_AT_ONCE = 64


def main() -> None:
    options = parse_arguments()
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(options)
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--train", required=True, help="SQuAD JSON, gzipped")
    parser.add_argument("--test", required=True, help="as --train")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="0: those of the epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--stride", type=int, default=128)
    parser.add_argument("--max-answer-length", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the steps")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip-norm", type=float, default=1.0)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    questions = {part: read(getattr(options, part)) for part in ("train", "test")}
    train = [row for row, *_ in encode(tokenizer, questions["train"], options)]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="eager"
    )
    collator = transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=training_arguments(options, folder),
            train_dataset=train,
            data_collator=collator,
            processing_class=tokenizer,
        )
        before = time.perf_counter()
        trained = trainer.train()
        seconds = time.perf_counter() - before
    work = {"steps": trained.global_step}
    if not options.steps:
        # Which rows a few steps took is not told.
        work["real_tokens"] = sum(len(row["input_ids"]) for row in train) * options.epochs
    return {
        "seconds": seconds,
        "work": work,
        "quality": {"f1": score(model.eval(), tokenizer, questions["test"], options)},
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "precision": options.precision,
    }


def read(path: str) -> list[dict]:
    """Reads the questions of a file, each with its context."""
    with gzip.open(path, "rt", encoding="utf-8-sig") as file:
        data = json.load(file)["data"]
    return [
        {**question, "context": paragraph["context"]}
        for article in data
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def encode(tokenizer, questions: list[dict], options: argparse.Namespace) -> list[tuple]:
    """Returns windows: what the model reads, the question, and the characters of the context."""
    encoded = tokenizer(
        [one["question"] for one in questions],
        [one["context"] for one in questions],
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = []
    for number, question in enumerate(encoded["overflow_to_sample_mapping"]):
        sides = encoded.sequence_ids(number)
        spans = [
            span if side == 1 else None
            for span, side in zip(encoded["offset_mapping"][number], sides, strict=True)
        ]
        start, end = targets(spans, questions[question]["answers"][0])
        row = {"input_ids": encoded["input_ids"][number]}
        if "token_type_ids" in encoded:
            row["token_type_ids"] = encoded["token_type_ids"][number]
        windows.append(({**row, "start_positions": start, "end_positions": end}, question, spans))
    return windows


def targets(spans: list, answer: dict) -> tuple[int, int]:
    """Returns the first and the last token of an answer, both 0 where the window cuts it."""
    first, last = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    tokens = [number for number, span in enumerate(spans) if span]
    if not tokens or spans[tokens[0]][0] > first or spans[tokens[-1]][1] < last:
        return 0, 0
    within = [number for number in tokens if spans[number][1] > first and spans[number][0] < last]
    return (within[0], within[-1]) if within else (0, 0)


def score(model, tokenizer, questions: list[dict], options: argparse.Namespace) -> float:
    """Returns the F1 of the best answers, as the script of SQuAD 1.1 computes it."""
    answers = best_answers(model, tokenizer, questions, options)
    total = sum(
        max(f1(answer, one["text"]) for one in question["answers"])
        for answer, question in zip(answers, questions, strict=True)
    )
    return total / len(questions)


def best_answers(model, tokenizer, questions: list[dict], options: argparse.Namespace) -> list[str]:
    """Returns the best answer to each question, over all windows of its context."""
    windows = encode(tokenizer, questions, options)
    best: dict[int, tuple[float, str]] = {}
    for first in range(0, len(windows), ROWS_AT_ONCE):
        some = windows[first : first + ROWS_AT_ONCE]
        rows = [
            {name: row[name] for name in row if not name.endswith("positions")} for row, *_ in some
        ]
        with torch.inference_mode():
            outputs = model(**tokenizer.pad(rows, return_tensors="pt"))
        for place, (_, question, spans) in enumerate(some):
            starts, ends = (
                logits[place, : len(spans)].float()
                for logits in (outputs.start_logits, outputs.end_logits)
            )
            context = questions[question]["context"]
            for start in starts.argsort(descending=True)[:N_BEST].tolist():
                for end in ends.argsort(descending=True)[:N_BEST].tolist():
                    if not (spans[start] and spans[end]):
                        continue
                    if not start <= end < start + options.max_answer_length:
                        continue
                    found = float(starts[start] + ends[end])
                    if found > best.get(question, (-1e9, ""))[0]:
                        best[question] = (found, context[spans[start][0] : spans[end][1]])
    return [best.get(number, (0.0, ""))[1] for number in range(len(questions))]


def normalized(text: str) -> list[str]:
    text = "".join(each for each in text.lower() if each not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(answer: str, reference: str) -> float:
    words, wanted = normalized(answer), normalized(reference)
    shared = sum((collections.Counter(words) & collections.Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def training_arguments(options: argparse.Namespace, folder: str) -> transformers.TrainingArguments:
    return transformers.TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        bf16=options.precision == "bfloat16",
        num_train_epochs=options.epochs,
        max_steps=options.steps or -1,
        per_device_train_batch_size=options.batch_size,
        train_sampling_strategy="group_by_length",
        optim="adamw_torch_fused",
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip_norm,
        seed=options.seed,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main()
