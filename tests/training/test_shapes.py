"""Lengths are chosen by what compiling them costs, and change nothing but the padding."""

import numpy as np
import pytest

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.models.adapters import add_adapter
from kerasllm.training.compile_costs import CompileCosts, fused_on_cpu, whole_step
from kerasllm.training.shapes import choose_lengths, matrix_parameters
from tests.training import tiny_decoder

LENGTHS = np.random.default_rng(0).gamma(4, 7, 4000).astype(int).clip(3, 128)
COSTS = fused_on_cpu(parameters=10_600_000, dtype="bfloat16", cores=2)


def plans(lengths=LENGTHS, seed=0, buckets=18):
    return EpochPlans(lengths, 32, buckets, seed=seed, longest=128)


def chosen(given=None, steps=125, costs=COSTS, known=()):
    return choose_lengths(given or plans(), steps, 18, costs, known.__contains__)


def test_the_longer_a_training_the_more_lengths():
    counts = [len(chosen(steps=steps).lengths) for steps in (1, 20, 125, 1000, 100_000)]
    assert counts == sorted(counts) and counts[0] < 3 and counts[-1] == 18


def test_the_costlier_a_token_the_more_lengths():
    large = fused_on_cpu(parameters=85_000_000, dtype="bfloat16", cores=2)
    assert len(chosen(costs=large).lengths) > len(chosen().lengths)


def test_lengths_that_the_cache_has_are_taken_before_others():
    before = chosen().lengths
    known = {length - 2 for length in before[:-1]} | {before[-1]}
    again = chosen(known=known).lengths
    assert len(set(again) & known) > len(set(before) & known)
    # All that another seed needs is there: nothing is compiled.
    assert set(chosen(plans(seed=1), known={*before}).lengths) <= {*before}


def test_the_cache_decides_neither_on_xla_nor_on_the_batches():
    costly = CompileCosts(compiled=9.0, read=0.0, token=1e-4, saved=4e-5)
    cold, warm = chosen(costs=costly), chosen(costs=costly, known=range(200))
    assert len(warm.lengths) > len(cold.lengths)
    assert cold.pays is warm.pays is False
    one, other = plans(), plans()
    one.pad_to(cold.lengths)
    other.pad_to(warm.lengths)
    for epoch in (0, 1):
        np.testing.assert_array_equal(one(epoch).order, other(epoch).order)
        assert one(epoch).processed_tokens > other(epoch).processed_tokens


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantized_base_costs_as_much_as_its_weights(quantize):
    counts = []
    for kind in (None, quantize):
        model = tiny_decoder.llama(layers=1)
        add_adapter(model.backbone, rank=2, targets=["all-linear"], quantize=kind)
        counts.append(matrix_parameters(model.task))
    # int4 pads the rows of a kernel to whole groups of 64.
    assert counts[1] == counts[0] if quantize == "int8" else counts[1] > counts[0]


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
def test_xla_pays_in_the_default_run_and_not_in_a_few_steps(cores):
    costs = fused_on_cpu(parameters=10_600_000, dtype="bfloat16", cores=cores)
    assert chosen(costs=costs, steps=227).pays
    assert not chosen(costs=costs, steps=2).pays


def test_accelerators_compile_whole_steps_where_they_save_more():
    costs = whole_step(parameters=85_000_000, devices=1)
    assert not chosen(costs=costs, steps=227).pays
    long = chosen(costs=costs, steps=100_000)
    assert long.pays and len(long.lengths) <= 18


def test_all_data_sets_share_their_lengths():
    other = np.random.default_rng(1).gamma(3, 11, 4000).astype(int).clip(3, 128)
    first, second = (set(plans(each).shapes) for each in (LENGTHS, other))
    assert len(first & second) > 9
    # No batch is longer than a recipe allows a row to be.
    assert EpochPlans(LENGTHS.clip(3, 77), 32, 18, seed=0, longest=77).shapes[-1] == 77


def test_lengths_that_do_not_hold_every_row_are_refused():
    with pytest.raises(ValueError, match="A row has 94 tokens"):
        plans().pad_to([32, 64])
