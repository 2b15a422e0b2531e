"""How a SavedModel is loaded and run, for the model card."""

from __future__ import annotations

from kerasllm.export.graph_generator import MAX_NEW_TOKENS
from kerasllm.export.source import Source
from kerasllm.export.token_example import example

CLASSIFIER = """\
TensorFlow alone loads it (`pip install tensorflow`), and TensorFlow Serving serves it:

```python
import tensorflow as tf

classify = tf.saved_model.load("FOLDER").signatures["serving_default"]
answer = classify(text=tf.constant(["A film to remember.", "Dull."]))
answer["label"].numpy()          # the label of each text
answer["probabilities"].numpy()  # of each label; their names, in this order, are in "labels"
```

The signature `token_ids` takes token ids in place of texts.
"""

_CHAT = """
chat = signatures["chat"]  # what a user says, in the model's chat template
chat(message=tf.constant(["What is a whale?"]), max_new_tokens=tf.constant(64))["text"].numpy()
"""


def generator_usage(has_chat: bool) -> str:
    """Returns how to run a language model, with the signature `chat` if there is one."""
    return f"""\
TensorFlow alone loads it (`pip install tensorflow`), and TensorFlow Serving serves it:

```python
import tensorflow as tf

signatures = tf.saved_model.load("FOLDER").signatures
prompt = tf.constant(["Once upon a time", "The whale"])
# The likeliest tokens, at most {MAX_NEW_TOKENS}; "greedy" takes max_new_tokens too.
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

`next_token` gives the logits behind a prompt; `token_ids` and `generate_ids` take token ids.
"""


def ids_only_usage(source: Source, refusal: str) -> str:
    """Returns how to run a model whose tokenizer is not in the graph.

    Args:
        source: The model.
        refusal: Why it is not.
    """
    code = _classifier_on_ids(source) if source.is_classifier else _GENERATOR_ON_IDS
    return f"""\
It takes token ids. The tokenizer ({source.model.tokenizer.description}) has no form in a graph that
gives the same ids for every text: {refusal}. Its files stand beside the SavedModel.

{code}
"""


def _classifier_on_ids(source: Source) -> str:
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
    padding_mask=tf.constant([[1] * len(ids)]),  # 0 for what fills a row up
    max_new_tokens=tf.constant(64),
)
tokenizer.decode(new["token_ids"].numpy()[0])
```

`token_ids` gives the logits behind each row.\
"""
