"""An encoder-decoder of KerasHub's layers, for new models and families that KerasHub lacks."""

from __future__ import annotations

from collections.abc import Callable

import keras
import keras_hub
import numpy as np

LEARNED, SINUSOIDAL = "learned", "sinusoidal"


@keras.saving.register_keras_serializable(package="kerasllm")
class SinusoidalPositions(keras.layers.Layer):
    """Vectors of positions that are computed and not trained.

    The first half of a vector are sines, the second cosines, as in Marian and tensor2tensor.

    Args:
        sequence_length: The number of positions.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        inputs: Token vectors, `[rows, length, width]`.
        start_index: The position of the first token. Defaults to `0`.
        positions: The position of each token, int32 `[rows, length]`. Defaults to `None`: one
            after the other from `start_index`.

    Returns:
        The vectors of the positions, of the shape of `inputs`.
    """

    def __init__(self, sequence_length: int, **kwargs):
        super().__init__(**kwargs)
        self.sequence_length = sequence_length

    def build(self, inputs_shape):
        self._table = sinusoids(self.sequence_length, inputs_shape[-1])
        self.built = True

    def call(self, inputs, start_index=0, positions=None):
        shape = keras.ops.shape(inputs)
        table = keras.ops.convert_to_tensor(self._table, dtype=self.compute_dtype)
        if positions is not None:
            found = keras.ops.take(table, positions, axis=0)
        else:
            found = keras.ops.slice(table, (start_index, 0), (shape[-2], shape[-1]))
        return keras.ops.broadcast_to(found, shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "sequence_length": self.sequence_length}


