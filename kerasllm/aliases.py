"""What other tools call things, and what they are called here: one table for all refusals.

The words are those of Hugging Face's Trainer and its command lines, axolotl, torchtune, litgpt,
Keras and TensorFlow Model Garden. None of them is accepted: each is refused with ours, and with
what to type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verb:
    """A command of another tool.

    Attributes:
        command: Ours, as it is typed after `kerasllm`; `RUN` stands for what was given.
        note: A sentence on what is different. Defaults to none.
        renamed: Whether the rest of the command line can stay as it was typed. Defaults to `False`.
    """

    command: str
    note: str = ""
    renamed: bool = False


@dataclass(frozen=True)
class Key:
    """A setting of another tool.

    Attributes:
        ours: The dotted key of a recipe; `None` where there is none.
        note: A sentence on what is different. Defaults to none.
        values: Their values by name, as ours. Defaults to none: values stay as they are.
        value: Ours, regardless of theirs. Defaults to `None`: it follows from theirs.
        option: What does the same on the command line, where no key does; `VALUE` stands for what
            was given. Defaults to `None`.
    """

    ours: str | None
    note: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    value: str | None = None
    option: str | None = None


_TRAIN = Verb("finetune --recipe bert_cls", renamed=True)
_PREDICT = Verb(
    "predict RUN 'a text'", "generate RUN generates text, predict RUN predicts labels", True
)
_EVALUATE = Verb("evaluate RUN", renamed=True)
_EXPORT = Verb("export RUN --format transformers")
_COMPRESS = Verb("compress RUN --method int8")
_LAUNCH = Verb("launch --workers 2 -- finetune --recipe bert_cls")
_LORA = Verb(
    "finetune --recipe gpt_sft_lora", "LoRA is a setting: --set model.lora.rank=8 in any recipe"
)
_MERGE = Verb(
    "export RUN --format transformers",
    "finetune already merges adapters into RUN/model; export converts that",
)

VERBS: dict[str, Verb] = {
    **dict.fromkeys(("train", "fit", "fine-tune", "fine_tune", "finetuning", "run"), _TRAIN),
    "trainer": _TRAIN,
    "pretrain": Verb(
        "finetune --recipe gpt_lm", "with model.preset=null the model is trained from scratch"
    ),
    "sft": Verb("finetune --recipe gpt_sft_lora", "the recipe selects the method"),
    "dpo": Verb("finetune --recipe gpt_dpo", "the recipe selects the method"),
    **dict.fromkeys(("lora", "peft"), _LORA),
    "qlora": Verb("finetune --recipe gpt_sft_qlora", "the base is quantized by model.quantize"),
    **dict.fromkeys(("merge", "merge-lora", "merge_lora", "fuse"), _MERGE),
    **dict.fromkeys(("eval", "test", "validate", "score", "measure"), _EVALUATE),
    **dict.fromkeys(("infer", "inference", "prediction", "classify"), _PREDICT),
    **dict.fromkeys(
        ("complete", "completion", "sample", "text"), Verb("generate RUN --prompt 'One day'")
    ),
    **dict.fromkeys(("quantize", "quantise", "ptq"), _COMPRESS),
    "prune": Verb("compress RUN --method prune"),
    "distill": Verb("compress RUN --method distill"),
    **dict.fromkeys(("convert", "save", "push"), _EXPORT),
    **dict.fromkeys(("download", "pull", "fetch"), Verb("presets fetch minilm_l6_en_uncased")),
    **dict.fromkeys(
        ("ls", "list", "models"), Verb("presets list", "recipes list shows the recipes")
    ),
    **dict.fromkeys(("cp", "init"), Verb("recipes copy bert_cls mine.yaml")),
    **dict.fromkeys(("config", "configs", "recipe"), Verb("recipes list")),
    **dict.fromkeys(("deploy", "api", "server"), Verb("serve RUN", renamed=True)),
    **dict.fromkeys(("torchrun", "distributed", "accelerate"), _LAUNCH),
    **dict.fromkeys(
        ("sweep", "hpo", "search", "optimize"), Verb("tune --recipe bert_cls", renamed=True)
    ),
    "resume": Verb("finetune --resume --output RUN"),
    **dict.fromkeys(("dry-run", "check"), Verb("plan --recipe bert_cls")),
    **dict.fromkeys(("env", "info", "version"), Verb("doctor")),
}
"""Commands of other tools."""

_STEPS = "a number of steps, or epoch"
_GLOBAL = "batch_size is the global batch, over all devices and micro-batches"
_BF16 = Key("training.precision", values={"true": "mixed_bfloat16", "false": "float32"})
_FP16 = Key("training.precision", values={"true": "mixed_float16", "false": "float32"})
_DTYPE = Key(
    "training.precision",
    values={
        **dict.fromkeys(("bf16", "bfloat16"), "mixed_bfloat16"),
        **dict.fromkeys(("fp16", "float16", "16"), "mixed_float16"),
        **dict.fromkeys(("fp32", "32", "no"), "float32"),
    },
)
_OPTIMIZER = Key(
    "training.optimizer",
    values={
        **dict.fromkeys(
            ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_8bit", "paged_adamw_8bit"),
            "adamw",
        ),
        **dict.fromkeys(("adamw_bnb_8bit", "paged_adamw_32bit", "adamw_anyprecision"), "adamw"),
        "lion_8bit": "lion",
    },
)
_SCHEDULE = Key(
    "training.schedule",
    values={
        "constant_with_warmup": "constant",
        **dict.fromkeys(("cosine_with_restarts", "cosine_with_min_lr", "cosine_decay"), "cosine"),
    },
)
_STRATEGY = Key(
    "training.strategy",
    values={
        **dict.fromkeys(("ddp", "multi_gpu", "gpu"), "mirrored"),
        **dict.fromkeys(("fsdp", "deepspeed"), "sharded"),
    },
)
_REPLICAS = Key("training.strategy", "gradients are summed over the GPUs", value="mirrored")
_SHARDS = Key("training.strategy", "the model is split over the devices", value="sharded")
_PRESET = Key("model.preset")
_TRAIN_FILE = Key("data.train")
_VALIDATION_FILE = Key("data.validation")
_LENGTH = Key("data.max_length")
_FOUR_BITS = Key("model.quantize", "it quantizes the base below an adapter", {"true": "int4"})
_EIGHT_BITS = Key("model.quantize", "it quantizes the base below an adapter", {"true": "int8"})
_PATIENCE = Key("training.early_stopping.patience")
_OUTPUT = Key(None, "the output directory is not a recipe key", option="--output VALUE")
_RESUME = Key(None, "resuming is not a recipe key", option="--resume --output VALUE")
_TRACKED = Key(
    None,
    "TensorBoard and metrics.jsonl are always written into the run; training.track=mlflow, wandb "
    "or trackio sends them there as well",
)
_NOT_NEEDED = Key(None, "it follows from the data or the model: leave it out")
_ACCUMULATE = Key("training.accumulate", f"it cuts a batch into micro-batches; {_GLOBAL}")

KEYS: dict[str, Key] = {
    # How long, and how often.
    **dict.fromkeys(
        ("epochs", "num_train_epochs", "num_epochs", "n_epochs", "max_epochs", "train_epochs"),
        Key("training.epochs"),
    ),
    **dict.fromkeys(
        ("max_steps", "max_train_steps", "train_steps", "total_steps", "max_iters"),
        Key("training.max_steps"),
    ),
    **dict.fromkeys(
        ("save_steps", "save_freq", "save_interval", "checkpointing_steps", "checkpoint_interval"),
        Key("training.checkpoint_every"),
    ),
    **dict.fromkeys(
        ("save_total_limit", "max_to_keep", "checkpoints_total_limit"),
        Key("training.keep_checkpoints"),
    ),
    **dict.fromkeys(
        ("eval_steps", "validation_interval", "val_check_interval", "evaluation_strategy"),
        Key("training.evaluate_every", _STEPS),
    ),
    "eval_strategy": Key("training.evaluate_every", _STEPS, {"steps": "500"}),
    **dict.fromkeys(
        ("logging_steps", "log_every_n_steps", "summary_interval", "log_interval"),
        Key("training.log_every"),
    ),
    "early_stopping_patience": _PATIENCE,
    "patience": _PATIENCE,
    "metric_for_best_model": Key(
        "training.early_stopping.metric", values={"eval_loss": "loss", "eval_accuracy": "accuracy"}
    ),
    # Batches.
    **dict.fromkeys(
        ("batch_size", "per_device_train_batch_size", "per_gpu_train_batch_size"),
        Key("training.batch_size", _GLOBAL),
    ),
    **dict.fromkeys(
        ("train_batch_size", "micro_batch_size", "global_batch_size", "bs"),
        Key("training.batch_size", _GLOBAL),
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulation_steps", "grad_accum_steps"), _ACCUMULATE
    ),
    **dict.fromkeys(("gradient_accumulation", "accumulate_grad_batches"), _ACCUMULATE),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_batch_size"),
        Key(None, "evaluation batches are formed by length: leave it out"),
    ),
    # The optimizer.
    **dict.fromkeys(
        ("learning_rate", "lr", "init_lr", "initial_learning_rate"), Key("training.learning_rate")
    ),
    "weight_decay": Key("training.weight_decay"),
    "wd": Key("training.weight_decay"),
    **dict.fromkeys(
        ("warmup", "warmup_ratio", "warmup_steps", "num_warmup_steps", "lr_warmup_steps"),
        Key("training.warmup", "below 1 it is a share of all steps, else a number of steps"),
    ),
    **dict.fromkeys(
        ("lr_scheduler_type", "lr_scheduler", "lr_schedule", "scheduler", "schedule"), _SCHEDULE
    ),
    **dict.fromkeys(
        ("max_grad_norm", "grad_clip", "gradient_clip_val", "gradient_clip_norm", "clipnorm"),
        Key("training.clip_norm"),
    ),
    "global_clipnorm": Key("training.clip_norm"),
    "optim": _OPTIMIZER,
    "optimizer": _OPTIMIZER,
    "label_smoothing_factor": Key("training.label_smoothing"),
    # The machine.
    **dict.fromkeys(("bf16", "tf32"), _BF16),
    "fp16": _FP16,
    **dict.fromkeys(("mixed_precision", "dtype", "torch_dtype", "precision"), _DTYPE),
    **dict.fromkeys(
        ("gradient_checkpointing", "enable_activation_checkpointing", "remat"),
        Key("training.rematerialize"),
    ),
    **dict.fromkeys(("jit_compile", "torch_compile", "compile"), Key("training.xla")),
    **dict.fromkeys(("distribution_strategy", "strategy"), _STRATEGY),
    "ddp": _REPLICAS,
    **dict.fromkeys(("deepspeed", "fsdp"), _SHARDS),
    **dict.fromkeys(("seed", "random_seed", "data_seed"), Key("training.seed")),
    # The model.
    **dict.fromkeys(
        ("model_name_or_path", "model_name", "base_model", "pretrained_model_name_or_path"), _PRESET
    ),
    **dict.fromkeys(
        ("model_id", "checkpoint_dir", "init_checkpoint", "model_path", "preset"), _PRESET
    ),
    **dict.fromkeys(("lora_r", "lora_rank", "r"), Key("model.lora.rank")),
    "lora_alpha": Key("model.lora.alpha"),
    "lora_dropout": Key("model.lora.dropout"),
    **dict.fromkeys(
        ("lora_target_modules", "target_modules", "lora_attn_modules"), Key("model.lora.targets")
    ),
    "use_dora": Key("model.lora.dora"),
    "use_rslora": Key("model.lora.rank_stabilized"),
    "modules_to_save": Key("model.lora.train"),
    "load_in_4bit": _FOUR_BITS,
    "load_in_8bit": _EIGHT_BITS,
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"),
        Key("model.dropout"),
    ),
    **dict.fromkeys(("num_labels", "num_classes", "tokenizer", "tokenizer_name"), _NOT_NEEDED),
    # The data.
    **dict.fromkeys(
        ("dataset", "datasets", "dataset_name", "train_file", "train_data", "training_data"),
        _TRAIN_FILE,
    ),
    **dict.fromkeys(("input_path", "train_data_path", "train_dataset"), _TRAIN_FILE),
    **dict.fromkeys(
        ("validation_file", "validation_data", "eval_dataset", "eval_file", "val_data"),
        _VALIDATION_FILE,
    ),
    **dict.fromkeys(("test_file", "test_data", "test_dataset"), Key("data.test")),
    **dict.fromkeys(
        ("val_set_size", "validation_size", "val_split", "validation_split"),
        Key("data.validation_split"),
    ),
    **dict.fromkeys(
        ("text_column", "text_column_name", "dataset_text_field", "text_field"), Key("data.text")
    ),
    **dict.fromkeys(("label_column", "label_column_name", "label_field"), Key("data.label")),
    **dict.fromkeys(
        ("max_seq_length", "max_seq_len", "sequence_len", "seq_length", "max_length"), _LENGTH
    ),
    **dict.fromkeys(("model_max_length", "block_size", "cutoff_len", "context_length"), _LENGTH),
    "sample_packing": Key("data.packing"),
    "train_on_inputs": Key("data.train_on_prompt"),
    "train_on_input": Key("data.train_on_prompt"),
    "class_weight": Key("data.class_weights"),
    # What is no key.
    **dict.fromkeys(("output_dir", "out_dir", "run_name", "logging_dir", "save_dir"), _OUTPUT),
    **dict.fromkeys(("resume_from_checkpoint", "resume_training"), _RESUME),
    **dict.fromkeys(("report_to", "wandb_project", "use_wandb", "metric_logger"), _TRACKED),
    **dict.fromkeys(
        ("dataloader_num_workers", "num_workers", "num_proc"),
        Key(None, "all cores are used: leave it out"),
    ),
    "push_to_hub": Key(
        None, "`kerasllm export RUN --format transformers` writes a folder for the hub"
    ),
}
"""Settings of other tools, at any nesting level; hyphens are underscores."""

RECIPE_OPTIONS = {
    **dict.fromkeys(("config", "config_file", "recipe_file"), "--recipe"),
    **dict.fromkeys(("data", "dataset", "dataset_name", "train_file", "train_data"), "--train"),
    **dict.fromkeys(("validation_file", "validation_data", "eval_file", "val"), "--validation"),
    **dict.fromkeys(("test_file", "test_data"), "--test"),
    **dict.fromkeys(("model", "base"), "--set model.preset="),
    **dict.fromkeys(("output_dir", "out", "out_dir", "save_dir"), "--output"),
    **dict.fromkeys(("text_column", "text_column_name", "text_field"), "--text"),
    **dict.fromkeys(("label_column", "label_column_name", "labels"), "--label"),
    **dict.fromkeys(("distributed", "distribution_strategy"), "--strategy"),
}
_MODEL = dict.fromkeys(("model", "model_name_or_path", "checkpoint", "run"), "RUN")
_OUTPUT_DIR = dict.fromkeys(("output_dir", "out", "out_dir"), "--output")

OPTIONS: dict[str, dict[str, str]] = {
    "finetune": RECIPE_OPTIONS,
    "plan": RECIPE_OPTIONS,
    "evaluate": {
        **_MODEL,
        **dict.fromkeys(("dataset", "test", "test_file", "test_data", "file", "input"), "--data"),
    },
    "predict": {
        **_MODEL,
        **dict.fromkeys(("data", "dataset", "file", "input_file"), "--input"),
        **_OUTPUT_DIR,
    },
    "generate": {
        **_MODEL,
        **dict.fromkeys(("max_tokens", "max_length", "max_new"), "--max-new-tokens"),
    },
    "chat": {**_MODEL, **dict.fromkeys(("max_tokens", "max_length"), "--max-new-tokens")},
    "export": {**_MODEL, **_OUTPUT_DIR, **dict.fromkeys(("to", "type", "framework"), "--format")},
    "compress": {**_MODEL, **_OUTPUT_DIR, **dict.fromkeys(("quantization", "type"), "--method")},
    "serve": _MODEL,
}
"""Options of other tools by our command; `RUN` is its argument, a trailing `=` joins the value."""

FORMATS: dict[str, str] = {
    **dict.fromkeys(("hf", "huggingface", "hugging_face", "safetensors"), "transformers"),
    **dict.fromkeys(("pytorch", "torch", "pt", "sentence_transformers"), "transformers"),
    **dict.fromkeys(("tflite", "lite_rt", "mobile"), "litert"),
    **dict.fromkeys(("savedmodel", "tf", "tensorflow", "tf_serving", "pb"), "saved_model"),
    **dict.fromkeys(("h5", "keras3", "hdf5"), "keras"),
    **dict.fromkeys(("kerashub", "keras_nlp", "preset"), "keras_hub"),
    "onnxruntime": "onnx",
}
"""Formats of other tools, as `--format` of `kerasllm export`."""

METHODS: dict[str, str] = {
    **dict.fromkeys(("8bit", "8-bit", "int8_dynamic", "w8a8", "dynamic"), "int8"),
    **dict.fromkeys(("4bit", "4-bit", "nf4", "w4a16", "bnb"), "int4"),
    **dict.fromkeys(("pruning", "magnitude"), "prune"),
    **dict.fromkeys(("distillation", "kd"), "distill"),
}
"""Ways to make a model smaller of other tools, as `--method` of `kerasllm compress`."""


def normalized(word: str) -> str:
    """Returns an option or a format as these tables write it: `--max-steps` is `max_steps`."""
    return word.lstrip("-").replace("-", "_").lower()


def value_for(key: Key, value: str | None) -> str | None:
    """Returns a value of theirs as our key takes it."""
    if key.value or value is None:
        return key.value
    return key.values.get(value.lower(), value)
