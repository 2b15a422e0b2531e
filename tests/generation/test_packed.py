import platform

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.generation import GenerationSettings, Generator, generator, packed
from kerasllm.generation.packed import can_pack, packed_product
from kerasllm.training.precision import cpu_flags
from tests.generation.models import randomize, tiny

SHORT = GenerationSettings(max_new_tokens=8)

# Where TensorFlow is built with oneDNN. On the versions that setup.cfg allows, a product that is
# missing there is a failure: without it generation takes twice as long.
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN serves TensorFlow on x86 alone"
)


def test_tensorflow_has_the_operation():
    assert can_pack("float32"), (
        f"TensorFlow {tf.__version__} has no {packed._OP} any more, or it takes other attributes: "
        "see kerasllm/generation/packed.py"
    )


@pytest.mark.parametrize("rows", [1, 2, 8])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_a_packed_product_is_the_product(dtype, tolerance, biased, rows):
    if dtype == "bfloat16" and not {"avx512f", "avx_ne_convert"} & cpu_flags():
        pytest.skip("oneDNN has no products in bfloat16 for this processor")
    assert can_pack(dtype)
    random = np.random.default_rng(rows)
    x, weight, bias = (
        tf.cast(random.uniform(-1, 1, shape), dtype) for shape in ((rows, 96), (80, 96), (80,))
    )
    bias = bias if biased else None
    product = tf.function(packed_product, autograph=False)
    whole = [np.asarray(each, "float64") for each in (x.numpy(), weight.numpy())]
    expected = whole[0] @ whole[1].T + (0 if bias is None else np.asarray(bias, "float64"))
    for _ in range(2):
        # The second call reads what the first one has kept.
        made = np.asarray(product(x, weight, bias), "float64")
        np.testing.assert_allclose(made, expected, rtol=tolerance, atol=tolerance * 4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_weights_that_are_kept_give_the_same_tokens(family, monkeypatch):
    task = tiny(family)
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12]]
    expected = Generator(task, xla=False).generate(prompts, SHORT)
    made = packing(task, monkeypatch).generate(prompts, SHORT)
    assert made == expected


def test_weights_that_change_are_not_kept(monkeypatch):
    task = tiny("llama")
    keeping = packing(task, monkeypatch)
    before = keeping.generate([[5, 6, 7]], SHORT)
    randomize(task.backbone, seed=5)
    keeping.refresh()
    after = keeping.generate([[5, 6, 7]], SHORT)
    assert after == Generator(task, xla=False).generate([[5, 6, 7]], SHORT)
    assert after != before
    compilations = keeping.compilations
    randomize(task.backbone, seed=6)
    keeping.refresh()
    assert keeping.generate([[5, 6, 7]], SHORT) != after
    assert keeping.compilations == compilations


def test_only_so_many_functions_keep_weights_as_memory_allows(monkeypatch):
    counted = []

    def counting(*arguments):
        counted.append(arguments)
        return packed_product(*arguments)

    monkeypatch.setattr("kerasllm.generation.forward.packed_product", counting)
    monkeypatch.setattr(generator, "_MOST_COPIES", 1)
    keeping = packing(tiny("llama"), monkeypatch)
    keeping.generate([[5, 6, 7]], SHORT)
    products = len(counted)
    assert products
    keeping.generate([[5, 6, 7]] * 2, SHORT)
    assert len(counted) == products


def packing(task, monkeypatch) -> Generator:
    """Returns a generator that takes a small model for a large one."""
    monkeypatch.setattr(generator, "LARGE", 0)
    return Generator(task, xla=False)
