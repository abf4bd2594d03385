"""Random convolutions with sizes that are common in networks, each reproducible from a seed and a number."""

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxconv.geometry import dilate
from jaxconv.ops import conv, conv_transpose

# the kinds of convolutions, with their weights in a sample
KINDS = {
    "dense-1d": 4, "dense-2d": 7, "dense-3d": 4, "1x1": 2, "depthwise": 3, "grouped": 3, "wide-groups": 4, "strided": 4,
    "dilated": 2, "transposed": 4, "bfloat16": 3,
}  # fmt: skip
LENGTHS = {
    1: (32, 64, 100, 128, 150, 256, 400, 512, 1000, 1024, 2048, 4096, 8192),
    2: (7, 8, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112, 128, 224),
    3: (8, 10, 12, 16, 20, 24, 32, 48, 64),
}
KERNELS = {
    1: ((2,), (3,), (3,), (4,), (5,), (7,), (8,), (9,), (15,), (31,)),
    2: ((3, 3), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (2, 2), (4, 4), (1, 3), (3, 1), (1, 7)),
    3: ((3, 3, 3), (3, 3, 3), (3, 3, 3), (2, 2, 2), (1, 3, 3), (3, 1, 1), (5, 5, 5)),
}
CHANNELS = (1, 2, 3, 4, 8, 12, 16, 24, 32, 32, 48, 64, 64, 96, 128, 128, 192, 256, 320, 512)
BATCHES = (1, 2, 4, 8, 8, 16, 16, 32, 64)
FEWEST, MOST = 2e6, 2e9  # the fewest and the most operations of one map
MOST_ENTRIES = 1 << 23  # of any operand


class Shape(NamedTuple):
    """One convolution: the kind, and the sizes of channels-last operands.

    channels: (in, out). spatial: lengths of the input. dtype: the name.
    """

    kind: str
    batch: int
    spatial: tuple[int, ...]
    channels: tuple[int, int]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: str
    dtype: str

    @property
    def is_transposed(self) -> bool:
        return self.kind == "transposed"

    def gradients(self) -> tuple[Callable[..., Any], jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Return a function that computes the convolution and both gradients, and the abstract input and kernel."""
        inputs, filters = self.channels
        x = jax.ShapeDtypeStruct((self.batch, *self.spatial, inputs), self.dtype)
        outer = (filters, inputs // self.groups) if self.is_transposed else (inputs // self.groups, filters)
        w = jax.ShapeDtypeStruct((*self.kernel, *outer), self.dtype)
        compute = conv_transpose if self.is_transposed else conv

        def both(x: Any, w: Any) -> Any:
            y, pullback = jax.vjp(
                lambda x, w: compute(
                    x, w, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation
                ),
                x,
                w,
            )
            return y, pullback(y)

        return both, x, w


def draw(seed: int, number: int) -> Shape:
    """Return one random convolution of a sample, which does not depend on the others.

    >>> draw(0, 3) == draw(0, 3)
    True
    """
    rng = random.Random(f"{seed}.{number}")
    kind = rng.choices([*KINDS], weights=[*KINDS.values()])[0]
    while True:
        shape = _attempt(rng, kind)
        if _is_realistic(shape):
            return shape


def _attempt(rng: random.Random, kind: str) -> Shape:
    rank = int(kind[-2]) if kind.startswith("dense") else rng.choices([1, 2, 3], weights=[3, 6, 1])[0]
    kernel = (1,) * rank if kind == "1x1" else rng.choice(KERNELS[rank])
    if kind in ("transposed", "strided") and rank > 1 and rng.random() < 0.4:
        kernel = rng.choice([(2,) * rank, (4,) * rank])
    length = rng.choice(LENGTHS[rank])
    spatial = (length,) * rank if rng.random() < 0.8 else tuple(rng.choice(LENGTHS[rank]) for _ in range(rank))
    inputs, filters = rng.choice(CHANNELS), rng.choice(CHANNELS)
    if rng.random() < 0.3:
        filters = inputs
    groups = 1
    if kind == "depthwise":
        groups, filters = inputs, inputs * rng.choice([1, 1, 1, 2])
    elif kind in ("grouped", "wide-groups"):
        narrow = rng.choice([2, 4, 4, 8, 8, 12])
        groups = rng.choice([8, 16, 32, 32, 64]) if kind == "grouped" else rng.choice([2, 3, 4, 8, 16, 32])
        inputs = groups * (narrow if kind == "grouped" else rng.choice([12, 16, 24, 32, 48, 64, 96, 128]))
        filters = inputs * rng.choice([1, 1, 1, 2])
    is_strided = kind in ("strided", "transposed") or (kind in ("1x1", "depthwise", "bfloat16") and rng.random() < 0.2)
    stride = rng.choice([2, 2, 2, 2, 3, 4]) if is_strided else 1
    dilation = rng.choice([2, 2, 4, 8]) if kind == "dilated" else 1
    padding = rng.choice(["same", "same", "same", "valid"]) if rank > 1 else rng.choice(["same", "causal", "valid"])
    padding = "same" if kind == "transposed" else padding
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    batch = rng.choice(BATCHES)
    strides, rates, channels = (stride,) * rank, (dilation,) * rank, (inputs, filters)
    return Shape(kind, batch, spatial, channels, kernel, strides, rates, groups, padding, dtype)


def _is_realistic(shape: Shape) -> bool:
    """Return whether the operands fit, the work is within limits, and the kernel is shorter than the input."""
    s, (inputs, filters) = shape, shape.channels
    step = [1 / n if s.is_transposed else n for n in s.strides]
    lengths = [n / stride for n, stride in zip(s.spatial, step, strict=True)]
    fits = all(dilate(k, d) <= n for k, d, n in zip(s.kernel, s.dilation, s.spatial, strict=True))
    positions = s.batch * math.prod(s.spatial if s.is_transposed else lengths)
    operations = 2 * positions * math.prod(s.kernel) * inputs * filters // s.groups
    kernel = math.prod(s.kernel) * inputs * filters // s.groups
    largest = max(s.batch * math.prod(s.spatial) * inputs, s.batch * math.prod(lengths) * filters, kernel)
    is_dense = s.kind in ("depthwise", "1x1") or (inputs * filters > 1 and max(inputs, filters) >= 8)
    most = MOST / 8 if s.kind == "depthwise" else MOST
    return fits and is_dense and FEWEST <= operations <= most and largest <= MOST_ENTRIES and kernel <= 1 << 22
