"""The peak memory of a TensorFlow function's tensors, computed without running it.

The graph is walked in the order in which TensorFlow's executor runs it. A tensor lives from the
operation that makes it to the last one that reads it; its size is that of its static shape.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import tensorflow as tf

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_CONDITIONALS = {"If", "StatelessIf"}
_LOOPS = {"While", "StatelessWhile"}
# A call that XLA compiles.
_COMPILED = "_XlaMustCompile"
_PRODUCTS = {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Einsum", "MatMul"}
# Output k is the memory of input k.
# fmt: off
_SAME_MEMORY = {
    *_LOOPS,
    "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "IdentityN", "PreventGradient",
    "Reshape", "Snapshot", "Squeeze", "StopGradient",
}
# Element-wise kernels, which write into an input that nothing else will read.
_IN_PLACE = {
    "Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cast", "DivNoNan", "Erf", "Exp", "Log", "Log1p",
    "LogSoftmax", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg", "Pow", "RealDiv",
    "Reciprocal", "Relu", "ReluGrad", "Rsqrt", "RsqrtGrad", "Sigmoid", "SigmoidGrad", "Softmax",
    "Sqrt", "Square", "SquaredDifference", "Sub", "Tanh", "TanhGrad",
}
# fmt: on
# Reading a variable copies nothing.
_NO_MEMORY = {"ReadVariableOp", "VarHandleOp"}
# There as long as the function is.
_LASTING = {"Const", "Placeholder"}


def peak_of(function: tf.types.experimental.ConcreteFunction) -> int:
    """Returns the maximum number of bytes that a function's tensors hold at once, its inputs
    included.

    Copies of variables count, variables do not. What a kernel takes for itself while it runs is
    not seen, nor what is kept in lists of tensors, nor a tensor whose shape is not static. What
    XLA compiles is taken as TensorFlow would run it; without products of matrices, as one pass,
    which makes one tensor on its way.

    Args:
        function: What `get_concrete_function` of a `tf.function` gives for static shapes.

    Raises:
        ValueError: If the shape of an input is not static.

    Example:

    >>> square = tf.function(lambda x: tf.matmul(x, x) + 1.0)
    >>> peak_of(square.get_concrete_function(tf.TensorSpec([256, 256])))
    524292
    """
    graph = function.graph
    for tensor in graph.inputs:
        if _item_size(tensor.dtype) and not tensor.shape.is_fully_defined():
            raise ValueError(f"Inputs must have static shapes. Received: {tensor}")
    definition = graph.as_graph_def(add_shapes=True)
    program = _Program(definition.library.function, graph.op_def_for_type)
    values = program.add(definition.node)
    return _peak(program.operations, [values[tensor.name] for tensor in graph.outputs])


def operation_count(function: tf.types.experimental.ConcreteFunction) -> int:
    """Returns how many operations a function has, with those of the functions that it calls."""
    definition = function.graph.as_graph_def()
    bodies = (definition, *definition.library.function)
    return sum(len(body.node_def if body is not definition else body.node) for body in bodies)


@dataclass(eq=False)
class _Value:
    """A tensor, its size in bytes, and the operation that makes it."""

    bytes: int
    maker: _Operation | None


@dataclass(eq=False)
class _Operation:
    """A node of the graph; `room` is what it takes while it runs, beside its outputs."""

    type: str
    stateful: bool = False
    inputs: list[_Value] = field(default_factory=list)
    outputs: list[_Value] = field(default_factory=list)
    after: list[_Operation] = field(default_factory=list)
    room: int = 0


class _Program:
    """The operations of a graph, with those of the functions that it calls in their places.

    TensorFlow does the same before it runs a graph, so that a call frees memory as it goes.

    Args:
        functions: The definitions of all functions that are called.
        op_def_for_type: See `tf.Graph.op_def_for_type`.
    """

    def __init__(self, functions: Sequence, op_def_for_type):
        self.operations: list[_Operation] = []
        self._functions = {function.signature.name: function for function in functions}
        self._op_def = op_def_for_type

    def add(
        self,
        nodes: Sequence,
        arguments: Mapping[str, _Value] | None = None,
        after: Sequence[_Operation] = (),
    ) -> dict[str, _Value]:
        """Adds the nodes of a graph, or of a function's body with the values of its arguments.

        Returns:
            The values by the names that nodes call them by.
        """
        values = dict(arguments or {})
        operations = {node.name: self._operation(node, values) for node in nodes}
        for node in nodes:
            operation = operations[node.name]
            operation.after += after
            for name in node.input:
                if not name.startswith("^"):
                    operation.inputs.append(values[name])
                elif name[1:] in operations:
                    operation.after.append(operations[name[1:]])
                elif (argument := values[name[1:]]).maker:
                    operation.after.append(argument.maker)
            if node.op in _CALLS and self._is_one_pass(node):
                operation.room = self._largest(operation, node.attr["f"].func.name)
            elif node.op in _CALLS:
                self._call(operation, node.attr["f"].func.name)
            elif node.op in _CONDITIONALS:
                branches = (node.attr[f"{name}_branch"].func.name for name in ("then", "else"))
                longer = max(branches, key=lambda name: len(self._functions[name].node_def))
                # The branch waits for the condition.
                self._call(operation, longer, skip=1)
            elif node.op in _LOOPS:
                operation.room = self._peak_of_turn(operation, node.attr["body"].func.name)
            self.operations.append(operation)
        return values

    def _operation(self, node, values: dict[str, _Value]) -> _Operation:
        """Makes a node's operation without its inputs, and names its outputs."""
        definition = self._op_def(node.op)
        operation = _Operation(node.op, definition.is_stateful)
        shapes = node.attr["_output_shapes"].list.shape
        if node.op == "Const" and not shapes:
            # One that a gradient takes from the forward pass.
            shapes = [node.attr["value"].tensor.tensor_shape]
        position = 0
        for argument in definition.output_arg:
            for number, dtype in enumerate(_dtypes(argument, node.attr)):
                size = 0 if node.op in _NO_MEMORY else _bytes(dtype, shapes[position])
                value = _Value(size, operation)
                operation.outputs.append(value)
                # As graphs and as functions' bodies call it.
                values[f"{node.name}:{position}"] = value
                values[f"{node.name}:{argument.name}:{number}"] = value
                values.setdefault(node.name, value)
                position += 1
        return operation

    def _call(self, operation: _Operation, name: str, skip: int = 0) -> None:
        """Puts the body of a function before a call, which then only hands over the results."""
        function = self._functions[name]
        condition = [value.maker for value in operation.inputs[:skip] if value.maker]
        values = self.add(
            function.node_def,
            _bound(function, operation.inputs[skip:]),
            [*operation.after, *condition],
        )
        operation.type, operation.stateful = "IdentityN", False
        operation.inputs = _results(function, values)

    def _is_one_pass(self, node) -> bool:
        """Tells whether a call is one of element-wise work that XLA fuses."""
        body = self._functions[node.attr["f"].func.name].node_def
        inside = {each.op for each in body if not _is_sum(each)}
        return node.attr[_COMPILED].b and not inside & (_PRODUCTS | _CALLS | _CONDITIONALS | _LOOPS)

    def _largest(self, call: _Operation, name: str) -> int:
        """Returns the bytes of the largest tensor that a function makes on its way."""
        function = self._functions[name]
        body = _Program([*self._functions.values()], self._op_def)
        body.add(function.node_def, _bound(function, call.inputs))
        sizes = [value.bytes for operation in body.operations for value in operation.outputs]
        return max(sizes, default=0)

    def _peak_of_turn(self, loop: _Operation, name: str) -> int:
        """Returns what one turn of a loop takes beside the state that it begins with."""
        function = self._functions[name]
        body = _Program([*self._functions.values()], self._op_def)
        state = [_Value(value.bytes, None) for value in loop.inputs]
        values = body.add(function.node_def, _bound(function, state))
        return _peak(body.operations, _results(function, values))


