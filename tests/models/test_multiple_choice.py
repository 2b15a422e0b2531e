"""A choice is as likely as its tokens after the question, one by one."""

import json

import numpy as np
import pytest

from kerasllm.data.multiple_choice import Question
from kerasllm.data.tokenizers import TokenizerJson, train_byte_level_bpe
from kerasllm.errors import CommandError, DataError
from kerasllm.models.decoder import gpt_causal_lm
from kerasllm.models.multiple_choice import TEMPLATE, evaluate, open_questions

QUESTIONS = [
    Question("What of the whale?", ("It is white.", "It is a ship", "no"), 0, "quiz", 1),
    Question("Who?", ("Ahab", "Queequeg, a harpooner of great skill"), 1, "quiz", 2),
    Question("Wo?", ("im Süden", "早い"), 0, "more", 1),
    Question("When?", ("now", "then", "never", "it is"), 3, "more", 2),
]


@pytest.fixture(scope="module")
def model():
    text = "Question: What of it? Answer: It is a whale of the sea, and the ship is white."
    tokenizer = train_byte_level_bpe([text] * 3, 300)
    model = gpt_causal_lm(tokenizer=tokenizer, layers=2, heads=2, width=32, max_length=64)
    random = np.random.default_rng(0)
    for weight in model.backbone.trainable_variables:
        weight.assign(random.normal("gamma" in weight.path, 0.3, weight.shape))
    return model


def likelihood(model, context, choice):
    """By the definition: one row, one sum."""
    first = len(model.tokenizer.encode_whole(context))
    ids = np.array(model.tokenizer.encode_whole(f"{context} {choice}"))
    logits = np.asarray(model({"token_ids": ids[None, :-1].astype(np.int32)}), np.float64)[0]
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(chances[i - 1, ids[i]] for i in range(first, len(ids)))


@pytest.mark.parametrize("template", [TEMPLATE, "It is said: {question} -"])
def test_both_accuracies_are_those_of_the_plain_formula(model, tmp_path, template):
    metrics, answers = evaluate(model, QUESTIONS, folder=tmp_path, template=template)
    plain, by_bytes = [], []
    for question, found in zip(QUESTIONS, answers, strict=True):
        context = template.replace("{question}", question.question)
        expected = np.array([likelihood(model, context, choice) for choice in question.choices])
        np.testing.assert_allclose(found["log_likelihoods"], expected, rtol=1e-4)
        sizes = [len(choice.encode()) for choice in question.choices]
        plain.append(expected.argmax() == question.answer)
        by_bytes.append((expected / sizes).argmax() == question.answer)
        assert (found["file"], found["line"]) == (question.file, question.line)
    assert metrics == {
        "accuracy": np.mean(plain),
        "accuracy_normalized": np.mean(by_bytes),
        "chance": pytest.approx((1 / 3 + 1 / 2 + 1 / 2 + 1 / 4) / 4),
        "questions": 4,
    }


def test_what_counts_begins_where_tokens_reach_over_the_border(tmp_path):
    """Where ": n" is one token, the colon is not part of what all choices share."""
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "vocab": {token: id for id, token in enumerate([*"Q: now", ": ", ": n"])},
            "merges": [[":", " "], [": ", "n"]],
        },
    }
    tokenizer = TokenizerJson(json.dumps(content))
    question = Question("Q", ("now", "wow"), 0, "quiz", 1)
    store = open_questions([question], tokenizer, folder=tmp_path, template="{question}:")
    rows = [store.slices(*np.array([[row], [0], [n]])) for row, n in enumerate(store.lengths)]
    assert [[tokenizer.id_to_token(id) for id in row] for row in rows] == [
        ["Q", ": n", "o", "w"],
        ["Q", ": ", "w", "o", "w"],
    ]
    marks = [store.trained(*np.array([[row], [0], [n]])) for row, n in enumerate(store.lengths)]
    assert [row.tolist() for row in marks] == [[0, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_a_question_that_is_too_long_and_a_template_without_one_are_refused(model, tmp_path):
    long = Question("Why? " * 40, ("yes", "no"), 0, "quiz.jsonl", 7)
    with pytest.raises(DataError, match="the model reads 64") as error:
        evaluate(model, [*QUESTIONS, long], folder=tmp_path)
    assert error.value.where == "quiz.jsonl:7"
    with pytest.raises(CommandError, match="where the question goes"):
        evaluate(model, QUESTIONS, folder=tmp_path, template="Answer:")
