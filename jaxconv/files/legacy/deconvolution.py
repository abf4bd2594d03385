"""Keras 1's transposed convolutions were told the shape of their output: the padding here that gives it.

Knows containers by their graphs, and nothing of files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxconv import geometry as geo
from jaxconv.contract import Layer
from jaxconv.models.container import Container
from jaxconv.windows import Window

Lengths = tuple[int, ...]


def output_lengths(output_shape: Any, data_format: Any, rank: int) -> Lengths:
    """Give the spatial lengths in an ``output_shape``, batch first. Raises ValueError for one that has none."""
    shape = output_shape if isinstance(output_shape, list | tuple) else ()
    lengths = tuple(shape[2:] if data_format == "channels_first" else shape[1:-1])
    if len(shape) != rank + 2 or not all(type(n) is int and n > 0 for n in lengths):
        raise ValueError(
            f"its output_shape is {ascii(output_shape)[:80]}, which does not say the lengths of {rank} axes"
        )
    return lengths


def padding_for(
    lengths: Lengths, kernel: Lengths, strides: Lengths, rule: str, theano: bool
) -> tuple[str | list[tuple[int, int]], list[int] | None]:
    """Give the (padding, output_padding) with which a transposed convolution gives an output of these lengths.

    It is the gradient of the convolution with this rule that takes such an output to the layer's input: that one's
    length follows, and so does where its padding lies. TensorFlow's "same" depends on the length, with the odd zero
    after; Theano's puts ``kernel // 2`` zeros on either side.

    Raises:
        ValueError: there is none.

    >>> padding_for((6,), (3,), (2,), "same", False), padding_for((5,), (3,), (2,), "same", False)
    (('same', None), ('same', [0]))
    """
    inputs, pads, more = [], [], []
    for length, size, stride in zip(lengths, kernel, strides, strict=True):
        half = size // 2 if rule == "same" else 0
        steps = -(-length // stride) if rule == "same" and not theano else (length + 2 * half - size) // stride + 1
        tail = length - (steps - 1) * stride
        before = half if theano else max(size - tail, 0) // 2 if rule == "same" else 0
        after = size - tail - before
        inputs.append(steps)
        pads.append((before, max(after, 0)))
        more.append(max(-after, 0))
    odd = [length - (n - 1) * s - (k % 2 if rule == "same" else k)
           for length, n, k, s in zip(lengths, inputs, kernel, strides, strict=True)]  # fmt: skip
    choices: list[tuple[Any, list[int] | None]] = [(rule, None), (rule, odd), (pads, more if any(more) else None)]
    for padding, extra in choices:
        if extra is not None and not all(0 <= n < s for n, s in zip(extra, strides, strict=True)):
            continue
        if min(inputs) < 1:
            break
        rules = geo.each_axis(padding, len(lengths))
        extras: Sequence[int | None] = extra or [None] * len(lengths)
        windows = [
            Window(k, s, padding=one, transposed=True, output_padding=more)
            for k, s, one, more in zip(kernel, strides, rules, extras, strict=True)
        ]
        out = tuple(window.output_length(n, "Deconvolution") for window, n in zip(windows, inputs, strict=True))
        cut = [window.pads(n) for window, n in zip(windows, inputs, strict=True)]
        if out == lengths and all(own[0] == said[0] for own, said in zip(cut, pads, strict=True)):
            return padding, extra
    raise ValueError(
        f"its output_shape asks for lengths {lengths}, which no padding gives "
        f"(kernel_size={kernel}, strides={strides}, border_mode={rule!r})"
    )


def refuse_other_lengths(layer: Layer, shape: Any, told: Mapping[tuple[str, ...], Lengths]) -> None:
    """Raise ValueError where a layer in a model gives other lengths than it was told.

    Args:
        layer: the model. shape: the shape of its input.
        told: from the path of a layer, by names, to its output's lengths.
    """
    waiting: list[tuple[tuple[str, ...], Any, Any]] = [((), layer, shape)]
    while waiting:
        path, model, given = waiting.pop()
        values, children = model.flat_inputs(model.read_shape(given)), model.children
        shapes = model.shapes(given)
        for number, (name, *_), own in model.graph.steps(values):
            place, out = (*path, name), shapes[number]
            if isinstance(children[name], Container):
                waiting.append((place, children[name], own))
            elif place in told:
                lengths = out[2:] if children[name].data_format == "channels_first" else out[1:-1]
                if any(n not in (None, one) for n, one in zip(lengths, told[place], strict=True)):
                    raise ValueError(
                        f"layer {name!r} gives lengths {lengths} for input of shape {own}; its output_shape says "
                        f"{told[place]}"
                    )
            values += children[name].output_structure.flatten_up_to(out)
