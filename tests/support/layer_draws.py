"""Hypothesis strategies for the layers of Keras: options within the documented bounds, and a fitting input shape."""

import dataclasses
from typing import Any, NamedTuple

from hypothesis import strategies as st

import jaxconv as jc
from jaxconv.contract import Layer
from tests.support.option_draws import (
    BATCHES,
    FORMATS,
    NAMES,
    activated,
    axes_of,
    each,
    factor,
    governed,
    inner_shape,
    regularizers,
    shapes,
    sizes,
    some,
)


class Draw(NamedTuple):
    """A layer, the shape of its input (a list of shapes for several inputs), and whether the call is for training."""

    layer: Layer
    shape: Any
    train: bool = False


# -- convolutions and pooling


def windowed(draw, rank, padding, size, strides, rate):
    """Draw spatial lengths: at least the extent of the window with valid padding, otherwise any."""
    extents = [(k - 1) * d + 1 for k, d in zip(each(size, rank), each(rate, rank), strict=True)]
    return [draw(st.integers(n, n + 3) if padding == "valid" else st.integers(1, n + 2)) for n in extents]


@st.composite
def convolution(draw, kind, rank):
    """Draw any convolution of Keras: plain, transposed, depthwise or separable."""
    transposed, depthwise, separable = "Transpose" in kind, "Depthwise" in kind, "Separable" in kind
    plain = not (transposed or depthwise or separable)
    size, strides, rate = draw(sizes(rank, most=3 if rank < 3 else 2)), 1, 1
    steps = draw(st.sampled_from(["none", "strides", "dilation", "both"]))
    if steps in ("strides", "both"):
        # Keras documents equal strides for depthwise convolutions
        strides = draw(sizes(rank) if plain or transposed else st.integers(1, 3))
    if steps == "dilation" or (steps == "both" and (depthwise or separable)):
        rate = draw(sizes(rank))
    data_format = draw(FORMATS)
    padding = draw(st.sampled_from(["valid", "same", "causal"] if plain and rank == 1 else ["valid", "same"]))
    groups = draw(st.integers(1, 3)) if plain else 1
    channels = groups * draw(st.integers(1, 2))
    multiplier = draw(st.integers(1, 2))
    filters = channels * multiplier if depthwise else groups * draw(st.integers(1, 3))
    options = {"kernel_size": size, "strides": strides, "padding": padding, "dilation_rate": rate}
    options |= {} if depthwise else {"filters": filters}
    options |= {"depth_multiplier": multiplier} if depthwise or separable else {}
    options |= {"groups": groups} if plain else {}
    if transposed:
        within = st.tuples(*[st.integers(0, s - 1) for s in each(strides, rank)])
        options["output_padding"] = draw(some(within))
    kernels = ["depthwise", "pointwise"] if separable else ["depthwise" if depthwise else "kernel"]
    options |= governed(draw, **dict.fromkeys(kernels, rank + 2), bias=1)
    options |= activated(draw, filters) | {"use_bias": draw(st.booleans()), "data_format": data_format}
    if transposed:
        # an even kernel with "same" and output padding has an empty output for one step
        least = 2 if padding == "same" and options["output_padding"] else 1
        lengths = [draw(st.integers(least, 3)) for _ in range(rank)]
    else:
        lengths = windowed(draw, rank, padding, size, strides, rate)
    layer = getattr(jc, kind.format(rank))(**options)
    return Draw(layer, (draw(BATCHES), *inner_shape(data_format, lengths, channels)))


@st.composite
def pooling(draw, kind, rank):
    data_format, size = draw(FORMATS), draw(sizes(rank))
    cls, channels = getattr(jc, kind.format(rank)), draw(st.integers(1, 3))
    if kind.startswith("Global"):
        layer, lengths = cls(data_format, keepdims=draw(st.booleans())), [draw(st.integers(1, 4)) for _ in range(rank)]
    elif kind.startswith("Adaptive"):
        layer, lengths = cls(draw(sizes(rank, most=4)), data_format), [draw(st.integers(1, 4)) for _ in range(rank)]
    else:
        strides, padding = draw(some(sizes(rank))), draw(st.sampled_from(["valid", "same"]))
        layer, lengths = cls(size, strides, padding, data_format), windowed(draw, rank, padding, size, strides, 1)
    return Draw(layer, (draw(BATCHES), *inner_shape(data_format, lengths, channels)))


# -- cropping, padding, reshaping


