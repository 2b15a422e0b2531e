"""Trains a LoRA adapter with `peft` and Hugging Face's Trainer, as fast as possible on a CPU.

Runs in the environment of `setup.sh`, imports nothing of kerasllm, and prints one JSON object:

    python huggingface_lora.py --model FOLDER --token-ids rows.npy
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time

import numpy as np
import peft
import torch
import transformers


def main() -> None:
    options = parse_arguments()
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(options)
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--token-ids", required=True, help="int32 [rows, length], as .npy")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--warmup-steps", type=int, default=2, help="not measured")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--targets", nargs="+", default=["q_proj", "v_proj"])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument(
        "--precision",
        # bfloat16 holds the base in it; mixed casts a float32 base in each step.
        choices=["bfloat16", "mixed", "float32"],
        default="bfloat16",
    )
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict:
    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(0)
    held = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=held)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=options.targets,
    )
    model = peft.get_peft_model(model, settings)
    rows = np.load(options.token_ids)
    clock = Clock(options.warmup_steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                use_cpu=True,
                bf16=options.precision != "float32",
                num_train_epochs=1,
                per_device_train_batch_size=options.batch_size,
                train_sampling_strategy="sequential",
                optim="adamw_torch_fused",
                learning_rate=options.learning_rate,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                max_grad_norm=1.0,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=[{"input_ids": row, "labels": row} for row in torch.tensor(rows).long()],
            callbacks=[clock],
        )
        trained = trainer.train()
    steps = trained.global_step - options.warmup_steps
    tokens = steps * options.batch_size * rows.shape[1]
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "tokens_per_second": tokens / clock.seconds,
        "seconds": clock.seconds,
        "work": {"steps": steps, "tokens": tokens, "trained_parameters": parameters},
        "quality": {"loss": trained.training_loss},
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "precision": options.precision,
        "threads": torch.get_num_threads(),
    }


class Clock(transformers.TrainerCallback):
    """Measures the steps after the first few."""

    def __init__(self, warmup_steps: int):
        self.warmup_steps = warmup_steps
        self.started = self.seconds = 0.0

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        if state.global_step == self.warmup_steps:
            self.started = now
        self.seconds = now - self.started


if __name__ == "__main__":
    main()