def _is_sum(node) -> bool:
    """Tells whether a product is with a vector, which XLA computes as a sum per row."""
    shapes = node.attr["_output_shapes"].list.shape
    sizes: Sequence[Any] = shapes[0].dim if shapes else ()
    return node.op == "MatMul" and len(sizes) == 2 and sizes[1].size == 1


def _bound(function, inputs: Sequence[_Value]) -> dict[str, _Value]:
    names = [argument.name for argument in function.signature.input_arg]
    return dict(zip(names, inputs, strict=True))


def _results(function, values: Mapping[str, _Value]) -> list[_Value]:
    return [values[function.ret[result.name]] for result in function.signature.output_arg]


def _dtypes(argument, attributes) -> list[int]:
    """Returns the dtype of each tensor that an output of an operation's definition stands for."""
    if argument.type_list_attr:
        return list(attributes[argument.type_list_attr].list.type)
    dtype = argument.type or attributes[argument.type_attr].type
    return [dtype] * (attributes[argument.number_attr].i if argument.number_attr else 1)


def _bytes(dtype: int, shape) -> int:
    sizes = [dimension.size for dimension in shape.dim]
    if shape.unknown_rank or min(sizes, default=0) < 0:
        return 0
    return _item_size(tf.as_dtype(dtype)) * prod(sizes)


