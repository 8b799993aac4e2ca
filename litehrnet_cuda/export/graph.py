"""ONNX graphs made plainer than PyTorch's exporter leaves them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

_DIMENSIONS = ("batch", "channels", "height", "width")  # of the images, where they are free


def simplify(model: ModelProto) -> None:
    """Changes a graph in place to one that computes the same.

    What each node came from is dropped, which is half of the file and tells paths; free dimensions of the images are
    called batch, height and width; and upsampling by a constant factor says so, instead of computing its size.
    """
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for item in (model, graph, *graph.node, *graph.initializer, *values):
        del item.metadata_props[:]
        item.doc_string = ""
    _name_dimensions(graph.input[0], values)
    _use_constant_scales(graph, {value.name: _sides(value) for value in values})
    _drop_unused(graph)


def _name_dimensions(images: Any, values: Iterable[Any]) -> None:
    named = zip(images.type.tensor_type.shape.dim, _DIMENSIONS, strict=True)
    names = {dimension.dim_param: name for dimension, name in named if dimension.dim_param}
    for value in values:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in names:
                dimension.dim_param = names[dimension.dim_param]


def _sides(value: Any) -> list[int]:
    """The constant dimensions; 0 where one is free."""
    return [side.dim_value for side in value.type.tensor_type.shape.dim]


def _use_constant_scales(graph: Any, shapes: dict[str, list[int]]) -> None:
    """Replaces the target size of `Resize`, which has the batch in it, where both sizes are known and divide evenly."""
    from onnx import numpy_helper

    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Resize" or len(node.input) < 4:
            continue
        source, target = shapes.get(node.input[0], [])[2:], shapes.get(node.output[0], [])[2:]
        if not len(source) == len(target) == 2 or not all(source):
            continue
        if any(b % a or b < a for a, b in zip(source, target, strict=True)):
            continue
        factors = [b // a for a, b in zip(source, target, strict=True)]
        name = f"scales_{factors[0]}x{factors[1]}"
        if name not in known:
            graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *factors], np.float32), name))
            known.add(name)
        node.input[:] = [node.input[0], "", name]


def _drop_unused(graph: Any) -> None:
    """Removes nodes and constants that nothing reads any more."""
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):  # in the order of computation, as ONNX demands
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.value_info if value.name not in needed]:
        graph.value_info.remove(value)