@st.composite
def edges(draw, kind, rank):
    """Draw a cropping with a nonempty output, or a padding."""
    data_format = "channels_last" if rank == 1 else draw(FORMATS)
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    if rank == 1:
        amount = draw(st.integers(0, 2) | pair)
        pairs = [each(amount, 2)]
    else:
        amount = draw(sizes(rank, 0, 2) | st.tuples(*[pair] * rank))
        pairs = [each(one, 2) for one in each(amount, rank)]
    lengths = [sum(one) * ("Cropping" in kind) + draw(st.integers(1, 3)) for one in pairs]
    layer = getattr(jc, kind.format(rank))(amount, **({} if rank == 1 else {"data_format": data_format}))
    return Draw(layer, (draw(BATCHES), *inner_shape(data_format, lengths, draw(st.integers(1, 3)))))


@st.composite
def upsampling(draw, kind, rank):
    data_format = "channels_last" if rank == 1 else draw(FORMATS)
    options = {} if rank == 1 else {"data_format": data_format}
    if rank == 2:
        options["interpolation"] = draw(st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]))
    lengths = [draw(st.integers(1, 4)) for _ in range(rank)]
    layer = getattr(jc, kind.format(rank))(draw(st.integers(1, 3) if rank == 1 else sizes(rank)), **options)
    return Draw(layer, (draw(BATCHES), *inner_shape(data_format, lengths, draw(st.integers(1, 3)))))


@st.composite
def reshape(draw):
    """Draw sizes, and a target with the sizes permuted, some merged, and perhaps one -1."""
    parts = draw(st.lists(st.integers(1, 4), max_size=4))
    target = [n for n in draw(st.permutations(parts)) if n > 1 or draw(st.booleans())]
    if len(target) > 1 and draw(st.booleans()):
        target = [target[0] * target[1], *target[2:]]
    if target and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return Draw(jc.Reshape(target), (draw(BATCHES), *parts))


@st.composite
def permute(draw):
    shape = draw(shapes(2, 5, 3))
    return Draw(jc.Permute(draw(st.permutations(range(1, len(shape))))), shape)


flatten = st.builds(lambda data_format, shape: Draw(jc.Flatten(data_format), shape), FORMATS, shapes(1, 5, 3))
repeat = st.builds(
    lambda n, batch, channels: Draw(jc.RepeatVector(n), (batch, channels)),
    *[st.integers(1, 4)] * 3,
)


# -- layers without windows


@st.composite
def dense(draw):
    units = draw(st.integers(1, 4))
    layer = jc.Dense(units, use_bias=draw(st.booleans()), **activated(draw, units), **governed(draw, kernel=2, bias=1))
    return Draw(layer, draw(shapes()))


FLAGS = ("use_bias", "return_sequences", "go_backwards", "unroll")


@st.composite
def recurrent(draw, name):
    """Draw a recurrent layer. Keras does not apply the activity regularizer of SimpleRNN."""
    units, more = draw(st.integers(1, 3)), {"LSTM": "unit_forget_bias", "GRU": "reset_after"}.get(name)
    flags = {flag: draw(st.booleans()) for flag in (*FLAGS, *([more] if more else []))}
    options = governed(draw, kernel=2, recurrent=2, bias=2 if flags.get("reset_after") else 1)
    smooth = st.sampled_from(["tanh", "sigmoid", "softsign", "softmax", None])
    options |= {"activation": draw(smooth)} | ({"recurrent_activation": draw(smooth)} if more else {})
    if name == "SimpleRNN":
        options.pop("activity_regularizer", None)
    shape = (draw(BATCHES), draw(st.integers(1, 5)), draw(st.integers(1, 3)))
    return Draw(getattr(jc, name)(units, **flags, **options), shape)


@st.composite
def convolutional_recurrent(draw, kind, rank):
    size, padding, data_format = draw(sizes(rank, most=2)), draw(st.sampled_from(["valid", "same"])), draw(FORMATS)
    strides, rate = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    flags = {flag: draw(st.booleans()) for flag in ("use_bias", "return_sequences", "go_backwards", "unit_forget_bias")}
    options = governed(draw, kernel=rank + 2, recurrent=rank + 2, bias=1)
    smooth = st.sampled_from(["tanh", "sigmoid", "softsign", None])
    options |= {"activation": draw(smooth), "recurrent_activation": draw(smooth)}
    layer = getattr(jc, kind.format(rank))(
        draw(st.integers(1, 2)), size, strides, padding, data_format, rate, **flags, **options
    )
    spatial = windowed(draw, rank, padding, size, strides, rate)
    shape = inner_shape(data_format or "channels_last", spatial, draw(st.integers(1, 2)))
    return Draw(layer, (draw(BATCHES), draw(st.integers(1, 3)), *shape))


