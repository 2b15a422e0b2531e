"""Every optimizer learns; decay spares biases and norms; each layer has its rate."""

import keras
import numpy as np
import pytest

from kerasllm.training import adamw
from kerasllm.training.adamw import AdamW
from kerasllm.training.optimizers import OPTIMIZERS, build_optimizer, decays, layer_rates
from tests.training.tiny import small_model, tiny_batches, tiny_model, weights_of

RATES = {"sgd": 0.1, "adagrad": 0.1, "adafactor": 0.1, "lamb": 0.02, "lion": 0.001, "muon": 0.005}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name):
    model = small_model()
    optimizer = build_optimizer(
        name, RATES.get(name, 0.005), model.trainable_variables, weight_decay=0.01, clip_norm=1.0
    )
    model.compile(optimizer)
    losses = model.fit(tiny_batches(), epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("by_layer", [False, True])
def test_decay_shrinks_matrices_and_spares_biases_and_norms(name, by_layer):
    """With gradients of 0 a step does nothing but decay."""
    model = tiny_model()
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(variable + 0.1)
    before = weights_of(model)
    factors = {variable.path: 0.5 for variable in variables} if by_layer else None
    optimizer = build_optimizer(name, 0.1, variables, weight_decay=0.2, multipliers=factors)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in variables], variables)
    share = 0.1 * 0.2 * (0.5 if by_layer else 1.0)
    kinds = set()
    for variable, old in zip(variables, before, strict=True):
        kinds.add((variable.name, decays(variable)))
        expected = old * (1 - share) if decays(variable) else old
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-7)
    assert {("bias", False), ("gamma", False), ("beta", False), ("kernel", True)} <= kinds


def test_each_layer_has_its_learning_rate():
    rates = layer_rates({"embedding": 0, "low": 1, "high": 2, "head": 3}, 0.5)
    assert rates == {"embedding": 0.125, "low": 0.25, "high": 0.5, "head": 1.0}


def test_a_factor_scales_the_update_of_adam():
    steps = []
    for factor in (1.0, 0.25):
        model = small_model()
        variables = model.trainable_variables
        before = weights_of(model)
        factors = {variable.path: factor for variable in variables}
        optimizer = build_optimizer("adamw", 0.01, variables, multipliers=factors)
        optimizer.apply([keras.ops.ones_like(variable) for variable in variables], variables)
        steps.append([new - old for new, old in zip(weights_of(model), before, strict=True)])
    for whole, quarter in zip(*steps, strict=True):
        np.testing.assert_allclose(quarter, 0.25 * whole, rtol=1e-3, atol=1e-7)


def test_adamw_follows_the_formula_of_the_paper():
    """Two steps against Loshchilov & Hutter's Algorithm 2, in float64."""
    variable = keras.Variable(np.array([[1.0, -2.0], [3.0, 0.5]]), name="kernel")
    optimizer = build_optimizer("adamw", 0.1, [variable], weight_decay=0.05)
    gradients = [np.array([[0.5, -1.0], [2.0, 0.1]]), np.array([[-0.3, 0.2], [1.0, 0.0]])]
    weights, m, v = variable.numpy().astype(float), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        corrected = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        weights = weights * (1 - 0.1 * 0.05) - 0.1 * corrected
    np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-5)


@pytest.mark.parametrize("compiled_above", [1 << 16, 0])
def test_fused_adamw_has_keras_numbers(compiled_above, monkeypatch):
    monkeypatch.setattr(adamw, "_MANY", compiled_above)
    results = []
    for optimizer_class in (AdamW, keras.optimizers.AdamW):
        model = small_model()
        optimizer = optimizer_class(3e-3, weight_decay=0.1, epsilon=1e-8, global_clipnorm=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer)
        model.fit(tiny_batches(), epochs=4, verbose=0)
        results.append(weights_of(model))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="adamw.*Received: name='adan'"):
        build_optimizer("adan", 0.1, [])


def test_small_steps_count_in_bfloat16():
    """At a fine-tuning rate a step is less than half of what bfloat16 can tell from 1."""
    weights = keras.Variable(np.ones((100, 100)), dtype="bfloat16", name="kernel")
    optimizer = build_optimizer("adamw", 1e-4, [weights])
    for _ in range(20):
        optimizer.apply([keras.ops.ones((100, 100), "bfloat16")], [weights])
    mean = float(np.mean(weights.numpy().astype("float32")))
    assert mean == pytest.approx(1 - 20 * 1e-4, abs=2e-4)
    assert len(np.unique(weights.numpy().astype("float32"))) >= 2