def _item_size(dtype: tf.DType) -> int:
    return 0 if dtype in (tf.resource, tf.string, tf.variant) else dtype.size


@dataclass(eq=False)
class _Buffer:
    """Memory that tensors share; it is counted where it was lent."""

    bytes: int
    lent: bool = False
    readers: int = 0


def _peak(operations: Sequence[_Operation], results: Sequence[_Value]) -> int:
    """Returns the maximum number of bytes that live at once, beside those of values that nothing
    here makes."""
    operations = _needed(operations, results)
    readers = Counter(value for operation in operations for value in operation.inputs)
    readers.update(results)
    buffers: dict[_Value, _Buffer] = {}
    for value in readers:
        if value.maker is None:
            buffers[value] = _Buffer(value.bytes, lent=True, readers=readers[value])
    live = peak = 0
    for operation in _in_order(operations):
        read = [buffers[value] for value in operation.inputs]
        for position, value in enumerate(operation.outputs):
            buffer = _reused(operation, position, read)
            if buffer is None:
                # What lasts has one reader more than is seen.
                buffer = _Buffer(value.bytes, readers=operation.type in _LASTING)
                live += value.bytes
            buffers[value] = buffer
            buffer.readers += readers[value]
        peak = max(peak, live + operation.room)
        for buffer in read:
            buffer.readers -= 1
        for buffer in {*read, *(buffers[value] for value in operation.outputs)}:
            if not buffer.readers and not buffer.lent:
                live -= buffer.bytes
    return peak


def _reused(operation: _Operation, position: int, read: Sequence[_Buffer]) -> _Buffer | None:
    """Returns the memory of an input that an output takes over, if it takes any."""
    value = operation.outputs[position]
    if operation.type in _SAME_MEMORY:
        return read[position]
    if operation.type in _IN_PLACE:
        for buffer in read:
            if buffer.bytes == value.bytes and buffer.readers == read.count(buffer):
                return buffer
    return None


def _needed(operations: Sequence[_Operation], results: Sequence[_Value]) -> list[_Operation]:
    """Leaves out what TensorFlow prunes: operations that no result and no side effect needs."""
    found = {operation for operation in operations if operation.stateful}
    found |= {value.maker for value in results if value.maker}
    waiting = list(found)
    while waiting:
        operation = waiting.pop()
        before = {value.maker for value in operation.inputs if value.maker} | {*operation.after}
        waiting += before - found
        found |= before
    return [operation for operation in operations if operation in found]


def _in_order(operations: Sequence[_Operation]) -> Iterator[_Operation]:
    """Yields operations as a thread of the executor takes them.

    Of those that one operation made ready it continues with the last; the others are queued.
    """
    followers = defaultdict(list)
    missing = {}
    for operation in operations:
        before = {value.maker for value in operation.inputs if value.maker} | {*operation.after}
        missing[operation] = len(before)
        for earlier in before:
            followers[earlier].append(operation)
    waiting = deque(operation for operation in operations if not missing[operation])
    while waiting:
        operation = waiting.popleft()
        yield operation
        for follower in followers[operation]:
            missing[follower] -= 1
        ready = [follower for follower in followers[operation] if not missing[follower]]
        waiting.extend(ready[:-1])
        waiting.extendleft(ready[-1:])
