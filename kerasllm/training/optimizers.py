"""Optimizers by name, with the weights that decay and the rate of each layer set right."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

if keras.config.backend() == "jax":
    from kerasllm.training.sharded.adamw import AdamW
else:
    from kerasllm.training.adamw import AdamW

_CLASSES = {
    "adamw": AdamW,
    # The decay is decoupled for all of them, and with that Adam is AdamW.
    "adam": AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "adafactor": keras.optimizers.Adafactor,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
}
OPTIMIZERS = tuple(_CLASSES)

# Where Keras' default is not what a fine-tuner means by the name.
_ARGUMENTS = {
    "sgd": {"momentum": 0.9},
    # With relative steps Adafactor sets its own rate and would ignore the schedule.
    "adafactor": {"relative_step": False},
}


def build_optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    variables: list,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    ema: float | None = None,
    multipliers: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Builds a Keras optimizer for the given variables.

    Weight decay is decoupled (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) under
    every optimizer, scaled by the learning rate, and spares biases, norms and all other
    variables that are not matrices in use: those named bias, gamma, beta, scale.

    Args:
        name: One of `adamw`, `adam` (the same), `sgd` (momentum 0.9), `rmsprop`, `adagrad`,
            `adafactor` (without relative steps), `lamb`, `lion`, `muon` (Keras applies it to
            matrices; 3-D attention kernels and embeddings take its AdamW).
        learning_rate: A rate or a schedule.
        variables: The Keras variables that will train.
        weight_decay: Share of a weight that a step at learning rate 1 would take away. Defaults
            to `0.0`.
        clip_norm: Gradients are scaled down to this global norm. Defaults to `None`.
        ema: Momentum of an exponential moving average of the weights. Defaults to `None`.
        multipliers: Factor on the learning rate by `variable.path`, for layer-wise decay; 1 where
            a path is missing. Defaults to `None`.

    Returns:
        A built optimizer.

    Raises:
        ValueError: If the name is not an optimizer.
    """
    if name not in _CLASSES:
        raise ValueError(f"`name` must be one of {', '.join(OPTIMIZERS)}. Received: name={name!r}")
    arguments = dict(_ARGUMENTS.get(name, {}))
    optimizer_class = _CLASSES[name]
    own_decay = None if multipliers else weight_decay or None
    if name == "muon":
        arguments["adam_weight_decay"] = own_decay
    if multipliers:
        optimizer_class = _with_layer_rates(optimizer_class)
    optimizer = optimizer_class(
        learning_rate=learning_rate,
        weight_decay=own_decay,
        global_clipnorm=clip_norm,
        use_ema=ema is not None,
        ema_momentum=0.99 if ema is None else ema,
        **arguments,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in variables if not decays(variable)]
    )
    if multipliers:
        optimizer.set_layer_rates(
            [multipliers.get(variable.path, 1.0) for variable in variables],
            [weight_decay if decays(variable) else 0.0 for variable in variables],
        )
    optimizer.build(variables)
    return optimizer


def decays(variable: keras.Variable) -> bool:
    """Tells whether weight decay applies: not to biases, nor to the scales and shifts of norms."""
    return len(variable.shape) > 1 and variable.name not in {"bias", "gamma", "beta", "scale"}


def layer_rates(depths: Mapping[str, int], layer_decay: float) -> dict[str, float]:
    """Returns the learning-rate factor of each variable for layer-wise learning-rate decay.

    The head keeps the full rate, and each layer below it has `layer_decay` times the rate of the
    one above.

    Reference:
        - [Howard & Ruder, 2018](https://arxiv.org/abs/1801.06146);
          [Clark et al., 2020](https://arxiv.org/abs/2003.10555)

    Args:
        depths: The depth of each variable by its path, from 0 (embeddings) up to the head.
        layer_decay: From above 0 to 1; 1 leaves all rates alike.
    """
    top = max(depths.values())
    return {path: layer_decay ** (top - depth) for path, depth in depths.items()}


def _with_layer_rates(optimizer_class: type) -> type:
    """Returns the optimizer's class with a learning rate, and so a decay, for each variable."""

    class LayerRates(optimizer_class):
        def set_layer_rates(self, factors: list[float], weight_decays: list[float]) -> None:
            self._layer_rates = tuple(zip(factors, weight_decays, strict=True))

        def update_step(self, gradient, variable, learning_rate):
            factor, weight_decay = self._layer_rates[self._get_variable_index(variable)]
            learning_rate = ops.multiply(learning_rate, factor)
            if weight_decay:
                shrink = ops.cast(learning_rate * weight_decay, variable.dtype)
                self.assign_sub(variable, ops.multiply(variable, shrink))
            super().update_step(gradient, variable, learning_rate)

    LayerRates.__name__ = optimizer_class.__name__
    return LayerRates