def sinusoids(length: int, width: int) -> np.ndarray:
    """Returns the table of `SinusoidalPositions`, float32 `[length, width]`."""
    half = np.arange((width + 1) // 2)
    angles = np.arange(length)[:, None] / np.power(10_000, 2 * half / width)
    table = np.zeros((length, width))
    table[:, : len(half)] = np.sin(angles)
    table[:, len(half) :] = np.cos(angles[:, : width // 2])
    return table.astype("float32")


@keras.saving.register_keras_serializable(package="kerasllm")
class EncoderDecoderBackbone(keras_hub.models.Backbone):
    """A Transformer encoder-decoder whose parts can be chosen.

    Attributes and inputs are named as those of KerasHub's `BartBackbone`. With `normalize_first`
    and `embedding_norm` it is mBART; without both, and with `"swish"` and sinusoids, Marian.

    Args:
        vocabulary_size: The number of tokens, of source and target together.
        num_encoder_layers: Transformer layers of the encoder.
        num_decoder_layers: Transformer layers of the decoder.
        num_heads: Attention heads of each layer of the encoder.
        hidden_dim: The width of the hidden states.
        intermediate_dim: The width within each feed-forward part of the encoder.
        num_decoder_heads: Attention heads of the decoder. Defaults to `None`: `num_heads`.
        decoder_intermediate_dim: The width within each feed-forward part of the decoder.
            Defaults to `None`: `intermediate_dim`.
        dropout: Rate of every dropout. Defaults to `0.1`.
        max_sequence_length: The maximum number of tokens of a source or of a target. Defaults to
            `512`.
        activation: Of the feed-forward parts, what `keras.activations.get` takes. Defaults to
            `"relu"`.
        normalize_first: Whether each part of a layer normalizes its input (pre-norm), and the
            encoder and the decoder their output, or else each part its sum. Defaults to `True`.
        embedding_norm: Whether embeddings are normalized. Defaults to `True`.
        scale_embeddings: Whether token vectors are multiplied by the root of `hidden_dim`.
            Defaults to `True`.
        positions: `"sinusoidal"` or `"learned"`. Defaults to `"sinusoidal"`.
        dtype: A Keras dtype policy. Defaults to `None`: Keras' own.
        **kwargs: Of `keras_hub.models.Backbone`.

    References:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762),
        [Liu et al., 2020](https://arxiv.org/abs/2001.08210) (mBART),
        [Junczys-Dowmunt et al., 2018](https://arxiv.org/abs/1804.00344) (Marian)

    Example:

    ```python
    backbone = EncoderDecoderBackbone(8000, 3, 3, 4, 256, 1024)
    ```
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        num_decoder_heads: int | None = None,
        decoder_intermediate_dim: int | None = None,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        activation: str | Callable = "relu",
        normalize_first: bool = True,
        embedding_norm: bool = True,
        scale_embeddings: bool = True,
        positions: str = SINUSOIDAL,
        dtype=None,
        **kwargs,
    ):
        num_decoder_heads = num_decoder_heads or num_heads
        decoder_intermediate_dim = decoder_intermediate_dim or intermediate_dim
        settings = {
            "activation": activation,
            "dropout": dropout,
            "layer_norm_epsilon": 1e-5,
            "normalize_first": normalize_first,
            "dtype": dtype,
        }

        def position_layer(name):
            if positions == SINUSOIDAL:
                return SinusoidalPositions(max_sequence_length, dtype=dtype, name=name)
            if positions != LEARNED:
                raise ValueError(
                    f"`positions` must be {SINUSOIDAL!r} or {LEARNED!r}. "
                    f"Received: positions={positions!r}"
                )
            return keras_hub.layers.PositionEmbedding(
                max_sequence_length, initializer=_initializer(), dtype=dtype, name=name
            )

        def norm(name, wanted):
            if not wanted:
                return None
            return keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype, name=name)

        # === Layers ===
        self.token_embedding = keras_hub.layers.ReversibleEmbedding(
            vocabulary_size,
            hidden_dim,
            tie_weights=True,
            embeddings_initializer=_initializer(),
            dtype=dtype,
            name="token_embedding",
        )
        self.encoder_position_embedding = position_layer("encoder_position_embedding")
        self.encoder_embeddings_add = keras.layers.Add(dtype=dtype, name="encoder_embeddings_add")
        self.encoder_embeddings_layer_norm = norm("encoder_embeddings_layer_norm", embedding_norm)
        self.encoder_embeddings_dropout = keras.layers.Dropout(
            dropout, dtype=dtype, name="encoder_embeddings_dropout"
        )
        self.encoder_transformer_layers = [
            keras_hub.layers.TransformerEncoder(
                intermediate_dim=intermediate_dim,
                num_heads=num_heads,
                name=f"transformer_encoder_layer_{number}",
                **settings,
            )
            for number in range(num_encoder_layers)
        ]
        self.encoder_layer_norm = norm("encoder_layer_norm", normalize_first)
        self.decoder_position_embedding = position_layer("decoder_position_embedding")
        self.decoder_embeddings_add = keras.layers.Add(dtype=dtype, name="decoder_embeddings_add")
        self.decoder_embeddings_layer_norm = norm("decoder_embeddings_layer_norm", embedding_norm)
        self.decoder_embeddings_dropout = keras.layers.Dropout(
            dropout, dtype=dtype, name="decoder_embeddings_dropout"
        )
        self.decoder_transformer_layers = [
            keras_hub.layers.TransformerDecoder(
                intermediate_dim=decoder_intermediate_dim,
                num_heads=num_decoder_heads,
                name=f"transformer_decoder_layer_{number}",
                **settings,
            )
            for number in range(num_decoder_layers)
        ]
        self.decoder_layer_norm = norm("decoder_layer_norm", normalize_first)
        self.embedding_scale = float(hidden_dim) ** 0.5 if scale_embeddings else 1.0

        # === Functional model ===
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in (
                "encoder_token_ids",
                "encoder_padding_mask",
                "decoder_token_ids",
                "decoder_padding_mask",
            )
        }
        x = self.embed_source(inputs["encoder_token_ids"])
        for layer in self.encoder_transformer_layers:
            x = layer(x, padding_mask=inputs["encoder_padding_mask"])
        encoded = x if self.encoder_layer_norm is None else self.encoder_layer_norm(x)
        x = self.embed_target(inputs["decoder_token_ids"])
        for layer in self.decoder_transformer_layers:
            x = layer(
                x,
                encoded,
                decoder_padding_mask=inputs["decoder_padding_mask"],
                encoder_padding_mask=inputs["encoder_padding_mask"],
            )
        decoded = x if self.decoder_layer_norm is None else self.decoder_layer_norm(x)
        super().__init__(
            inputs=inputs,
            outputs={"encoder_sequence_output": encoded, "decoder_sequence_output": decoded},
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.vocabulary_size = vocabulary_size
        self.num_encoder_layers = num_encoder_layers
        self.num_decoder_layers = num_decoder_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_decoder_heads = num_decoder_heads
        self.decoder_intermediate_dim = decoder_intermediate_dim
        self.dropout = dropout
        self.max_sequence_length = max_sequence_length
        self.activation = keras.activations.get(activation)
        self.normalize_first = normalize_first
        self.embedding_norm = embedding_norm
        self.scale_embeddings = scale_embeddings
        self.positions = positions

    def embed_source(self, token_ids):
        """Returns what the first layer of the encoder reads."""
        return self._embed(
            token_ids,
            0,
            self.encoder_position_embedding,
            self.encoder_embeddings_add,
            self.encoder_embeddings_layer_norm,
            self.encoder_embeddings_dropout,
        )

    def embed_target(self, token_ids, start_index=0):
        """Returns what the first layer of the decoder reads.

        Args:
            token_ids: int32 `[rows, length]`.
            start_index: The position of the first of them. Defaults to `0`.
        """
        return self._embed(
            token_ids,
            start_index,
            self.decoder_position_embedding,
            self.decoder_embeddings_add,
            self.decoder_embeddings_layer_norm,
            self.decoder_embeddings_dropout,
        )

    def _embed(self, token_ids, start_index, positions, add, norm, dropout):
        tokens = self.token_embedding(token_ids)
        if self.embedding_scale != 1.0:
            tokens = tokens * self.embedding_scale
        x = add((tokens, positions(tokens, start_index=start_index)))
        return dropout(x if norm is None else norm(x))

    def get_config(self):
        names = (
            "vocabulary_size num_encoder_layers num_decoder_layers num_heads hidden_dim "
            "intermediate_dim num_decoder_heads decoder_intermediate_dim dropout "
            "max_sequence_length normalize_first embedding_norm scale_embeddings positions"
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names.split()},
            "activation": keras.activations.serialize(self.activation),
        }


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)
