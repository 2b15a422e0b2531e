"""Trains tags of words with Hugging Face's Trainer, as fast as possible on a CPU.

The settings are those of huggingface_bert_cls.py. Runs in the environment of `setup.sh`, imports
nothing of kerasllm, and prints one JSON object on stdout:

    python huggingface_ner.py --model FOLDER --train train.conll.gz --test test.conll.gz
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import sys
import tempfile
import time

import torch
import transformers

IGNORED = -100


def main() -> None:
    options = parse_arguments()
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(options)
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--train", required=True, help="CoNLL columns, gzipped: word, tab, tag")
    parser.add_argument("--test", required=True, help="as --train")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: those of the epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
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
    sentences = {part: read(getattr(options, part)) for part in ("train", "test")}
    names = sorted({tag for sentence in sentences["train"] for _, tag in sentence})
    train = encode(tokenizer, sentences["train"], names, options.max_length)
    test = encode(tokenizer, sentences["test"], names, options.max_length)
    model = transformers.AutoModelForTokenClassification.from_pretrained(
        options.model,
        num_labels=len(names),
        dtype=torch.float32,
        attn_implementation="eager",
    )
    collator = transformers.DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=8)
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
    real = sum(len(row["input_ids"]) for row in train) * options.epochs
    if options.steps:
        # Which rows those were is not told.
        real = -1
    return {
        "seconds": seconds,
        "work": {"steps": trained.global_step, "real_tokens": real},
        "quality": {"f1": score(model.eval(), tokenizer, sentences["test"], test, names)},
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "precision": options.precision,
    }


def read(path: str) -> list[list[tuple[str, str]]]:
    """Reads sentences of pairs of a word and its tag."""
    sentences, sentence = [], []
    with gzip.open(path, "rt", encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                word, _, tag = line.rstrip("\n").partition("\t")
                sentence.append((word, tag.strip()))
            elif sentence:
                sentences.append(sentence)
                sentence = []
    return [*sentences, *([sentence] if sentence else [])]


def encode(tokenizer, sentences, names: list[str], max_length: int) -> list[dict]:
    """Tokenizes sentences; the first subword of a word has its tag."""
    encoded = tokenizer(
        [[word for word, _ in sentence] for sentence in sentences],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
    )
    rows = []
    for number, sentence in enumerate(sentences):
        labels, last = [], None
        for word in encoded.word_ids(number):
            is_first = word is not None and word != last
            known = is_first and sentence[word][1] in names
            labels.append(names.index(sentence[word][1]) if known else IGNORED)
            last = word
        rows.append({"input_ids": encoded["input_ids"][number], "labels": labels})
    return rows


def score(model, tokenizer, sentences, rows: list[dict], names: list[str]) -> float:
    """Returns the strict F1 of entities; what was cut off has none."""
    true, predicted = set(), set()
    with torch.inference_mode():
        for number, (sentence, row) in enumerate(zip(sentences, rows, strict=True)):
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            found = [
                names[int(tag)]
                for tag, label in zip(logits.argmax(-1), row["labels"], strict=True)
                if label != IGNORED
            ]
            true |= entities(number, [tag for _, tag in sentence])
            predicted |= entities(number, found)
    return 2 * len(true & predicted) / (len(true) + len(predicted) or 1)


def entities(number: int, tags: list[str]) -> set[tuple]:
    """Returns the entities of a sentence as seqeval's strict mode finds them, in IOB2."""
    found, start = set(), None
    for place, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            found.add((number, start, place, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = place
    return found


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
