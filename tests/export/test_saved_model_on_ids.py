"""A SavedModel of a model whose tokenizer has no exact form in a graph takes token ids."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from rich.console import Console

from kerasllm.data.tokenizers.from_folder import PRESET_SUBFOLDER
from kerasllm.export.formats import Options
from kerasllm.export.saved_model import FORMAT
from kerasllm.export.source import Source
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.models import bert_classifier
from kerasllm.models.decoder import load_causal_lm
from kerasllm.tasks.task import find
from kerasllm.workflows.export import export
from kerasllm.workflows.report import Report

PROMPT = "Call me"


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory, toy_language_model):
    """A model whose tokenizer normalizes, for which TensorFlow has nothing alike."""
    folder = tmp_path_factory.mktemp("normalizing") / "model"
    shutil.copytree(toy_language_model / "model", folder)
    (folder / "SHA256SUMS").unlink()
    file = folder / PRESET_SUBFOLDER / "tokenizer.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "normalizer": {"type": "NFC"}}))
    return folder


def test_it_is_told_and_the_ids_give_the_models_text(normalizing, tmp_path):
    told = io.StringIO()
    exported = export(
        normalizing, output=tmp_path / "ids", rows=4, report=Report(Console(file=told, width=400))
    )
    assert exported.parity[0].holds
    for words in (told.getvalue(), (exported.folder / "README.md").read_text()):
        assert "takes token ids" in words and "NFC" in words

    signatures = tf.saved_model.load(str(exported.folder)).signatures
    assert set(signatures) == {"token_ids", "generate_ids"}
    tokenizer = tokenizers.Tokenizer.from_file(str(exported.folder / "tokenizer.json"))
    ids = tokenizer.encode(PROMPT).ids
    new = signatures["generate_ids"](
        token_ids=tf.constant([ids]),
        padding_mask=tf.constant([[1] * len(ids)]),
        max_new_tokens=tf.constant(12),
    )
    generator = TextGenerator(load_causal_lm(normalizing), GenerationSettings(max_new_tokens=12))
    (expected,) = generator.generate([generator.encode(PROMPT)])
    assert tokenizer.decode(new["token_ids"].numpy()[0]) == expected.text


def test_a_classifier_of_sentence_pieces(tmp_path):
    albert = Path(__file__).parents[1] / "reference" / "albert"
    model = bert_classifier(albert, labels=["bad", "good"], precision="float32")
    rows = ["a good film", "bad", "the whale and the sea, and all that is in it"]
    source = Source(find("text_classification"), model, "albert", 16, rows)
    assert "token ids" in FORMAT.remarks(source)[0]
    FORMAT.write(source, tmp_path, Options())
    found = FORMAT.predict(source, tmp_path, Options())
    np.testing.assert_allclose(found, source.expected, atol=1e-5)
