"""Padding that gives transposed convolutions the output_shape which they had as an option in Keras 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxconv import geometry as geo
from jaxconv.errors import explain
from jaxconv.models.container import walk
from jaxconv.windows import Window

Lengths = tuple[int, ...]


def output_lengths(output_shape: Any, data_format: Any, rank: int) -> Lengths:
    """Return the spatial lengths in an ``output_shape``, batch first. Raises ValueError if one of them is unknown."""
    shape = output_shape if isinstance(output_shape, list | tuple) else ()
    lengths = tuple(shape[2:] if data_format == "channels_first" else shape[1:-1])
    if len(shape) != rank + 2 or not all(type(n) is int and n > 0 for n in lengths):
        raise ValueError(f"output_shape={ascii(output_shape)[:80]} does not contain the lengths of {rank} axes")
    return lengths


def padding_for(
    lengths: Lengths, kernel: Lengths, strides: Lengths, rule: str, theano: bool
) -> tuple[str | list[tuple[int, int]], list[int] | None]:
    """Return the (padding, output_padding) that give a transposed convolution these lengths. Raises ValueError.

    The layer is the gradient of the convolution that maps such an output to the layer's input with this rule; that
    convolution decides the input's length and where its padding is. TensorFlow's "same" depends on the length, with an
    odd zero at the end; Theano's puts ``kernel // 2`` zeros on either side.

    >>> padding_for((6,), (3,), (2,), "same", False), padding_for((5,), (3,), (2,), "same", False)
    (('same', None), ('same', [0]))
    """
    inputs, pads, extra = [], [], []
    for length, size, stride in zip(lengths, kernel, strides, strict=True):
        half = size // 2 if rule == "same" else 0
        steps = -(-length // stride) if rule == "same" and not theano else (length + 2 * half - size) // stride + 1
        tail = length - (steps - 1) * stride
        before = half if theano else max(size - tail, 0) // 2 if rule == "same" else 0
        after = size - tail - before
        inputs.append(steps)
        pads.append((before, max(after, 0)))
        extra.append(max(-after, 0))
    odd = [length - (n - 1) * s - (k % 2 if rule == "same" else k)
           for length, n, k, s in zip(lengths, inputs, kernel, strides, strict=True)]  # fmt: skip
    choices: list[tuple[Any, list[int] | None]] = [(rule, None), (rule, odd), (pads, extra if any(extra) else None)]
    for padding, output_padding in choices:
        added: Sequence[int | None] = output_padding or [None] * len(lengths)
        if min(inputs) < 1 or not all(n is None or 0 <= n < s for n, s in zip(added, strides, strict=True)):
            continue
        windows = [
            Window(k, s, padding=one, transposed=True, output_padding=more)
            for k, s, one, more in zip(kernel, strides, geo.each_axis(padding, len(lengths)), added, strict=True)
        ]
        out = tuple(window.output_length(n, "Deconvolution") for window, n in zip(windows, inputs, strict=True))
        crops = [window.pads(n) for window, n in zip(windows, inputs, strict=True)]
        if out == lengths and all(own[0] == wanted[0] for own, wanted in zip(crops, pads, strict=True)):
            return padding, output_padding
    raise ValueError(
        f"output_shape has lengths {lengths}, which no padding produces "
        f"(kernel_size={kernel}, strides={strides}, border_mode={rule!r})"
    )


def check_output_lengths(layer: Any, shape: Any, declared: Mapping[tuple[str, ...], Lengths]) -> None:
    """Check that the layers in a model have the output lengths that the file declares, by path. Raises ValueError."""

    def visit(path: str, one: Any, shapes: list, structure: Any) -> list:
        given = structure.unflatten(shapes)
        with explain(f"{path}, given shape {given}"):
            out = one.output_shape(given)
        wanted = declared.get(tuple(path.split("/")))
        lengths = out[2:] if wanted and one.data_format == "channels_first" else out[1:-1]
        if wanted and any(n not in (None, m) for n, m in zip(lengths, wanted, strict=True)):
            raise ValueError(f"layer {path!r} has lengths {lengths} for input {given}; its output_shape says {wanted}")
        return one.output_structure.flatten_up_to(out)

    walk(layer, layer.flat_inputs(layer.read_shape(shape)), visit)
