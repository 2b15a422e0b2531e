"""Compares training on a GPU, by JAX, with PyTorch, and what it needs with what `plan` estimates.

    python -m benchmarks.gpu [--steps 60] [--only TEXT] [--output FILE.json]

One command, at most ten minutes. It needs an NVIDIA GPU, `pip install 'kerasllm[jax]'
'jax[cuda12]'`, and for the peer torch and transformers (peft for LoRA); what is not installed is
left out, and said. The models are of the sizes of MiniLM-L6 and SmolLM2-135M; the peer's have
weights of their own, drawn, as only time and memory are compared. Every way has a process of its
own, and computes in bfloat16. It was not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

# Of a whole process, seconds: three jobs, twice each, and the ceiling.
_LONGEST = 100

_NO_SAMPLES = ("training.sample_every=null",)


@dataclass(frozen=True)
class Job:
    """A training, of kerasllm and of the peer; `parameters` multiply each token."""

    name: str
    recipe: str
    rows: int
    length: int
    peer: str
    parameters: float
    settings: tuple[str, ...] = ()


JOBS = [
    Job("MiniLM-L6, all weights", "bert_cls", 256, 128, "bert", 10.7e6),
    Job("SmolLM2-135M, all weights", "gpt_continue", 16, 1024, "llama", 134.5e6, _NO_SAMPLES),
    Job("SmolLM2-135M, LoRA", "gpt_sft_lora", 16, 1024, "llama_lora", 134.5e6),
]


def main() -> None:
    options = _options()
    if options.peer:
        print(json.dumps(_peer(*options.peer)))
        return
    if options.ceiling:
        print(json.dumps(_ceiling()))
        return
    console = Console(stderr=True)
    ceiling = _in_process("--ceiling")
    found = []
    for job in JOBS:
        if options.only in job.name:
            with console.status(job.name):
                found.append(_measure(job, options.steps))
    _show(found, ceiling)
    if options.output:
        options.output.write_text(json.dumps({"ceiling": ceiling, "jobs": found}, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="steps of each training")
    parser.add_argument("--only", default="", help="only the jobs whose names hold this")
    parser.add_argument("--output", type=Path, help="where to write the numbers, as JSON")
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--ceiling", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(job: Job, steps: int) -> dict:
    return {
        "job": job.name,
        "parameters": job.parameters,
        "kerasllm": _kerasllm(job, steps),
        "pytorch": _in_process("--peer", job.peer, job.rows, job.length, steps),
    }


def _kerasllm(job: Job, steps: int) -> dict:
    """Trains by the command; returns what it measured of itself, and what `plan` estimates."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "data.max_length": job.length,
            "data.buckets": 1,
            "training.batch_size": job.rows,
            "training.max_steps": steps,
            "training.precision": "mixed_bfloat16",
            "training.checkpoint_every": "null",
            "training.strategy": "sharded:1x1",
        }
        options = ["--recipe", job.recipe]
        changed = [f"{key}={value}" for key, value in settings.items()]
        options += [part for each in [*changed, *job.settings] for part in ("--set", each)]
        command = [sys.executable, "-m", "kerasllm"]
        run = Path(folder) / "run"
        done = _run([*command, "finetune", *options, "--output", str(run)])
        if isinstance(done, dict):
            return done
        planned = _run([*command, "plan", *options, "--json", "--no-step"])
        timing = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["timing"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        # The first row has what is compiled in it.
        later = [row["step_seconds"] for row in rows if "step_seconds" in row][1:]
        seconds = sorted(later)[len(later) // 2] if later else None
        return {
            "tokens_per_second": seconds and job.rows * job.length / seconds,
            "memory": timing["peak_memory"],
            "planned": None
            if isinstance(planned, dict)
            else json.loads(planned)["memory"]["total"],
        }


def _in_process(*arguments: object) -> dict:
    """Returns what this module prints in a process of its own, as JSON."""
    done = _run([sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)])
    return done if isinstance(done, dict) else json.loads(done)


def _run(command: list[str]) -> str | dict:
    """Returns what a process prints; of one that fails, why."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {_LONGEST} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return done.stdout


def _ceiling() -> dict:
    """Measures products of matrices in bfloat16."""
    import time

    import jax
    import jax.numpy as jnp

    size = 8192 if jax.default_backend() != "cpu" else 512
    a = jnp.ones((size, size), jnp.bfloat16)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best, times = float("inf"), 10
    for _ in range(times):
        began = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return {"device": jax.devices()[0].device_kind, "flops": 2 * size**3 / best}


def _peer(kind: str, rows: str, length: str, steps: str) -> dict:
    """Trains a model of the same size in PyTorch, compiled, in bfloat16, with fused AdamW."""
    import time

    import torch
    import transformers

    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU")
    rows, length, steps = int(rows), int(length), int(steps)
    if kind == "bert":
        config = transformers.BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
        model = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            tie_word_embeddings=True,
        )
        model = transformers.LlamaForCausalLM(config)
        if kind == "llama_lora":
            import peft

            model = peft.get_peft_model(
                model, peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
            )
    model = model.cuda()
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    ids = torch.randint(0, config.vocab_size, (rows, length), device="cuda")
    labels = torch.zeros(rows, dtype=torch.long, device="cuda") if kind == "bert" else ids
    compiled = torch.compile(model)
    seconds = []
    for _ in range(steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    middle = sorted(seconds)[len(seconds) // 2]
    return {
        "tokens_per_second": rows * length / middle,
        "memory": torch.cuda.max_memory_allocated(),
    }


def _show(found: list[dict], ceiling: dict) -> None:
    table = Table(title=str(ceiling.get("device", ceiling.get("failed"))), box=None)
    for name in ("job", "", "tokens/s", "of the bf16 rate", "memory", "planned"):
        table.add_column(name)
    for one in found:
        for way in ("kerasllm", "pytorch"):
            numbers = one[way]
            if "failed" in numbers:
                table.add_row(one["job"], way, numbers["failed"])
                continue
            tokens, share = numbers["tokens_per_second"], None
            if tokens and "flops" in ceiling:
                # Forward, and twice as much backward.
                share = 6 * one["parameters"] * tokens / ceiling["flops"]
            planned = numbers.get("planned")
            table.add_row(
                one["job"],
                way,
                f"{tokens:,.0f}" if tokens else "?",
                "" if share is None else f"{share:.0%}",
                f"{numbers['memory'] / 1e9:.1f} GB",
                f"{planned / 1e9:.1f} GB" if planned else "",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
