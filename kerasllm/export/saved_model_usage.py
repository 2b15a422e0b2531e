"""How a SavedModel is loaded and run, for the model card."""

from __future__ import annotations

from kerasllm.export.graph_generator import MAX_NEW_TOKENS
from kerasllm.export.source import Source
from kerasllm.export.token_example import example, texts_of

_CHAT = """
chat = signatures["chat"]  # what a user says, in the model's chat template
chat(message=tf.constant(["What is a whale?"]), max_new_tokens=tf.constant(64))["text"].numpy()
"""


def encoder_usage(source: Source) -> str:
    """Returns how to run an encoder on texts."""
    head = source.head
    columns = ["texts"]
    if len(head.texts) > 1:
        columns = [f"[row[{place}] for row in texts]" for place in range(len(head.texts))]
    given = ", ".join(
        f"{name}=tf.constant({column})" for name, column in zip(head.texts, columns, strict=True)
    )
    code = [
        "import tensorflow as tf",
        "",
        'predict = tf.saved_model.load("FOLDER").signatures["serving_default"]',
        f"texts = {texts_of(source)!r}",
        f"outputs = predict({given})",
        "outputs = {name: value.numpy() for name, value in outputs.items()}",
        *(head.of_texts or head).reading,
    ]
    described = (head.of_texts or head).described
    outputs = "".join(f"- `{name}`: {words}\n" for name, words in described.items())
    if head.per_token and not head.of_texts:
        outputs += "- `tokens`: 1 for a token of a row, 0 for padding\n"
    return "\n".join(
        [
            (
                "TensorFlow alone loads it (`pip install tensorflow`), and TensorFlow Serving "
                "serves it:\n"
            ),
            *["```python", *code, "```\n"],
            *([f"The outputs are\n\n{outputs}"] if outputs else []),
            "The signature `token_ids` takes token ids in place of texts.\n",
        ]
    )


def generator_usage(has_chat: bool) -> str:
    """Returns how to run a language model, with the signature `chat` if there is one."""
    return f"""\
TensorFlow alone loads it (`pip install tensorflow`), and TensorFlow Serving serves it:

```python
import tensorflow as tf

signatures = tf.saved_model.load("FOLDER").signatures
prompt = tf.constant(["Once upon a time", "The whale"])
# The most likely tokens, at most {MAX_NEW_TOKENS}; "greedy" takes max_new_tokens too.
signatures["serving_default"](prompt=prompt)["text"].numpy()
signatures["sampled"](
    prompt=prompt,
    max_new_tokens=tf.constant(64),
    temperature=tf.constant(0.8),
    top_k=tf.constant(0),     # 0: of all tokens
    top_p=tf.constant(0.95),  # 1: of all tokens
    seed=tf.constant(0),
)["text"].numpy()
{_CHAT if has_chat else ""}```

`next_token` gives the logits of the token after a prompt; `token_ids` and `generate_ids` take
token ids.
"""


def writer_usage(source: Source, text_ops: bool = False) -> str:
    """Returns how to run an encoder-decoder.

    Args:
        source: The model.
        text_ops: Whether its tokenizer is made of ops of TensorFlow Text. Defaults to `False`.
    """
    loading, imports = "TensorFlow alone loads it (`pip install tensorflow`)", ""
    if text_ops:
        loading = "TensorFlow loads it with TensorFlow Text (`pip install tensorflow-text`)"
        imports = "\nimport tensorflow_text  # the ops of the tokenizer"
    return f"""\
{loading}, and TensorFlow Serving serves it:

```python
import tensorflow as tf{imports}

signatures = tf.saved_model.load("FOLDER").signatures
texts = tf.constant({[text for (text,) in source.head.example]!r})
found = signatures["serving_default"](text=texts)
found["output"].numpy()         # the targets
found["finish_reason"].numpy()  # b"length" where the limit cut one, else b"stop"
```

It writes with the settings that the model was trained with. `limited` takes `max_new_tokens` too;
`score` gives the logits of the tokens of given targets; `token_ids` and `score_ids` take the token
ids of sources.
"""


def ids_only_usage(source: Source, refusal: str) -> str:
    """Returns how to run a model whose tokenizer is not in the graph.

    Args:
        source: The model.
        refusal: Why it is not.
    """
    if source.is_encoder_decoder:
        frame = source.model.parts.source_frame
        ids = ", ".join(map(str, [*frame.before, "*ids", *frame.after]))
        code = _WRITER_ON_IDS.format(text=f"{source.model.prefix}one text", ids=ids)
    else:
        code = _GENERATOR_ON_IDS if source.generates else _encoder_on_ids(source)
    return f"""\
It takes token ids. The tokenizer ({source.model.tokenizer.description}) has no form in a graph that
gives the same ids for every text: {refusal}. Its files are in the same folder.

{code}
"""


def _encoder_on_ids(source: Source) -> str:
    return example(
        source,
        imports="import tensorflow as tf",
        opening='signature = tf.saved_model.load("FOLDER").signatures["token_ids"]',
        running="outputs = signature(**{name: tf.constant(ids) for name, ids in inputs.items()})\n"
        "outputs = {name: value.numpy() for name, value in outputs.items()}",
    )


_GENERATOR_ON_IDS = """\
```python
import tensorflow as tf
import tokenizers

tokenizer = tokenizers.Tokenizer.from_file("FOLDER/tokenizer.json")
signatures = tf.saved_model.load("FOLDER").signatures
ids = tokenizer.encode("Once upon a time").ids
new = signatures["generate_ids"](
    token_ids=tf.constant([ids]),
    padding_mask=tf.constant([[1] * len(ids)]),  # 0 for padding
    max_new_tokens=tf.constant(64),
)
tokenizer.decode(new["token_ids"].numpy()[0])
```

`token_ids` gives the logits of the token after each row.\
"""

_WRITER_ON_IDS = """\
```python
import tensorflow as tf
import tokenizers

tokenizer = tokenizers.Tokenizer.from_file("FOLDER/tokenizer.json")
signatures = tf.saved_model.load("FOLDER").signatures
ids = tokenizer.encode({text!r}, add_special_tokens=False).ids
ids = [{ids}]
found = signatures["token_ids"](
    token_ids=tf.constant([ids]),
    padding_mask=tf.constant([[1] * len(ids)]),  # 0 for padding
)
tokenizer.decode(found["token_ids"].numpy()[0])
```

`score_ids` gives the logits of the tokens of given targets.\
"""
