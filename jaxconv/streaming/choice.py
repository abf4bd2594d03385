"""Choice of the operation that runs a layer call step by step, and of its signal, or the reason why it cannot.

Uses the windows of layers, and the types of a few: those whose padding is moved into the stream.
"""

import dataclasses
import math
from typing import Any

from jaxconv.contract.masks import reader
from jaxconv.contract.receptive_field import union
from jaxconv.contract.spatial import spatial_axes, without_padding
from jaxconv.layers.conv_transpose import BaseConvTranspose
from jaxconv.layers.convolving import Convolving
from jaxconv.layers.crop_pad import BaseEdges
from jaxconv.layers.global_pooling import BaseGlobalPooling
from jaxconv.layers.masking import Masking
from jaxconv.layers.merge import Merge
from jaxconv.layers.operations import GetItem
from jaxconv.layers.pooling import BasePooling
from jaxconv.layers.recurrent import Recurrent
from jaxconv.layers.reshaping import Flatten, Reshape
from jaxconv.layers.upsampling import REACHES, BaseUpSampling
from jaxconv.streaming.operation import (
    Cumulate,
    EachStep,
    Frame,
    Interpolate,
    Operation,
    Overlap,
    Pool,
    Repeat,
    Reshaped,
    Slide,
)
from jaxconv.streaming.signal import Signal
from jaxconv.windows import Window

RING_FROM = 4  # kept steps per step that an output reads, from which a ring is cheaper than moving all of them
ODD_LENGTHS = (1009, 2003)  # a constant of a layer is unlikely to have one of these lengths along time


@dataclasses.dataclass(frozen=True)
class Heads:
    """The user's choices for layers that read the whole time axis; see ``stream``."""

    pooling: str | None = None
    window: int | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """An operation, the signal of its result, and the number of steps by which to delay the result.

    same: the window, if it pads by "same" with a stride, and its padding before the first step in the stream.
    """

    operation: Operation
    signal: Signal
    late: int = 0
    same: tuple[Window, int] | None = None


class StreamError(ValueError):
    """Error for a layer that cannot run step by step. The message names it, the axis, the reason and a way out."""


def refuse(name: str, layer: Any, axis: int | None, reason: str, instead: str) -> StreamError:
    """Return the error for a layer that cannot run step by step."""
    along = "" if axis is None else f" along axis {axis}"
    return StreamError(f"stream: {name} ({type(layer).__name__}) {reason}{along}; {instead}")


def choose(name: str, layer: Any, inputs: tuple[Signal, ...], heads: Heads) -> Choice:
    """Return the choice for a layer call on inputs of equal delay. Raises StreamError if it cannot run step by step."""
    if isinstance(layer, Merge):
        return _merge(name, layer, inputs)
    signal = inputs[0]
    if len(inputs) > 1 and isinstance(layer, Recurrent):  # Bidirectional raises below, with or without states
        raise refuse(name, layer, signal.axis, "is given first states", "leave them out: stream.init has zeros")
    if signal.axis is None:
        shape = layer.output_shape(signal.shape)
        return Choice(EachStep(layer, inputs), dataclasses.replace(signal, shape=shape, source=name))
    if isinstance(layer, Reshape) and signal.length not in (None, 1):
        reshaped = _reshape(name, layer, signal)
        if reshaped is not None:
            return reshaped
    windows = layer.windows(signal.shape)
    repeats = isinstance(layer, Recurrent) and not (layer.go_backwards or layer.return_state) and signal.axis == 1
    if repeats and (layer.return_sequences or heads.pooling == "cumulative"):
        return _repeat(name, layer, signal)
    found = reader(windows, signal.axis)
    if found is None or found[1].reads_all:
        return _whole(name, layer, signal, heads, mixed=found is not None and found[1].in_place)
    _check_weights(name, layer, signal)
    axis, window = found
    shape = layer.output_shape(signal.shape)
    masks = isinstance(layer, Masking) or getattr(layer, "mask_zero", False)
    out = dataclasses.replace(signal, shape=shape, axis=axis, source=name, length=_length(layer, signal, axis))
    out = dataclasses.replace(out, masked=name if masks else signal.masked)
    if window.pointwise:
        return Choice(Operation(layer, inputs), out)
    _refuse_masked(name, layer, signal)
    return _windowed(name, layer, signal, window, out)


def _refuse_masked(name: str, layer: Any, signal: Signal) -> None:
    if signal.masked is not None:
        reason = f"reads several steps, which {signal.masked} masks by their values,"
        raise refuse(name, layer, signal.axis, reason, f"leave {signal.masked} out and give stream.step a mask")


