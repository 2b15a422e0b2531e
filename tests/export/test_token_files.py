"""The tokenizer beside a graph on token ids, where Hugging Face's files cannot hold it."""

import io
import re

import keras_hub
import numpy as np
import pytest
import sentencepiece

from kerasllm.data.labels import Labels
from kerasllm.errors import PresetError
from kerasllm.export import token_files
from kerasllm.export.source import Source
from kerasllm.export.token_example import example
from kerasllm.export.token_files import read_tokens, write_tokenizer
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.tasks.task import find

TEXTS = ["a good film", "the plot is dull and weak", "bad"]


@pytest.fixture(scope="module")
def source() -> Source:
    """A toy ALBERT, whose tokenizer is a SentencePiece model."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 30),
        model_writer=content,
        vocab_size=26,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="<pad>",
        unk_piece="<unk>",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        user_defined_symbols=["[MASK]"],
        minloglevel=2,
    )
    models = keras_hub.models
    backbone = models.AlbertBackbone(
        vocabulary_size=26,
        num_layers=1,
        num_heads=2,
        embedding_dim=8,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=16,
    )
    tokenizer = models.AlbertTokenizer(proto=content.getvalue())
    preprocessor = models.AlbertTextClassifierPreprocessor(tokenizer, sequence_length=6)
    task = models.AlbertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
    model = TextClassifier(task, Labels(["no", "yes"]))
    return Source(find("text_classification"), model, "toy", 6, TEXTS)


def test_it_stands_beside_as_keras_hubs_and_the_cards_code_reads_it(source, tmp_path, monkeypatch):
    def refuse(*_):
        raise PresetError("kerasllm does not write it as Hugging Face's files")

    monkeypatch.setattr(token_files, "save_huggingface_tokenizer", refuse)
    write_tokenizer(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]
    expected = read_tokens(source, tmp_path).ids
    assert max(map(len, expected)) == 6

    block = example(source, imports="", opening="", running="")
    code = re.search("```python\n(.*?)labels =", block, re.DOTALL)[1]
    code = re.sub("texts = .*", f"texts = {TEXTS!r}", code)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["ids"] == [row.tolist() for row in expected]
    for name, expected in source.tokens.inputs().items():
        np.testing.assert_array_equal(names["inputs"][name], expected)
