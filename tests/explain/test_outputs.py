"""What is explained of each kind of model: the number that it computes, by the words it is of."""

import numpy as np
import pytest

from kerasllm.data.labels import Labels
from kerasllm.data.token_offsets import place_pair, place_text
from kerasllm.errors import CommandError
from kerasllm.explain.explainer import Explainer
from kerasllm.explain.words import words_of, words_of_tokens
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.tasks.task import explains, find, names
from tests.export.hugging_face_models import REFERENCE, decoder

PAIR = ("a good film with a very strong story", "the plot was dull")


def _adds_up(found):
    total = sum(word.score for word in found.words if word.score is not None) + found.other
    moved = found.value - found.baseline_value
    return total == pytest.approx(moved + found.completeness_error, abs=1e-4)


def _head_on_tokens(preset, outputs):
    from kerasllm.models.encoder import build_task

    task = build_task(preset, outputs, pooling="tokens")
    task.preprocessor.sequence_length = 16
    return task


def test_a_score_of_a_pair_is_explained_by_the_words_of_both_texts(toy_preset):
    options = {"problem": "regression", "pair": True, "max_length": 32}
    model = TextClassifier.from_preset(toy_preset, precision="float32", **options)
    [found] = Explainer(model, find("text_classification")).explain([PAIR])
    assert found.target == "score" and found.names == ("text", "text_pair") and _adds_up(found)
    assert found.value == pytest.approx(model.classify([PAIR])[0]["score"], abs=1e-4)
    assert [word.text for word in found.words] == [0] * 8 + [1] * 4
    assert "".join(text for text, _ in found.pieces(1)) == PAIR[1]
    assert max(abs(weight) for text in (0, 1) for _, weight in found.pieces(text)) == 1
    in_bfloat16 = TextClassifier.from_preset(toy_preset, precision="mixed_bfloat16", **options)
    with pytest.raises(CommandError, match="computes in bfloat16"):
        list(Explainer(in_bfloat16, find("text_classification")).explain([PAIR]))
    with pytest.raises(CommandError, match="has no label"):
        list(Explainer(model, find("text_classification")).explain([PAIR], target="good"))


def test_each_span_is_explained_in_the_window_that_found_it(toy_preset):
    from kerasllm.models.token_classifier import TokenClassifier

    task = _head_on_tokens(toy_preset, 3)
    # Each word begins a span.
    task.output_dense.bias.assign([0.0, 9.0, -9.0])
    model = TokenClassifier(task, Labels(["O", "B-PER", "I-PER"]))
    text = "good film " * 12 + "bad"
    tagging = find("token_classification")
    found = list(Explainer(model, tagging).explain([text], checks=False))
    assert len(found) == 20 and "the first 20 of 25 spans" in found[0].remarks[0]
    assert all(_adds_up(one) and one.group == "PER" for one in found)
    last = [word.score is not None for word in found[-1].words]
    assert last[19] and not last[0]
    with pytest.raises(CommandError, match="did you mean PER|no type 'PERS'"):
        list(Explainer(model, tagging).explain([text], target="PERS"))


def test_an_answer_is_explained_by_its_question_and_its_context(toy_preset):
    from kerasllm.models.answer_model import AnswerModel

    model = AnswerModel(_head_on_tokens(toy_preset, 2))
    pair = ("was it good ?", "the film was very dull and " * 5 + "the music great")
    [found] = Explainer(model, find("question_answering")).explain([pair], checks=False)
    answer = model.answer([pair])[0]
    assert found.names == ("question", "context") and _adds_up(found)
    assert found.target == " ".join(answer["answer"].split())
    read = [word for word in found.words if word.text == 1 and word.score is not None]
    assert read[0].start <= answer["start"] and answer["end"] <= read[-1].end


def test_the_next_token_of_a_language_model_is_explained():
    model, texts = decoder("llama").model, ["a sea of whales and the ship"]
    [found] = Explainer(model, find("causal_lm")).explain(texts)
    assert _adds_up(found) and all(word.score is not None for word in found.words)
    logits = model.predict(texts, verbose=0)
    assert found.value == pytest.approx(float(np.asarray(logits)[0, -1].max()), abs=1e-3)
    [other] = Explainer(model, find("causal_lm")).explain(texts, target=" ship", checks=False)
    assert other.target and other.value <= found.value
    with pytest.raises(CommandError, match="do not expose their attention"):
        list(Explainer(model, find("causal_lm")).explain(texts, method="attention"))


@pytest.mark.parametrize("name", [name for name in names() if not explains(find(name))])
def test_what_cannot_be_explained_is_refused_by_name(name):
    with pytest.raises(CommandError, match=f"{name} computes cannot be explained"):
        find(name).explained_outputs(None, [])


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm_roberta"])
@pytest.mark.parametrize("length", [12, 64])
def test_placed_tokens_are_the_rows_that_the_model_reads(name, length):
    tokenizer = TextClassifier.from_preset(REFERENCE / "classifiers" / name).tokenizer
    found = place_text(tokenizer, PAIR[0], length)
    assert found.ids.tolist() == tokenizer.encode([PAIR[0]], length)[0].tolist()
    for truncation in ("longest_first", "only_second"):
        if length == 12 and truncation == "only_second":
            continue
        pair = place_pair(tokenizer, PAIR, length, truncation)
        expected = tokenizer.encode_pairs(
            [PAIR[0]], [PAIR[1]], length, truncation=truncation, spans=True
        )
        assert pair.ids.tolist() == expected.ids.tolist()
        assert pair.segments.tolist() == expected.segments.tolist()
        assert pair.spans.tolist() == expected.spans.tolist()


def test_words_are_of_any_script_and_each_token_is_of_one():
    text = "don't stop: 3.5 電影 שלום"
    found = [text[start:end] for start, end in words_of(text)]
    assert found == ["don't", "stop", ":", "3.5", "電", "影", "שלום"]
    tokenizer = TextClassifier.from_preset(REFERENCE / "classifiers" / "bert").tokenizer
    row = place_text(tokenizer, "badly, dull", 32)
    words = words_of_tokens(row, [words_of("badly, dull")])
    assert words[0] == words[-1] == -1 and sorted(set(words[1:-1])) == [0, 1, 2]
    assert (np.diff(words[1:-1]) >= 0).all()