def _repeat(name: str, layer: Any, signal: Signal) -> Choice:
    """Return the choice for a recurrent layer. Without ``return_sequences`` each step has a result, too."""
    _refuse_masked(name, layer, signal)
    out = dataclasses.replace(signal, shape=layer.output_shape(signal.shape), source=name, field=None, padded=name)
    if not layer.return_sequences:
        out = dataclasses.replace(out, axis=None, length=None)
    return Choice(Repeat(dataclasses.replace(layer, return_sequences=True), (signal,)), out)


def _length(layer: Any, signal: Signal, axis: int) -> int | None:
    """Return the output length for the whole input shape that the user gave, or None if it is unknown or too short."""
    try:
        return None if signal.length is None else layer.output_shape(signal.sized(signal.length))[axis]
    except ValueError:
        return None


def _check_weights(name: str, layer: Any, signal: Signal) -> None:
    """Raise ValueError for a layer that has different weights or constants for each step."""
    try:
        layer.weights(signal.shape)
        for length in ODD_LENGTHS:
            layer.output_shape(signal.sized(length))
    except ValueError as error:
        reason = f"has values of its own for each step ({error})"
        raise refuse(name, layer, signal.axis, reason, "use a layer that treats all steps alike") from error


def reads_early(layer: Any, signal: Signal) -> bool:
    """Return whether a layer accepts a signal whose first steps are zeros from before the stream begins.

    These zeros are then in its state. A pointwise layer has no state: its outputs for them would be lost.
    """
    if not isinstance(layer, Convolving) or isinstance(layer, BaseConvTranspose):
        return False
    found = reader(layer.windows(signal.shape), signal.axis)  # type: ignore[arg-type]
    return found is not None and not found[1].pointwise


# -- layers with several inputs


def _merge(name: str, layer: Any, inputs: tuple[Signal, ...]) -> Choice:
    first = inputs[0]
    shapes = [one.shape for one in inputs]
    if layer.input_names and first.axis is not None and not layer.windows(shapes)[first.time - 1].pointwise:
        raise refuse(name, layer, first.axis, "attends to all steps", "run it on whole sequences, with apply_fn")
    reduced, kept = ([one for one in inputs if (one.axis is None) is gone] for gone in (True, False))
    if reduced and kept:
        reason = f"merges {kept[0].source}, which has a time axis, with {reduced[0].source}, which has reduced it,"
        raise refuse(name, layer, kept[0].axis, reason, "reduce both or neither")
    for one in inputs[1:]:
        if one.rate != first.rate:
            reason = f"merges {first.source}, of {first.rate} steps per input step, and {one.source}, of {one.rate},"
            raise refuse(name, layer, one.axis, reason, "give both branches the same total stride")
        block = math.lcm(first.lengths.period, one.lengths.period)  # at other lengths ``check_length`` compares them
        differ = abs(one.lengths(10**6 * block) - first.lengths(10**6 * block))
        if differ:
            reason = f"merges {first.source} and {one.source}, whose lengths differ by {differ},"
            raise refuse(name, layer, one.axis, reason, "pad or crop one of them")
    shape = layer.output_shape(shapes)
    padded, masked = (next(filter(None, (getattr(one, what) for one in inputs)), None) for what in ("padded", "masked"))
    out = dataclasses.replace(
        first, shape=shape, source=name, field=union([one.field for one in inputs]), padded=padded, masked=masked
    )
    if first.axis is None:
        return Choice(EachStep(layer, inputs, True), out)
    rank = max(len(one.shape) for one in inputs)
    axes = {one.time + rank - len(one.shape) for one in inputs}
    same_rank = len({len(one.shape) for one in inputs}) == 1
    window = layer.windows(shapes)[min(axes) - 1] if same_rank and len(axes) == 1 else None
    if len(axes) > 1 or (window is not None and not window.pointwise) or rank != len(shape):
        raise refuse(name, layer, first.axis, "does not merge step by step", "merge along another axis")
    return Choice(Operation(layer, inputs, True), dataclasses.replace(out, axis=axes.pop()))


# -- layers that read the whole axis


def _reshape(name: str, layer: Any, signal: Signal) -> Choice | None:
    """Return the choice for a Reshape that keeps the time axis, or None for any other."""
    whole = signal.sized(signal.length)
    reading = [(axis, window) for axis, window in enumerate(layer.windows(whole), 1) if not window.reads_all]
    found = [axis for axis, window in reading if window.axis == signal.time - 1]
    if not found:
        return None
    shape = tuple(None if axis == found[0] else size for axis, size in enumerate(layer.output_shape(whole)))
    out = dataclasses.replace(signal, shape=shape, axis=found[0], source=name)
    return Choice(Reshaped(layer, (signal,), shape=shape), out)


