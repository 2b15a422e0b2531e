"""Chat templates: a conversation as the text that a model was, or will be, trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.data.chat.messages import without_mark
from kerasllm.data.chat.template_sandbox import SandboxedTemplate
from kerasllm.data.tokenizers.from_folder import PRESET_SUBFOLDER
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE, TokenizerJson
from kerasllm.errors import DataError, RecipeError
from kerasllm.json_files import read_json_file

TEMPLATE_FILE = "chat_template.jinja"

Message = Mapping[str, Any]

# For models that know no system role: its text opens the first thing that the user says.
_SYSTEM_IN_USER = """\
{%- set system = messages[0]['content'] | trim + '\n\n' if messages[0]['role'] == 'system' else '' -%}
{%- set turns = messages[1:] if system else messages -%}
"""  # noqa: E501

BUILT_IN = {
    "chatml": """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
""",
    "llama3": """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif -%}
""",
    "gemma": _SYSTEM_IN_USER
    + """\
{{- bos_token -}}
{%- for message in turns -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\n' + (system if loop.first else '') }}
{{- message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
""",
    "mistral": _SYSTEM_IN_USER
    + """\
{{- bos_token -}}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{ ' ' + message['content'] | trim + eos_token }}
{%- else -%}
{{ '[INST] ' + (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}
{%- endif -%}
{%- endfor -%}
""",
    "plain": """\
{{- start_token -}}
{%- for message in messages -%}
{{ message['role'] | capitalize + ': ' + message['content'] | trim }}
{{- (eos_token or '') + '\n' if message['role'] == 'assistant' else '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
""",
}
"""Name to Jinja source."""

# What ends the assistant messages, beside the end token.
_STOPS = {
    "chatml": ("<|im_end|>",),
    "llama3": ("<|eot_id|>",),
    "gemma": ("<end_of_turn>",),
    "mistral": (),
    "plain": ("\nUser:",),
}


class ChatTemplate:
    """A Jinja template that makes a text of a conversation.

    Args:
        source: The Jinja source.
        name: What messages and the run's summary call it. Defaults to `"own"`.
        variables: What the template sees beside the messages: `bos_token`, `eos_token`... Defaults
            to `None`: nothing.
        stop: Texts at which the assistant messages has ended. Defaults to `()`.
        where: The place to name in errors. Defaults to `None`.

    Attributes:
        source: As given.
        name: As given.
        stop: As given, each once.
        fingerprint: sha256, in hex, of the source and the variables.

    Raises:
        DataError: The source is not Jinja.

    Example:
        >>> template = built_in("chatml", tokenizer)
        >>> template.render([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
        '<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n'
    """

    def __init__(
        self,
        source: str,
        *,
        name: str = "own",
        variables: Mapping[str, str] | None = None,
        stop: Sequence[str] = (),
        where: str | None = None,
    ):
        self.source = source
        self.name = name
        self.stop = tuple(dict.fromkeys(stop))
        self._variables = dict(variables or {})
        self._template = SandboxedTemplate(source, where, trusted=source in BUILT_IN.values())
        content = json.dumps([source, self._variables], sort_keys=True)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    @property
    def has_generation_blocks(self) -> bool:
        """Whether the template itself marks the assistant messages."""
        return self._template.has_generation_blocks

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        *,
        marks: tuple[str, str] | None = None,
    ) -> str:
        """Returns the text of a conversation.

        Args:
            messages: The messages: `{"role": ..., "content": ...}`.
            add_generation_prompt: Whether the text ends with what opens the assistant's turn.
                Defaults to `False`.
            marks: What to put before and after each `{% generation %}` block. Defaults to `None`.

        Raises:
            DataError: The template fails; the message holds what it said.
        """
        variables = {
            "messages": list(messages),
            # Those that a row has beside its messages.
            "tools": messages[0].get("tools") if messages else None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self._variables,
        }
        return self._template.render(variables, marks)

    def save(self, folder: str | Path) -> None:
        """Writes `chat_template.jinja`, which transformers reads too.

        Args:
            folder: The folder.
        """
        (Path(folder) / TEMPLATE_FILE).write_text(self.source, encoding="utf-8")


def built_in(name: str, tokenizer: TokenizerJson) -> ChatTemplate:
    """Returns one of the templates that kerasllm brings along.

    Args:
        name: `"chatml"`, `"llama3"`, `"gemma"`, `"mistral"` or `"plain"`.
        tokenizer: The tokenizer, whose special tokens the template names.
    """
    if name not in BUILT_IN:
        raise ValueError(f"name must be one of {', '.join(BUILT_IN)}. Received: name={name!r}")
    end = tokenizer.named_tokens.get("eos_token")
    stop = _STOPS[name] + ((end,) if end else ())
    return ChatTemplate(BUILT_IN[name], name=name, variables=_variables(tokenizer), stop=stop)


def own(source: str, tokenizer: TokenizerJson, *, where: str | None = None) -> ChatTemplate:
    """Returns a model's own template.

    Args:
        source: The Jinja source: see `read_template`, or a GGUF file's metadata.
        tokenizer: The tokenizer, whose special tokens the template names.
        where: The place to name in errors. Defaults to `None`.
    """
    source = without_mark(source)
    end = tokenizer.named_tokens.get("eos_token")
    stop = [text for name, texts in _STOPS.items() if name != "plain" for text in texts]
    stop = [text for text in stop if text in source] + ([end] if end else [])
    return ChatTemplate(source, variables=_variables(tokenizer), stop=stop, where=where)


def choose_template(
    wanted: str,
    found: ChatTemplate | None,
    tokenizer: TokenizerJson,
    preset: str | None,
    *,
    where: str = "data.chat_template",
) -> ChatTemplate:
    """Returns the chat template that a recipe or an option asks for.

    Args:
        wanted: `auto`, the name of a built-in one, or a file.
        found: The model's own, or `None`.
        tokenizer: The tokenizer, whose special tokens a template names.
        preset: The preset, for messages.
        where: The key or option that asks. Defaults to `"data.chat_template"`.

    Raises:
        RecipeError: If there is no such template.
    """
    if wanted in BUILT_IN:
        return built_in(wanted, tokenizer)
    if wanted != "auto":
        if not os.path.isfile(wanted):
            raise RecipeError(
                f"{wanted} is neither a built-in chat template nor a file",
                where=where,
                fix=f"choose {', '.join(BUILT_IN)}, auto, or a file of Jinja",
            )
        return own(Path(wanted).read_text(encoding="utf-8"), tokenizer, where=wanted)
    if found is None:
        raise RecipeError(
            f"{preset} has no chat template of its own",
            where=where,
            fix=f"choose one with {where}: {', '.join(BUILT_IN)}, or a file of Jinja",
        )
    return found


def read_template(folder: str | Path) -> str | None:
    """Reads the chat template of a model's folder: its Jinja source, or `None` if it has none.

    It is in `chat_template.jinja`, or in `chat_template` of `tokenizer_config.json`; of several,
    the one named `default` counts.

    Args:
        folder: The folder; a KerasHub preset keeps these files in a folder `huggingface` in it.

    Raises:
        DataError: The file cannot be read.
    """
    folder = Path(folder)
    if (folder / PRESET_SUBFOLDER).is_dir():
        folder = folder / PRESET_SUBFOLDER
    try:
        if (folder / TEMPLATE_FILE).is_file():
            return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
        if not (folder / CONFIG_FILE).is_file():
            return None
        settings = read_json_file(folder / CONFIG_FILE)
    except ValueError as error:
        raise DataError(
            f"The chat template cannot be read: {error}",
            where=str(folder),
            fix="download the file again, or choose a built-in template",
        ) from error
    found = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(found, list):
        if not all(isinstance(one, dict) and "name" in one for one in found):
            raise _no_text(folder)
        found = next((one.get("template") for one in found if one["name"] == "default"), None)
    if found is not None and not isinstance(found, str):
        raise _no_text(folder)
    return found


def _no_text(folder: Path) -> DataError:
    return DataError(
        "The chat template is not text",
        where=f"{folder / CONFIG_FILE}: chat_template",
        fix="download the file again, or choose a built-in template",
    )


def _variables(tokenizer: TokenizerJson) -> dict[str, str]:
    # `start_token` is kerasllm's own: a tokenizer may have a `bos_token` that it never puts
    # before a text.
    return {**tokenizer.named_tokens, "start_token": tokenizer.start_token or ""}
