"""The special tokens that a post-processor puts around a text."""

from tokenizers import processors

from kerasllm.json_files import parse_json
from kerasllm.models.encoder_decoders.frame import Frame, frame_of


def _of(processor) -> Frame | None:
    return frame_of(parse_json(processor.__getstate__()))


def test_every_kind_of_post_processor_is_read():
    bart, byte_level = processors.RobertaProcessing(("</s>", 2), ("<s>", 0)), processors.ByteLevel()
    t5 = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    both = processors.TemplateProcessing("<en> $A </s>", None, [("<en>", 9), ("</s>", 2)])
    assert _of(bart) == Frame((0,), (2,))
    assert _of(t5) == Frame((), (1,))
    assert _of(both) == Frame((9,), (2,))
    assert _of(processors.Sequence([byte_level, t5])) == Frame((), (1,))
    assert _of(byte_level) is None
    assert frame_of(None) is None