def _whole(name: str, layer: Any, signal: Signal, heads: Heads, mixed: bool) -> Choice:
    """Return the choice for a layer that reads the whole time axis: over the last steps, or over all until now."""
    flat = isinstance(layer, Flatten | Reshape) and signal.length is not None
    flat = flat and len(layer.output_shape(signal.sized(signal.length))) == 2
    pools = isinstance(layer, BaseGlobalPooling)
    ends = isinstance(layer, Recurrent) and not (layer.return_sequences or layer.go_backwards or layer.return_state)
    if pools and heads.pooling == "cumulative":
        return _cumulate(name, layer, signal)
    if heads.window is not None:
        if signal.padded is not None:
            reason = f"reads the last {heads.window} steps, and {signal.padded} before it pads, crops or has a state"
            instead = f"leave window out, or use a {signal.padded} whose outputs depend only on these steps"
            raise refuse(name, layer, signal.axis, reason, instead)
        frames = signal.lengths(heads.window)
        if frames < 1:
            reason = f"reads nothing of window={heads.window} steps"
            raise refuse(name, layer, None, reason, f"the shortest valid window is {signal.lengths.least}")
        return _frame(name, layer, signal, frames)
    if flat:
        return _frame(name, layer, signal, signal.length)  # type: ignore[arg-type]
    if isinstance(layer, Flatten):
        instead = "name the number of steps in input_shape, or give window=W for the last W steps"
    elif pools or ends:
        instead = "give pooling='cumulative' (over all steps until now) or window=W (over the last W steps)"
    else:
        instead = "give window=W to run the layers after it on the last W steps"
        instead = f"use a layer that works within each step, or {instead}" if mixed else instead
    raise refuse(name, layer, signal.axis, "reads all steps", channels_advice(layer, signal) or instead)


def channels_advice(layer: Any, signal: Signal) -> str | None:
    """Return which axis to give if the time axis of a signal is the channel axis of a layer, otherwise None."""
    ways = layer.mask_layouts(len(signal.shape))
    if len(ways) > 1 or signal.axis in ways[0]:
        return None
    axes = " or ".join(f"axis={axis}" for axis in ways[0] if axis)
    return f"axis {signal.axis} contains the channels; give {axes}"


def _cumulate(name: str, layer: Any, signal: Signal) -> Choice:
    others = tuple(axis for axis in layer.axes if axis != signal.axis)
    shape = layer.output_shape(signal.sized(1))
    out = dataclasses.replace(signal, shape=shape, axis=None, length=None, field=None, source=name, padded=name)
    return Choice(Cumulate(layer, (signal,), maximum=layer.masked_value != 0, others=others), out)


def _frame(name: str, layer: Any, signal: Signal, frames: int) -> Choice:
    shape = layer.output_shape(signal.sized(frames))
    out = _moved(signal, Window(frames), signal.delay + frames - 1)
    out = dataclasses.replace(out, shape=shape, axis=None, length=None, source=name)
    return Choice(Frame(layer, (signal,), frames=frames), out)


# -- layers with a window along time


def _moved(signal: Signal, window: Window, delay: int) -> Signal:
    """Return the signal after a window: its rate, delay, lengths and field."""
    if window.transposed:
        tail = window.output_length(10**6) - (10**6 - 1) * window.stride
        rate, lengths = signal.rate * window.stride, signal.lengths.then(window.stride, tail - window.stride, 1)
    else:
        stride, (before, after) = window.stride, window.pads()
        rate = signal.rate / stride
        lengths = signal.lengths.then(1, before + after - window.extent + stride, stride)
    field, reach = signal.field, window.reach()
    if field is not None and reach is not None:
        field = field.through(reach)
    return dataclasses.replace(signal, rate=rate, lengths=lengths, field=field, delay=delay)


