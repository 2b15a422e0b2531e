"""The encoder in a TensorFlow checkpoint, and the key of each of its tensors there.

The first TensorFlow's checkpoints name each tensor by its scope:
`bert/encoder/layer_0/attention/self/query/kernel`. TensorFlow 2's hold a graph of objects: which
attribute and the object of each tensor. There the encoder is known by what it is made of, so it
does not matter whether the encoder, a classifier or a pretraining model was saved, or under what
name. A tensor that belongs to two objects, as the word embeddings that the head of a masked
language model shares, has one key, of either.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Protocol

from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
WORDS = "embeddings.word_embeddings.weight"
_QUERY = "encoder.layer.0.attention.self.query.weight"
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.*)")
_SLOT = re.compile(r"/(adam_m|adam_v|Adam|Adam_1|Momentum|ExponentialMovingAverage)$")

_OWN_NAMES = {
    "embeddings.word_embeddings": "_embedding_layer",
    "embeddings.position_embeddings": "_position_embedding_layer",
    "embeddings.token_type_embeddings": "_type_embedding_layer",
    "embeddings.LayerNorm": "_embedding_norm_layer",
    "pooler.dense": "_pooler_layer",
}
# Encoders from before these attributes were tracked know their layers by numbers only.
_NUMBERS = {
    "embeddings.word_embeddings": 0,
    "embeddings.position_embeddings": 1,
    "embeddings.token_type_embeddings": 2,
    "embeddings.LayerNorm": 3,
}
_IN_A_LAYER = {
    "attention.self.query": ("_attention_layer/_query_dense",),
    "attention.self.key": ("_attention_layer/_key_dense",),
    "attention.self.value": ("_attention_layer/_value_dense",),
    "attention.output.dense": ("_attention_layer/_output_dense", "_attention_output_dense"),
    "attention.output.LayerNorm": ("_attention_layer_norm",),
    "intermediate.dense": ("_intermediate_dense",),
    "output.dense": ("_output_dense",),
    "output.LayerNorm": ("_output_layer_norm",),
}


class Encoder(Protocol):
    """An encoder in a checkpoint.

    Attributes:
        keys: The keys of all tensors that are part of it.
        split_heads: Whether the heads of attention are a dimension of their own.
    """

    keys: frozenset[str]
    split_heads: bool

    def names(self, name: str) -> tuple[str, ...]:
        """Returns what a tensor of Hugging Face's may be called here, the first choice first."""

    def key(self, name: str) -> str | None:
        """Returns the key of a tensor of Hugging Face's, or `None` where it is missing."""


class ScopedEncoder:
    """An encoder of google-research's code, by the scopes of TensorFlow 1.

    Args:
        keys: The keys of all tensors of the checkpoint.
        prefix: What comes before the encoder's own scopes, usually `bert/`.
    """

    split_heads = False

    def __init__(self, keys: Collection[str], prefix: str):
        self._prefix = prefix
        scopes = (prefix,) if prefix else ("embeddings/", "encoder/", "pooler/")
        self.keys = frozenset(
            key for key in keys if key.startswith(scopes) and not _SLOT.search(key)
        )

    @classmethod
    def find(cls, keys: Collection[str]) -> Iterator[ScopedEncoder]:
        """Finds the encoders of a checkpoint."""
        table = _scoped_name(WORDS)
        for key in sorted(keys):
            if key == table or key.endswith(f"/{table}"):
                yield cls(keys, key.removesuffix(table))

    def names(self, name: str) -> tuple[str, ...]:
        """See `Encoder`."""
        return (self._prefix + _scoped_name(name),)

    def key(self, name: str) -> str | None:
        """See `Encoder`."""
        (key,) = self.names(name)
        return key if key in self.keys else None


class ObjectEncoder:
    """An encoder of Model Garden's, by the attributes of its objects.

    Args:
        graph: The graph of the checkpoint's objects.
        node: The number of the encoder in it.
        num_layers: Number of transformer layers.
        numbered: Whether the encoder's parts are known by numbers only.
    """

    split_heads = True

    def __init__(self, graph: TrackableObjectGraph, node: int, num_layers: int, numbered: bool):
        self._graph = graph
        self._node = node
        self._num_layers = num_layers
        self._numbered = numbered
        self.keys = frozenset(self._keys_below())

    @classmethod
    def find(cls, graph: bytes, num_layers: int) -> Iterator[ObjectEncoder]:
        """Finds the encoders of a checkpoint."""
        parsed = TrackableObjectGraph.FromString(graph)
        for node in range(len(parsed.nodes)):
            for numbered in (False, True):
                encoder = cls(parsed, node, num_layers, numbered)
                if encoder.key(WORDS) and encoder.key(_QUERY):
                    yield encoder
                    break

    def names(self, name: str) -> tuple[str, ...]:
        """See `Encoder`."""
        part, _, kind = name.rpartition(".")
        attribute = {"weight": "kernel", "bias": "bias"}[kind]
        if part.endswith("LayerNorm"):
            attribute = {"weight": "gamma", "bias": "beta"}[kind]
        elif part.endswith("_embeddings"):
            attribute = "embeddings"
        return tuple(f"{place}/{attribute}" for place in self._places(part))

    def key(self, name: str) -> str | None:
        """See `Encoder`."""
        return next((key for path in self.names(name) if (key := self._follow(path))), None)

    def _places(self, part: str) -> list[str]:
        if match := _LAYER.fullmatch(part):
            number = int(match[1])
            layer = f"_transformer_layers/{number}"
            if self._numbered:
                layer = f"layer_with_weights-{number + len(_NUMBERS)}"
            return [f"{layer}/{place}" for place in _IN_A_LAYER[match[2]]]
        if self._numbered:
            return [f"layer_with_weights-{_NUMBERS.get(part, self._num_layers + len(_NUMBERS))}"]
        return [_OWN_NAMES[part]]

    def _follow(self, path: str) -> str | None:
        """Returns the key of the tensor at a path of attributes."""
        node = self._node
        for name in path.split("/"):
            children = self._graph.nodes[node].children
            node = next((child.node_id for child in children if child.local_name == name), None)
            if node is None:
                return None
        keys = [one.checkpoint_key for one in self._graph.nodes[node].attributes]
        return keys[0] if keys else None

    def _keys_below(self) -> Iterator[str]:
        seen, waiting = set(), [self._node]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting.extend(child.node_id for child in self._graph.nodes[node].children)
                yield from (one.checkpoint_key for one in self._graph.nodes[node].attributes)


def _scoped_name(name: str) -> str:
    part, _, kind = name.rpartition(".")
    scope = re.sub(r"layer\.(\d+)", r"layer_\1", part).replace(".", "/")
    if part.endswith("_embeddings"):
        return scope
    if part.endswith("LayerNorm"):
        return f"{scope}/{'gamma' if kind == 'weight' else 'beta'}"
    return f"{scope}/{'kernel' if kind == 'weight' else 'bias'}"
