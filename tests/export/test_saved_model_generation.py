"""A SavedModel of a language model: prompts in, the text of `kerasllm generate` out."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.export.graph_generator import GraphGenerator
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.models.decoder import load_causal_lm
from kerasllm.workflows.export import export
from kerasllm.workflows.report import Report

PROMPTS = ["Call me", "The sea, the whale and the ship", "It was"]
NEW = 12


@pytest.fixture(scope="module")
def exported(tmp_path_factory, toy_language_model):
    output = tmp_path_factory.mktemp("saved_model") / "book"
    return export(toy_language_model, output=output, rows=8, report=Report.silent())


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported.folder)).signatures


@pytest.fixture(scope="module")
def model(toy_language_model):
    return load_causal_lm(toy_language_model / "model")


def _expected(model, prompts, new=NEW):
    generator = TextGenerator(model, GenerationSettings(max_new_tokens=new))
    return [made.text for made in generator.generate([generator.encode(p) for p in prompts])]


def _texts(answer):
    return [text.decode() for text in answer["text"].numpy()]


def test_a_process_without_keras_gives_the_logits_of_the_model(exported):
    (parity,) = exported.parity
    assert parity.holds and parity.rows == 8
    assert parity.agreement == 1 and parity.largest_difference < 1e-4


def test_greedy_text_is_that_of_generate(signatures, model):
    for prompts in (PROMPTS, PROMPTS[:1]):
        count = tf.constant(NEW)
        found = signatures["greedy"](prompt=tf.constant(prompts), max_new_tokens=count)
        assert _texts(found) == _expected(model, prompts)
    assert _texts(signatures["serving_default"](prompt=tf.constant(PROMPTS))) == _expected(
        model, PROMPTS, 128
    )


def test_sampled_text_depends_on_the_seed_and_the_prompt_alone(signatures):
    def sampled(prompts, seed=0, temperature=2.0, top_k=0, top_p=1.0):
        return _texts(
            signatures["sampled"](
                prompt=tf.constant(prompts),
                max_new_tokens=tf.constant(NEW),
                temperature=tf.constant(temperature),
                top_k=tf.constant(top_k),
                top_p=tf.constant(top_p),
                seed=tf.constant(seed),
            )
        )

    three = sampled(PROMPTS)
    assert sampled(PROMPTS[1:2]) == three[1:2]
    assert sampled(PROMPTS, seed=1) != three
    count = tf.constant(NEW)
    greedy = _texts(signatures["greedy"](prompt=tf.constant(PROMPTS), max_new_tokens=count))
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 0.0}):
        assert sampled(PROMPTS, **options) == greedy


def test_token_ids_in_and_out(signatures, model):
    rows = [model.tokenizer.encode_whole(prompt) for prompt in PROMPTS]
    width = max(map(len, rows))
    ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    given = {"token_ids": tf.constant(ids), "padding_mask": tf.constant(mask)}
    logits = signatures["token_ids"](**given)["logits"]
    by_text = signatures["next_token"](prompt=tf.constant(PROMPTS))["logits"]
    np.testing.assert_allclose(logits, by_text, atol=1e-5)
    new = signatures["generate_ids"](**given, max_new_tokens=tf.constant(NEW))
    found = [
        model.tokenizer.decode(row[there > 0])
        for row, there in zip(new["token_ids"].numpy(), new["padding_mask"].numpy())
    ]
    assert found == _expected(model, PROMPTS)


def test_prompts_that_are_empty_or_too_long_do_not_break_the_others(signatures, model):
    prompts = ["", "whale " * 200, PROMPTS[0]]
    found = signatures["greedy"](prompt=tf.constant(prompts), max_new_tokens=tf.constant(NEW))
    assert _texts(found)[2:] == _expected(model, PROMPTS[:1])


def test_the_weights_are_there_once(exported, model):
    size = sum(size for name, size in exported.files.items() if name.startswith("variables/"))
    assert size < 4 * model.task.count_params() + 20_000


@pytest.mark.slow
def test_the_card_shows_code_that_runs(exported):
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = code.replace("FOLDER", str(exported.folder))
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_chat_puts_a_message_into_the_template(model):
    end = model.tokenizer.end_token
    source = "{% for m in messages %}[{{ m.content }}]{% endfor %}>"
    model.chat_template = ChatTemplate(source, stop=[end])
    graph = GraphGenerator(model, GraphByteLevelBPE(model.tokenizer))
    found = graph.functions["chat"](tf.constant(["the sea"]), tf.constant(NEW))
    assert _texts(found) == _expected(model, ["[the sea]>"])
    # One that changes what is said cannot be cut in two.
    for source in ("{{ messages[0].content | trim }}", "no message"):
        model.chat_template = ChatTemplate(source, stop=[end])
        graph = GraphGenerator(model, GraphByteLevelBPE(model.tokenizer))
        assert "chat" not in graph.functions
    model.chat_template = None


@pytest.mark.slow
def test_smollm2_writes_and_answers_as_with_generate():
    model = load_causal_lm("smollm2_135m_instruct")
    graph = GraphGenerator(model, GraphByteLevelBPE(model.tokenizer))
    prompts, count = ["The whale is a", "Once upon a time, there was a small"], tf.constant(16)
    found = graph.functions["greedy"](tf.constant(prompts), count)
    assert _texts(found) == _expected(model, prompts, 16)
    question = "What is a whale?"
    generator = TextGenerator(model, GenerationSettings(max_new_tokens=16))
    ids = generator.encode_chat([{"role": "user", "content": question}])
    (answer,) = generator.generate([ids], chat=True)
    assert _texts(graph.functions["chat"](tf.constant([question]), count)) == [answer.text]