def _windowed(name: str, layer: Any, signal: Signal, window: Window, out: Signal) -> Choice:
    """Return the choice for a layer whose window along time has more than one step, or is padded."""
    if isinstance(layer, BaseUpSampling) and window.mode == "renormalize":
        reach, factor = REACHES[layer.interpolation], window.stride
        moved = _moved(signal, window, (signal.delay + reach) * factor)
        return Choice(Interpolate(layer, (signal,), reach=reach, factor=factor), _joined(out, moved, name))
    given, same = window, None
    if window.padding == "same" and window.stride > 1 and not window.transposed:  # as if the block divides the input
        block = math.lcm(signal.lengths.period, (signal.rate / window.stride).denominator)
        window = dataclasses.replace(window, padding=window.pads(signal.lengths(10**6 * block)))
        same = given, window.pads()[0]
    if window.pads() == (0, 0) and not window.transposed:
        window = dataclasses.replace(window, mode="zeros")
    if window.mode != "zeros":
        reason = f"pads with mode {window.mode!r}, which reads later steps,"
        raise refuse(name, layer, signal.axis, reason, "use padding_mode='zeros'")
    plan = window.stream(signal.delay)
    if isinstance(
        layer, BaseEdges
    ):  # the zeros before the first step exist before the stream begins: the output is early
        plan = plan._replace(keep=0, delay=signal.delay - window.pads()[0])
    moved = _moved(signal, window, plan.delay)
    if same is not None:
        moved = dataclasses.replace(moved, lengths=signal.lengths.then(1, window.stride - 1, window.stride))
    operation = _operation(name, layer, signal, window, plan.keep, same, out.shape)
    pads = window.pads() != (0, 0) if not window.transposed else window.extent > window.stride
    out = _joined(out, moved, name if pads else None)
    known = plan.delay if isinstance(layer, BaseEdges) else moved.on_time  # the output of padding may be early
    late = max(_waiting(given, signal.delay) - plan.delay, known - plan.delay, 0)
    return Choice(operation, dataclasses.replace(out, delay=out.delay + late), late, same)


def _joined(out: Signal, moved: Signal, padded: str | None) -> Signal:
    return dataclasses.replace(
        out, rate=moved.rate, delay=moved.delay, lengths=moved.lengths, field=moved.field, padded=out.padded or padded
    )


def _waiting(window: Window, delay: int) -> int:
    """Return the smallest delay of the output at which it is known that an output is not cut off at the end."""
    if window.transposed:
        tail = window.output_length(10**6) - (10**6 - 1) * window.stride
        return delay * window.stride + window.stride - tail
    before, after = window.pads()
    return -((before + after - window.extent - delay) // window.stride) - 1


def _operation(name: str, layer: Any, signal: Signal, window: Window, keep: int, same: Any, output: tuple) -> Operation:
    """Return the operation of a window that reads zeros beyond the ends."""
    direct = window.transposed and window.pads()[0] == 0 and window.extent <= window.stride
    if direct and window.output_length(1) == window.stride:
        return Operation(layer, (signal,))  # each step computes its own outputs
    if isinstance(layer, BaseConvTranspose):
        free = dataclasses.replace(_without_padding(layer, signal), use_bias=False, activation=None)
        channels = len(output) - 1 if layer.data_format == "channels_last" else 1
        output = tuple(layer.filters if axis == channels else n for axis, n in enumerate(output))
        return Overlap(free, (signal,), whole=layer, output=output, extent=window.extent, stride=window.stride)
    options: dict[str, Any] = {
        "keep": keep, "extent": window.extent, "stride": window.stride, "dilation": window.dilation,
        "fill": same is not None or window.pads() != (0, 0),
    }  # fmt: skip
    if isinstance(layer, BasePooling):
        free = dataclasses.replace(layer, padding="valid")
        pairs = zip(layer.windows(signal.sized(10**4)), signal.sized(10**4)[1:], strict=True)
        pads = [(0, 0) if axis == signal.axis else w.pads(n) for axis, (w, n) in enumerate(pairs, 1)]
        return Pool(free, (signal,), pads=((0, 0), *pads), **options)
    if isinstance(layer, Convolving | BaseEdges | GetItem):
        free = _without_padding(layer, signal)
        dense = _dense(free, signal)
        far = dense is not None and keep >= RING_FROM * window.size
        ring = 1 << (keep + window.stride - 1).bit_length() if far else 0
        return Slide(free, (signal,), dense=dense, ring=ring, **options)
    if not window.transposed and not options["fill"]:  # any other layer that reads nothing but the window
        return Slide(layer, (signal,), **options)
    instead = "use a convolution or pooling, or a window without padding"
    raise refuse(name, layer, signal.axis, "has a window that cannot run step by step", instead)


def _without_padding(layer: Any, signal: Signal) -> Any:
    """Return the layer without padding, or cropping, along time."""
    if isinstance(layer, GetItem):
        return layer.keeping(signal.axis, len(signal.shape))
    return without_padding(layer, [signal.axis])  # type: ignore[list-item]


def _dense(layer: Any, signal: Signal) -> Any:
    """Return the layer without stride and dilation along time, or None if it has neither."""
    if not isinstance(layer, Convolving):
        return None
    place = spatial_axes(layer.rank, layer.data_format).index(signal.axis)  # type: ignore[arg-type]
    given = {option: getattr(layer, option) for option in ("strides", "dilation_rate")}
    own = {option: sizes for option, sizes in given.items() if sizes[place] > 1}
    options: Any = {option: tuple(1 if a == place else n for a, n in enumerate(sizes)) for option, sizes in own.items()}
    return dataclasses.replace(layer, **options) if options else None
