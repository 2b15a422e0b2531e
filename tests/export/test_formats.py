"""The registry of formats: what is refused by name, before anything is loaded."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from kerasllm.errors import CommandError, KerasllmError
from kerasllm.export import formats
from kerasllm.export.formats import FORMATS, Format
from kerasllm.tasks.task import find

CLASSIFICATION, LANGUAGE_MODEL = find("text_classification"), find("causal_lm")


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(CommandError, match="There is no format 'lite'") as caught:
        formats.find_format("lite")
    assert "did you mean litert?" in caught.value.fix and "saved_model" in caught.value.fix


def test_precisions_are_those_of_the_format():
    assert formats.choose_precisions("litert", ()) == ("float32", "float16", "int8")
    assert formats.choose_precisions("litert", ("int8", "float32")) == ("float32", "int8")
    assert formats.choose_precisions("onnx", ()) == ("float32",)
    assert formats.choose_precisions("saved_model", ()) == ("float32",)
    assert formats.choose_precisions("saved_model", ("bfloat16",)) == ("bfloat16",)
    with pytest.raises(CommandError, match="a single precision") as caught:
        formats.choose_precisions("saved_model", ("bfloat16", "float32"))
    assert "--output" in caught.value.fix
    with pytest.raises(CommandError) as caught:
        formats.choose_precisions("onnx", ("int8",))
    assert "--format litert" in caught.value.fix
    with pytest.raises(CommandError, match="'int3'"):
        formats.choose_precisions("litert", ("int3",))


def test_a_model_that_a_format_does_not_hold_is_refused_with_what_does():
    formats.refuse_model("litert", CLASSIFICATION, "BertBackbone")
    formats.refuse_model("litert", LANGUAGE_MODEL, "GPT2Backbone")
    with pytest.raises(CommandError, match="does not support language models .* Llama") as caught:
        formats.refuse_model("litert", LANGUAGE_MODEL, "LlamaBackbone")
    assert caught.value.fix == "use onnx, saved_model, transformers"


def test_a_task_and_its_head_may_have_some_formats_only(monkeypatch):
    few = ("saved_model", "onnx")
    head = SimpleNamespace(kind="span finder", formats=few)
    formats.refuse_model("onnx", CLASSIFICATION, head=head)
    with pytest.raises(CommandError, match="keras does not support a span finder") as caught:
        formats.refuse_model("keras", CLASSIFICATION, head=head)
    assert caught.value.fix == "use saved_model, onnx"
    monkeypatch.setattr(type(LANGUAGE_MODEL), "formats", few)
    with pytest.raises(CommandError, match="models of the task causal_lm") as caught:
        formats.refuse_model("keras", LANGUAGE_MODEL)
    assert caught.value.fix == "use saved_model, onnx"
    with pytest.raises(CommandError, match="Llama") as caught:
        monkeypatch.setattr(type(LANGUAGE_MODEL), "formats", ("litert", "onnx"))
        formats.refuse_model("litert", LANGUAGE_MODEL, "LlamaBackbone")
    assert caught.value.fix == "use onnx"


def test_a_missing_package_is_refused_with_the_extra(monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KerasllmError, match="onnxruntime") as caught:
        formats.load_format("onnx")
    assert caught.value.fix == 'pip install "kerasllm[onnx]"'


def test_every_format_has_a_module():
    for name in FORMATS:
        assert isinstance(formats.load_format(name), Format)


def test_the_registry_is_read_without_tensorflow():
    code = (
        "import sys; import kerasllm.workflows.export, kerasllm.cli.export; "
        "heavy = ('tensorflow', 'keras', 'pyarrow', 'rich'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
