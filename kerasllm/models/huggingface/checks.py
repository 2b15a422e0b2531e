"""What every check of a Hugging Face `config.json` shares: each key is honoured or refused by name.

KerasHub reads some keys and drops the rest, so a model that differs in one of them would load
without a word and compute something else. Every key is one of these:

- sizes: whole numbers that the model is built with;
- fixed: KerasHub always computes one value; another one is refused;
- harmless: it does not change what the model computes;
- unknown: refused, unless it is null, false or empty, which means that a feature is off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from kerasllm.errors import PresetError

HARMLESS = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype name_or_path initializer_range
    initializer_factor use_cache pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id
    mask_token_id decoder_start_token_id tie_word_embeddings tie_encoder_decoder id2label label2id
    num_labels problem_type finetuning_task task_specific_params return_dict output_attentions
    output_hidden_states output_past chunk_size_feed_forward gradient_checkpointing torchscript
    use_bfloat16 tf_legacy_loss is_encoder_decoder language vocab_type attn_implementation
    classifier_bias model_max_length license sentence_transformers tokenizer_class xla_device
    eos_token_ids vocab_size_or_config_json_file max_length min_length do_sample early_stopping
    num_beams num_beam_groups num_return_sequences diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size prefix output_scores
    encoder_no_repeat_ngram_size return_dict_in_generate remove_invalid_values
    """.split()
)


_MOST = (1 << 31) - 1
_MOST_LAYERS = 1000


class Only(NamedTuple):
    """What KerasHub builds, regardless of a key.

    Attributes:
        built: The values that give the numbers of what is built.
        missing: What transformers takes a missing key to mean.
    """

    built: tuple
    missing: object


def check_sizes(sizes: Iterable[str], config: Mapping, where: str) -> None:
    """Checks that keys are there and are whole numbers above 0.

    Raises:
        PresetError: The first key that is not.
    """
    for key in sizes:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PresetError(
                f"{key} must be a whole number above 0, got {str(value)[:80]!r}",
                where=where,
                fix="use the file from the model's own repository",
            )
        most = _MOST_LAYERS if "layers" in key else _MOST
        if value > most:
            raise PresetError(
                f"{key} is {value:,}, and kerasllm builds models up to {most:,}",
                where=where,
                fix="use the file from the model's own repository",
            )


def check_fixed(model_type: str, fixed: Mapping[str, Only], config: Mapping, where: str) -> None:
    """Checks the keys for which KerasHub builds one thing only.

    Raises:
        PresetError: The first key that asks for another.
    """
    for key, only in fixed.items():
        value = config.get(key, only.missing)
        if value not in only.built:
            raise PresetError(
                f"{key} is {value!r}; KerasHub's {model_type} computes only "
                f"{' or '.join(map(repr, only.built))}",
                where=f"{where}: {key}",
                fix="use another model: this one would load but compute something else",
            )


def check_unknown(known: Collection[str], config: Mapping, where: str) -> None:
    """Checks that every key is known, harmless or off.

    Raises:
        PresetError: The first key that is not.
    """
    for key, value in config.items():
        off = value is None or value is False or value in ("", [], {})
        if key in known or key in HARMLESS or key.startswith("_") or off:
            continue
        raise PresetError(
            f"{key} is {value!r}; kerasllm does not know whether it changes what the model "
            "computes, and KerasHub does not read it",
            where=f"{where}: {key}",
            fix="use another model; or, if the key has no effect on the numbers, remove it from "
            "this file in a local copy",
        )
