"""Writes what transformers makes of texts and conversations, to check kerasllm's ids against.

Run with Python that has transformers, gguf and sentencepiece, which tests never need:

    python tests/reference/make_chat.py [SmolLM2-135M-Instruct.Q4_1.gguf]

`chat/` gets a toy tokenizer in the hub's layout, `gguf.json`: the metadata of toy GGUF files with
the ids that transformers (SentencePiece, where it made the file) gives, `expected.json`:
conversations as text, ids and masks of what the assistant says, and with the argument
`smollm2.json`: ids of the real one.
"""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import gguf
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent
FOLDER = HERE / "chat"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

TEXTS = [
    "Call me Ishmael. Some years ago--never mind how long precisely--",
    "  two  spaces,\ttabs\t\tand\n\nline\r\nbreaks  \n",
    "café naïve Ænigma, Ünïcödé ½ ﬁ ß … 日本語 한국어 Привет ελληνικά עברית",
    "🙂👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 e\u0301",
    "It's 1851; we'll pay $3.50, 42 times: 100,000! I'VE don't",
    "def f(x):\n    return x**2  # comment\n",
    "<|im_start|>user\nwritten <|im_end|>here<|endoftext|>",
    "a\u00a0b\u200bc\ufeffd\x07e",
    " leading and trailing ",
    "x",
]
SAID = [
    [("user", "Hi"), ("assistant", "Hello!")],
    [("system", "Be brief."), ("user", "What is 2+2?"), ("assistant", "4")],
    [("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "b")],
    [("user", " spaces "), ("assistant", "  both sides \n"), ("user", "b\n"), ("assistant", "c")],
    [
        ("user", "Say 🙂é"),
        ("assistant", "🙂é 日本\n\nnext"),
        ("user", "assistant"),
        ("assistant", "x"),
    ],
]
THOUGHT = [("user", "Why?"), ("assistant", "<think>\nhm\n</think>\n\nSo."), ("user", "And?"),
           ("assistant", "<think>\nwell\n</think>\n\nThus.")]  # fmt: skip

OWN = {
    # A system message where there is none, as SmolLM2 has it.
    "default_system": """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "generation_blocks": """\
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
""",
    # Thoughts of earlier turns are left out, and the last answer has one even if it is empty.
    "thinking": """\
{%- for message in messages %}
{%- set content = message['content'] %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- set parts = content.split('</think>') %}
{%- if loop.last %}
{%- set thought = parts[0].split('<think>')[-1].strip() if parts | length > 1 else '' %}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
{%- endif %}
{%- set content = parts[-1].lstrip('\\n') %}
{%- endif %}
{{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
""",
}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    tokenizer = toy_tokenizer()
    tokenizer.save_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    write("expected.json", {
        "texts": TEXTS,
        "ids": [tokenizer(text)["input_ids"] for text in TEXTS],
        "chats": [chat(tokenizer, *one) for one in conversations()],
    })  # fmt: skip
    write("gguf.json", [toy_gguf_of_merges(), toy_gguf_of_scores()])
    for path in sys.argv[1:]:
        path = Path(path)
        real = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        # transformers does not look at the rule that the file names, "smollm": each digit is a
        # word, as in the tokenizer.json of SmolLM2.
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        real.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
        ids = [real(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        chats = [[{"role": role, "content": text} for role, text in said] for said in SAID]
        chat_ids = [real.apply_chat_template(chat)["input_ids"] for chat in chats]
        found = {"texts": TEXTS, "ids": ids, "chats": chats, "chat_ids": chat_ids}
        write("smollm2.json", found)


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a start token, and with settings that are not a reader's business."""
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    engine.train_from_iterator([text for text in TEXTS if "<|" not in text] * 3, trainer)
    engine.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=engine,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def conversations() -> list[tuple[str, str, list[dict]]]:
    """Name and source of each template with each conversation."""
    found = []
    for name, source in {**built_in(), **OWN}.items():
        for said in [*SAID, *([THOUGHT] if name == "thinking" else [])]:
            messages = [{"role": role, "content": content} for role, content in said]
            found.append((name, source, messages))
    return found


def built_in() -> dict[str, str]:
    """The templates of kerasllm, read without its imports."""
    module = ast.parse((HERE.parents[1] / "kerasllm/data/chat/templates.py").read_text())
    names = {}
    for line in module.body:
        if isinstance(line, ast.Assign) and line.targets[0].id in ("_SYSTEM_IN_USER", "BUILT_IN"):
            exec(compile(ast.Module([line], []), "chat_templates", "exec"), names)
    return names["BUILT_IN"]


def chat(tokenizer: PreTrainedTokenizerFast, name: str, source: str, messages: list) -> dict:
    settings = {"chat_template": source, "start_token": "<|endoftext|>"}
    made = tokenizer.apply_chat_template(
        messages,
        return_dict=True,
        return_assistant_tokens_mask="generation %}" in source,
        **settings,
    )
    return {
        "template": name,
        "source": source,
        "messages": messages,
        "text": tokenizer.apply_chat_template(messages, tokenize=False, **settings),
        "prompt": tokenizer.apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True, **settings
        ),
        "ids": made["input_ids"],
        "mask": made.get("assistant_masks"),
    }


def toy_gguf_of_merges() -> dict:
    content = json.loads((FOLDER / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    merges = [" ".join(pair) for pair in content["model"]["merges"]]
    return with_ids(
        {
            "model": "gpt2",
            "pre": "gpt-2",
            "tokens": tokens,
            "token_types": [3 if token in SPECIAL else 1 for token in tokens],
            "merges": merges,
            "scores": None,
            "bos_id": 0,
            "eos_id": 2,
            "unk_id": None,
            "pad_id": 0,
            "add_bos": False,
            "add_space_prefix": False,
        }
    )


def toy_gguf_of_scores() -> dict:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if "<|" not in text] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    count = pieces.get_piece_size()
    made = with_ids({
        "model": "llama",
        "pre": None,
        "tokens": [pieces.id_to_piece(i) for i in range(count)],
        "token_types": [
            2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else
            6 if pieces.is_byte(i) else 1
            for i in range(count)
        ],
        "merges": None,
        "scores": [pieces.get_score(i) for i in range(count)],
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 0,
        "pad_id": None,
        "add_bos": True,
        "add_space_prefix": True,
    })  # fmt: skip
    # SentencePiece puts a space before each text, transformers not before one that has it.
    ids = [pieces.encode(text) for text in TEXTS]
    for text, own, theirs in zip(TEXTS, ids, made["ids"]):
        assert own == theirs or text.startswith(" ")
    return {**made, "ids": ids}


def with_ids(parts: dict) -> dict:
    """Adds what transformers makes of the texts when it reads these parts from a GGUF file."""
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(f"{folder}/toy.gguf", "llama")
        for name, value in {
            "context_length": 64,
            "embedding_length": 8,
            "block_count": 1,
            "feed_forward_length": 8,
            "head_count": 1,
        }.items():
            getattr(writer, f"add_{name}")(value)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model(parts["model"])
        writer.add_token_list(parts["tokens"])
        writer.add_token_types(parts["token_types"])
        if parts["merges"]:
            writer.add_token_merges(parts["merges"])
        if parts["scores"]:
            writer.add_token_scores(parts["scores"])
        for name in ("bos", "eos", "unk", "pad"):
            if parts[f"{name}_id"] is not None:
                getattr(writer, f"add_{name}_token_id")(parts[f"{name}_id"])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="toy.gguf")
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    return {**parts, "texts": TEXTS, "ids": ids}


def write(name: str, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