@st.composite
def bidirectional(draw):
    """Draw trainable layers: Keras puts seeds between the weights of frozen ones, which the oracle does not expect."""
    drawn = draw(recurrent(draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"]))))
    layer, mode = drawn.layer, draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
    return drawn._replace(layer=jc.Bidirectional(dataclasses.replace(layer, go_backwards=False, trainable=True), mode))


@st.composite
def embedding(draw):
    """Draw a table that is larger than the normal random numbers that are its indices after rounding."""
    options = governed(draw, embeddings=2)
    return Draw(jc.Embedding(draw(st.integers(6, 9)), draw(st.integers(1, 4)), **options), draw(shapes(1, 3)))


@st.composite
def activation(draw):
    shape, activity = draw(shapes()), draw(regularizers(0))
    names = [name for name in NAMES if name != "glu" or shape[-1] % 2 == 0]
    return Draw(jc.Activation(draw(st.sampled_from(names)), activity_regularizer=activity), shape)


@st.composite
def softmax(draw):
    shape = draw(shapes())
    return Draw(jc.Softmax(draw(axes_of(len(shape)))), shape)


@st.composite
def prelu(draw):
    shape = draw(shapes())
    shared = draw(some(axes_of(len(shape), 1).filter(lambda axes: isinstance(axes, tuple))))
    return Draw(jc.PReLU(shared_axes=shared, **governed(draw, alpha=len(shape) - 1)), shape)


def built(cls, *options, **more):
    """Draw a layer for any shape."""
    layer = st.builds(cls, *options, **more)
    return st.builds(Draw, layer, shapes(), st.just(False))


# -- normalization


def affine_options(draw):
    options = governed(draw, gamma=1, beta=1) | {"epsilon": draw(factor(0.01, 0.5))}
    return options | {"center": draw(st.booleans()), "scale": draw(st.booleans())}


@st.composite
def batch_normalization(draw):
    shape = draw(shapes(2, 5, 3).filter(lambda shape: shape[0] > 1))
    axis = draw(st.integers(1, len(shape) - 1) | st.integers(1 - len(shape), -1))
    options = affine_options(draw) | {"momentum": draw(factor(0, 1)), "renorm": draw(st.booleans())}
    if options["renorm"]:
        bounds = {"rmax": factor(1, 2), "rmin": factor(0.5, 1), "dmax": factor(0, 1)}
        options["renorm_clipping"] = draw(some(st.fixed_dictionaries({}, optional=bounds)))
        options["renorm_momentum"] = draw(factor(0, 1))
    return Draw(jc.BatchNormalization(axis, **options), shape, draw(st.booleans()))


@st.composite
def layer_normalization(draw):
    shape = draw(shapes())
    axis = draw(axes_of(len(shape), 1))
    rank = len(axis) if isinstance(axis, tuple) else 1
    options = affine_options(draw) | governed(draw, gamma=rank, beta=rank)
    return Draw(jc.LayerNormalization(axis, **options), shape)


@st.composite
def rms_normalization(draw):
    shape = draw(shapes())
    trailing = st.integers(1, len(shape) - 1).map(lambda n: tuple(range(-n, 0)))
    return Draw(jc.RMSNormalization(draw(trailing | axes_of(len(shape), 1)), draw(factor(0.01, 0.5))), shape)


@st.composite
def unit_normalization(draw):
    shape = draw(shapes())
    return Draw(jc.UnitNormalization(draw(axes_of(len(shape), 1))), shape)


@st.composite
def group_normalization(draw):
    groups = draw(st.integers(1, 3))
    shape = list(draw(shapes()))
    axis = draw(st.integers(1, len(shape) - 1))
    shape[axis] *= groups
    layer = jc.GroupNormalization(
        draw(st.sampled_from([groups, -1])), draw(st.sampled_from([axis, axis - len(shape)])), **affine_options(draw)
    )
    return Draw(layer, tuple(shape))


@st.composite
def spectral_normalization(draw):
    inside = draw(st.one_of(dense(), convolution("Conv{}D", 1), convolution("Conv{}DTranspose", 2), embedding()))
    layer = jc.SpectralNormalization(inside.layer, draw(st.integers(1, 3)))
    return Draw(layer, inside.shape, draw(st.booleans()))


@st.composite
def time_distributed(draw):
    """Draw a layer for each step; training and activity regularizers differ from Keras."""
    kinds = [dense(), convolution("Conv{}D", 1), convolution("DepthwiseConv{}D", 2), batch_normalization(), prelu()]
    inside = draw(st.one_of(*kinds, pooling("GlobalMaxPooling{}D", 2), permute()))
    layer = inside.layer
    if getattr(layer, "activity_regularizer", None) is not None:
        layer = dataclasses.replace(layer, activity_regularizer=None)
    return Draw(jc.TimeDistributed(layer), (inside.shape[0], draw(st.integers(1, 3)), *inside.shape[1:]))


# -- preprocessing, noise


def array(number, sizes):
    """Draw nested lists of numbers."""
    return st.lists(array(number, sizes[1:]), min_size=sizes[0], max_size=sizes[0]) if sizes else number


@st.composite
def rescaling(draw):
    shape = draw(shapes())
    numbers = st.integers(0, len(shape) - 1).flatmap(lambda rank: array(factor(-2, 2), shape[len(shape) - rank :]))
    return Draw(jc.Rescaling(draw(numbers), draw(numbers)), shape)


@st.composite
def masking(draw):
    # 0 and 1 do not occur in the inputs, so that no step is masked; masks are tested in tests/contract/test_masks.py
    shape = (draw(st.integers(1, 3)), *draw(shapes()))
    return Draw(jc.Masking(draw(st.sampled_from([0, 0.0, 1.0, -3]))), shape)


@st.composite
def normalization(draw):
    shape = draw(shapes())
    axis = draw(some(axes_of(len(shape), 1)))
    own = [] if axis is None else [shape[a] for a in (axis if isinstance(axis, tuple) else (axis,))]
    own = own if draw(st.booleans()) else []
    # a variance of 0 counts as a deviation of 1e-7
    mean, variance = draw(array(factor(-2, 2), own)), draw(array(factor(0.1) | st.just(0.0), own))
    return Draw(jc.Normalization(axis, mean, variance, draw(st.booleans())), shape)


SEEDS = some(st.integers(0, 9))


@st.composite
def dropout(draw, kind):
    shape = draw(shapes())
    noise = draw(some(st.tuples(*[st.sampled_from([1, None, n]) for n in shape])))
    return Draw(getattr(jc, kind)(draw(factor(0, 0.9)), noise, draw(SEEDS)), shape)


@st.composite
def spatial_dropout(draw, kind, rank):
    options = {} if rank == 1 else {"data_format": draw(FORMATS)}
    layer = getattr(jc, kind.format(rank))(draw(factor(0, 1)), seed=draw(SEEDS), **options)
    return Draw(layer, draw(shapes(rank + 2, rank + 2, 3)))


# -- several inputs


@st.composite
def elementwise(draw, kind):
    """Draw shapes that broadcast: some axes are 1, some leading axes after the batch are absent."""
    full = draw(shapes())
    count = 2 if kind == "Subtract" else draw(st.integers(1, 4))
    drawn = []
    for _ in range(count):
        own = [draw(st.sampled_from([n, n, 1])) for n in full[1:]]
        drawn.append((full[0], *own[draw(st.integers(0, len(own) - 1)) :]))
    return Draw(getattr(jc, kind)(), drawn)


@st.composite
def concatenation(draw):
    full = draw(shapes())
    axis = draw(st.integers(1, len(full) - 1))
    drawn = [(*full[:axis], draw(st.integers(1, 3)), *full[axis + 1 :]) for _ in range(draw(st.integers(1, 3)))]
    return Draw(jc.Concatenate(draw(st.sampled_from([axis, axis - len(full)]))), drawn)


@st.composite
def dot(draw):
    """Draw two shapes with one size in common, on any axis after the batch."""
    first, second = list(draw(shapes())), list(draw(shapes()))
    axes = draw(st.integers(1, len(first) - 1)), draw(st.integers(1, len(second) - 1))
    second[0], second[axes[1]] = first[0], first[axes[0]]
    either = [draw(st.sampled_from([a, a - n])) for a, n in zip(axes, map(len, (first, second)), strict=True)]
    both = either[0] if either[0] == either[1] and draw(st.booleans()) else either
    return Draw(jc.Dot(both, draw(st.booleans())), [tuple(first), tuple(second)])


@st.composite
def attention(draw):
    """Draw query, value and perhaps key, of two or three axes of steps; some are attended over."""
    rank = draw(st.integers(3, 4))
    query = draw(shapes(rank, rank, 3))
    axes = draw(st.sets(st.integers(1, rank - 2), min_size=1))
    steps = [draw(st.integers(1, 3)) if axis in axes else query[axis] for axis in range(1, rank - 1)]
    value, key = ((query[0], *steps, draw(st.integers(1, 3))) for _ in range(2))
    inputs = [query, value] + ([key] if draw(st.booleans()) else [])
    options = {name: draw(st.booleans()) for name in ("use_bias", "use_gate")} | governed(draw, kernel=3, bias=1)
    options["attention_axes"] = draw(some(st.just(sorted(axes)))) if len(axes) == rank - 2 else sorted(axes)
    if axes == {1} and rank == 3:  # Keras counts the steps along axis 1
        options["sliding_window"], options["use_causal_mask"] = draw(some(st.integers(1, 3))), draw(st.booleans())
    width, options["output_size"] = draw(st.integers(1, 3)), draw(some(sizes(1, most=3)))
    options["value_dim"] = draw(some(st.integers(1, 3))) if rank == 4 else None  # in Keras on JAX they are equal
    return Draw(jc.MultiHeadAttention(draw(st.integers(1, 2)), width, **options), inputs)
