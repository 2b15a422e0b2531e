"""Operations in a training step that TPUs do not support, found in its graph.

A lint, not a proof: XLA for CPUs takes some things that a TPU refuses, and no TPU was asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

# The shape of what they give depends on the values that they are given.
_DATA_DEPENDENT = {
    *"Where Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 ListDiff DynamicPartition".split(),
    *"NonMaxSuppressionV3 NonMaxSuppressionV4 RaggedRange RaggedTensorToTensor".split(),
}
# They run on the host's CPU only.
_HOST = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "Print", "PrintV2"}


def lint_step(step: tf.types.experimental.ConcreteFunction) -> list[str]:
    """Looks for operations in a training step that TPUs do not support.

    Args:
        step: The step of the replicas, traced with the shapes that it will get.

    Returns:
        What was found, in words; nothing, if nothing was.
    """
    found = []
    nodes = list(_nodes(step))
    for node in nodes:
        if node.op in _DATA_DEPENDENT:
            found.append(f"{node.op} ({node.name}): its shape depends on data")
        elif node.op in _HOST:
            found.append(f"{node.op} ({node.name}): it runs on the host only")
        elif _makes_strings(node, step.graph.op_def_for_type(node.op)) and not _only_for_asserts(
            node, nodes
        ):
            found.append(f"{node.op} ({node.name}): TPUs have no strings")
    return sorted(set(found))


def lint_inputs(batch) -> list[str]:
    """Looks for inputs that TPUs do not support: dynamic shapes, strings, bools.

    Args:
        batch: A structure of tensors or of their specs.
    """
    found = []
    for tensor in tf.nest.flatten(batch):
        if not tensor.shape.is_fully_defined():
            found.append(f"an input of shape {tensor.shape}: shapes must be static")
        if tensor.dtype in (tf.string, tf.bool):
            found.append(
                f"an input of dtype {tensor.dtype.name}: it cannot be distributed to replicas"
            )
    return found


def _nodes(step) -> Iterator:
    definition = step.graph.as_graph_def()
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def _makes_strings(node, definition) -> bool:
    types = [
        argument.type or node.attr[argument.type_attr].type for argument in definition.output_arg
    ]
    return tf.string.as_datatype_enum in types


def _only_for_asserts(node, nodes) -> bool:
    """Whether only assertions read a node: XLA leaves those out, with what they would say."""
    name = node.name
    readers = {
        other.op
        for other in nodes
        if any(inputs.partition(":")[0] == name for inputs in other.input)
    }
    return readers <= {"Assert", "StatelessIf", "If"}
