"""BLEU, chrF and ROUGE are those of the reference libraries, and stand beside their baselines."""

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from kerasllm.evaluation.bleu_rouge import bleu_chrf, lead, rouge, sentences, texts_report

WRITTEN = ["The dogs are running in the garden.", "She sees a small bird today. It sings."]
WANTED = ["A dog runs through the garden.", "Today she sees a small bird. It was singing."]


def test_bleu_and_chrf_are_sacrebleus_with_their_signatures():
    found = bleu_chrf(WRITTEN, WANTED)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(WRITTEN, [WANTED]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(WRITTEN, [WANTED]).score)
    version = f"version:{sacrebleu.__version__}"
    assert "tok:13a" in found["bleu_signature"] and version in found["bleu_signature"]
    assert version in found["chrf_signature"]
    assert "tok:char" in bleu_chrf(WRITTEN, WANTED, "char")["bleu_signature"]


def test_rouge_is_rouge_scores():
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    scores = [scorer.score(wanted, text) for wanted, text in zip(WANTED, WRITTEN, strict=True)]
    found = rouge(WRITTEN, WANTED)
    for name, theirs in (("rouge_1", "rouge1"), ("rouge_l", "rougeL")):
        mean = 100 * sum(score[theirs].fmeasure for score in scores) / len(scores)
        assert found[name] == pytest.approx(mean)
    # A sentence is matched with all of the others.
    assert found["rouge_lsum"] >= found["rouge_l"]
    assert "stemmed:yes" in found["rouge_signature"]


@pytest.mark.parametrize("text", ["Über größere Äpfel", "мама мыла раму", "我们去公园"])
def test_rouge_reads_letters_of_other_languages(text):
    found = rouge([text, "x"], [text, "y"])
    assert found["rouge_1"] == found["rouge_l"] == pytest.approx(50)
    assert "unicode" in found["rouge_signature"]


def test_a_text_that_is_empty_scores_nothing():
    found = texts_report(["", ""], WANTED, WRITTEN)
    assert found["bleu"] == found["rouge_1"] == 0.0


def test_baselines_are_the_copied_source_and_its_first_sentences():
    source = "One dog runs. Two cats sit! Three birds sing? Four cows eat."
    assert sentences(source)[1] == "Two cats sit!" and lead(source) == source[:45].strip()
    wanted = lead(source)
    found = texts_report(["Something else."], [wanted], [source])
    assert found["lead_rouge_l"] == pytest.approx(100)
    assert found["copy_bleu"] == pytest.approx(sacrebleu.corpus_bleu([source], [[wanted]]).score)
