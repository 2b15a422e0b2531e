"""The loss of a language model in chunks, so that all its logits are never in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

# So many logits of a piece stand in memory at once, unless the recipe says how many tokens.
_LOGITS_AT_ONCE = 1 << 25
_FEWEST_TOKENS = 128


def tokens_at_once(vocabulary_size: int) -> int:
    """Returns how many tokens' logits are computed at once: about 128 MB of them in float32."""
    return max(_LOGITS_AT_ONCE // vocabulary_size, _FEWEST_TOKENS)


def chunked_loss(
    hidden: tf.Tensor,
    y: tf.Tensor,
    share: tf.Tensor,
    *,
    head: Callable[[tf.Tensor], tf.Tensor],
    loss: keras.losses.Loss,
    variables: Sequence[keras.Variable] = (),
    tokens: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the loss of logits that are made and forgotten one chunk at a time.

    The gradient of a piece is computed right after its loss, while its logits are there, so that
    nothing is computed twice: a product with the vocabulary costs as much as several layers.

    Args:
        hidden: float `[rows, length, width]`, what the last layer gives.
        y: int32 `[rows, length]`, the target tokens.
        share: float32 `[rows, length]`, the part of the loss that each target makes up; where it
            is 0 the target does not matter.
        head: Gives the logits, float32 `[tokens, vocabulary]`, of hidden states `[tokens, width]`.
        loss: A Keras loss on logits whose reduction is `"sum"`.
        variables: Trainable variables, including those of the head. Defaults to `()`: none.
        tokens: Tokens per chunk.

    Returns:
        The loss, a float32 scalar, and whether the most likely token is the target, float32
        `[rows, length]`.

    Reference:
        [Cut Your Losses in Large-Vocabulary Language Models](https://arxiv.org/abs/2411.09009)
        has the same aim; here the pieces are cut along the tokens.
    """
    if keras.config.backend() == "jax":
        from kerasllm.training.sharded import chunked_loss as on_jax

        return on_jax.chunked_loss(hidden, y, share, head=head, loss=loss, tokens=tokens)
    values = [variable.value for variable in variables]
    # Those of them that the head has, known when it was traced.
    own = []

    def of_piece(hidden, y, share):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([hidden, *values])
            logits = head(hidden)
            piece = loss(y, logits, sample_weight=share)
        gradients = tape.gradient(piece, [hidden, *values])
        correct = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), y), tf.float32)
        pairs = zip(values, gradients[1:], strict=True)
        found = {value.ref(): tf.convert_to_tensor(g) for value, g in pairs if g is not None}
        own[:] = found
        return piece, correct, gradients[0], list(found.values())

    @tf.custom_gradient
    def computed(flat):
        total, correct, of_hidden, of_values = in_pieces(of_piece, flat, y, share, tokens)

        def gradient(upstream, _, variables=None):
            by_variable = {
                reference: upstream * tf.cast(g, upstream.dtype)
                for reference, g in zip(own, of_values, strict=True)
            }
            of_flat = tf.cast(upstream, flat.dtype) * of_hidden
            if variables is None:
                return of_flat
            return of_flat, [by_variable.get(variable.ref()) for variable in variables]

        return (total, correct), gradient

    flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
    y, share = tf.reshape(y, [-1]), tf.reshape(share, [-1])
    total, correct = computed(flat)
    return total, tf.stop_gradient(tf.reshape(correct, tf.shape(hidden)[:2]))


def chunked_scores(
    hidden: tf.Tensor,
    y: tf.Tensor,
    *,
    head: Callable[[tf.Tensor], tf.Tensor],
    tokens: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the negative log-likelihood of targets, a piece of the logits at a time.

    Args:
        hidden: float `[rows, length, width]`.
        y: int32 `[rows, length]`, the target tokens.
        head: As for `chunked_loss`.
        tokens: Tokens per chunk.

    Returns:
        The negative log-likelihoods in nats, and whether the most likely token is the target, each
        float32 `[rows, length]`.
    """

    if keras.config.backend() == "jax":
        from kerasllm.training.sharded import chunked_loss as on_jax

        return on_jax.chunked_scores(hidden, y, head=head, tokens=tokens)

    def of_piece(hidden, y, _):
        logits = head(hidden)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        correct = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), y), tf.float32)
        return tf.constant(0.0), correct, each[:, tf.newaxis], []

    shape = tf.shape(y)
    flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
    targets = tf.reshape(y, [-1])
    _, correct, each, _ = in_pieces(of_piece, flat, targets, targets, tokens)
    return tf.reshape(each, shape), tf.reshape(correct, shape)


def in_pieces(of_piece: Callable, hidden, y, share, tokens: int):
    """Returns loss, hits and gradients of all tokens, computed in chunks.

    Args:
        of_piece: Gives these of some tokens, by their hidden states, targets and shares: the loss,
            a scalar, hits `[tokens]`, the gradient of the hidden states, and a list of others,
            which are summed.
        hidden: float `[tokens, width]`.
        y: int32 `[tokens]`.
        share: float32 `[tokens]`.
        tokens: The maximum number of tokens of a piece.
    """
    count = hidden.shape[0]
    if count is not None and count <= tokens:
        return of_piece(hidden, y, share)
    count = tf.shape(hidden)[0]
    # As few pieces as allowed, then as small as they can be: the padding of the last one has
    # weight 0 in the loss, but costs as much as the rest.
    pieces = -(-count // tokens)
    tokens = -(-count // pieces)
    padding = pieces * tokens - count

    def cut(tensor):
        tail = tensor.shape[1:].as_list()
        padded = tf.pad(tensor, [[0, padding]] + [[0, 0]] * len(tail))
        return tf.reshape(padded, [pieces, tokens, *tail])

    parts = [cut(tensor) for tensor in (hidden, y, share)]
    first = of_piece(*(part[0] for part in parts))

    def array(value):
        held = tf.TensorArray(value.dtype, pieces, element_shape=value.shape)
        return held.write(0, value)

    def body(index, total, correct, of_hidden, of_values):
        # Nothing else keeps the next piece from beginning before this one has ended.
        with tf.control_dependencies([total, *of_values]):
            now = of_piece(*(part[tf.identity(index)] for part in parts))
        return (
            index + 1,
            total + now[0],
            correct.write(index, now[1]),
            of_hidden.write(index, now[2]),
            [a + b for a, b in zip(of_values, now[3], strict=True)],
        )

    _, total, correct, of_hidden, of_values = tf.while_loop(
        lambda index, *_: index < pieces,
        body,
        (1, first[0], array(first[1]), array(first[2]), first[3]),
        parallel_iterations=1,
    )
    return total, correct.concat()[:count], of_hidden.concat()[:count], of_values
