"""What training relies on that Keras does not promise: each test says what is gone, if it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training import adamw
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.forward_backward import ForwardBackward
from kerasllm.training.replicas import apply, check_optimizer, ready_gradients
from tests.training.tiny import small_model, tiny_batches, tiny_model


def moved(optimizer: keras.optimizers.Optimizer) -> list[float]:
    """Returns how far a gradient of norm 5 moves a variable."""
    variable = keras.Variable([0.0, 0.0])
    optimizer.build([variable])
    optimizer.apply([tf.constant([3.0, 4.0])], [variable])
    return (-variable.numpy()).tolist()


@pytest.mark.parametrize("name", ["_all_reduce_sum_gradients", "_clip_gradients"])
def test_keras_still_sums_and_clips_by_the_methods_that_are_replaced(name):
    """Were they renamed, gradients would be summed and clipped twice."""
    optimizer = keras.optimizers.SGD(1.0)
    called = []
    original = getattr(optimizer, name)
    setattr(optimizer, name, lambda values: called.append(name) or original(values))
    moved(optimizer)
    assert called == [name], f"look at how {keras.__version__} does now what {name} did"


def test_keras_does_not_clip_what_is_clipped():
    assert moved(keras.optimizers.SGD(1.0, global_clipnorm=1.0)) == pytest.approx([0.6, 0.8])
    ready = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    with ready_gradients(ready):
        assert moved(ready) == [3.0, 4.0]
    # The other ways to clip look at one variable at a time, and stay with Keras.
    ready = keras.optimizers.SGD(1.0, clipvalue=1.0)
    with ready_gradients(ready):
        assert moved(ready) == [1.0, 1.0]


@pytest.mark.parametrize("scales", [False, True])
def test_an_optimizer_that_trained_a_model_clips_and_sums_elsewhere(scales):
    inner = optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    if scales:
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    before = dict(vars(type(inner))), set(vars(inner))
    model = small_model()
    model.compile(optimizer)
    model.fit(tiny_batches(), verbose=0)
    assert not {"_all_reduce_sum_gradients", "_clip_gradients"} & set(vars(inner))
    assert dict(vars(type(inner))) == before[0]
    gradients = inner._clip_gradients([tf.constant([3.0, 4.0])])
    np.testing.assert_allclose(gradients[0], [0.6, 0.8], rtol=1e-6)


def test_replicas_that_share_an_optimizer_take_turns():
    """The first that ends must not give the methods back while another one needs them."""
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    with ready_gradients(optimizer):
        with ready_gradients(optimizer):
            pass
        assert moved(optimizer) == [3.0, 4.0]
    assert "_clip_gradients" not in vars(optimizer)
    with pytest.raises(ZeroDivisionError), ready_gradients(optimizer):
        1 / 0
    assert "_clip_gradients" not in vars(optimizer)


def applied(optimizer, gradients, norm):
    """Returns how far gradients move variables that stand at 0."""
    variables = [keras.Variable(np.zeros(np.shape(gradient))) for gradient in gradients]
    optimizer.build(variables)
    apply(optimizer, [tf.constant(each) for each in gradients], variables, tf.constant(norm))
    return [-variable.numpy() for variable in variables]


@pytest.mark.parametrize(("norm", "expected"), [(5.0, 0.2), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0)])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(norm, expected):
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    (distance,) = applied(optimizer, [[norm, 0.0]], norm)
    np.testing.assert_allclose(distance, [norm * expected, 0.0], rtol=1e-6)


@pytest.mark.parametrize("compiled_above", [1 << 16, 0])
def test_adamw_scales_as_part_of_the_update(compiled_above, monkeypatch):
    monkeypatch.setattr(adamw, "_MANY", compiled_above)
    # An epsilon of the gradient's size: without one, Adam does not see a gradient's scale.
    settings = {"epsilon": 0.5, "weight_decay": 0.1}
    gradient = np.array([3.0, -4.0], "float32")
    (ours,) = applied(adamw.AdamW(1.0, global_clipnorm=2.0, **settings), [gradient], 5.0)
    (theirs,) = applied(keras.optimizers.AdamW(1.0, **settings), [gradient * 0.4], 2.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    (unclipped,) = applied(adamw.AdamW(1.0, **settings), [gradient], 5.0)
    assert (np.abs(unclipped) > 1.1 * np.abs(ours)).all()


@pytest.mark.parametrize("optimizer_class", [keras.optimizers.SGD, adamw.AdamW])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_stays_so(value, optimizer_class):
    distances = applied(optimizer_class(1.0, global_clipnorm=1.0), [value, 1.0], value)
    assert not np.isfinite(distances).all()


def test_a_keras_that_lacks_a_method_is_named():
    class Changed(keras.optimizers.SGD):
        _clip_gradients = property()

    with pytest.raises(RuntimeError, match=rf"{keras.__version__} have no `_clip_gradients`"):
        check_optimizer(Changed(1.0))


def test_every_random_layer_is_given_its_seed():
    """They are found by the name of their state; one not found would draw as it likes."""
    model = tiny_model(dropout=0.1)
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "seed_generator")]
    states = {id(layer.seed_generator.state) for layer in layers if layer.seed_generator}
    assert len(states) > 5
    found = {id(state) for state in ForwardBackward(model, False, 1)._generators}
    assert states <= found


def test_a_layer_with_statistics_of_its_own_is_refused():
    inputs = {"token_ids": keras.Input((8,), dtype="int32", name="token_ids")}
    x = keras.layers.Flatten()(keras.layers.Embedding(50, 4)(inputs["token_ids"]))
    task = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.BatchNormalization()(x)))
    model = FineTunedModel(task)
    model.compile(keras.optimizers.SGD(0.1))
    batches = tiny_batches().map(lambda x, y, weight: ({"token_ids": x["token_ids"]}, y, weight))
    with pytest.raises(ValueError, match=r"moving_mean"):
        model.fit(batches, verbose=0)


def test_steps_per_execution_does_not_trace_the_model_twice():
    """Under XLA each trace is a program of its own to compile."""
    model = small_model()
    traces = []
    call = model.task.call
    model.task.call = lambda *arguments, **options: traces.append(1) or call(*arguments, **options)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=2)
    model.fit(tiny_batches(), verbose=0)
    assert len(traces) == 1
