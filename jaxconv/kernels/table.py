"""The table that chooses a lowering on CPU: what is asked of a convolution, and rows with the measurement behind each.

Knows the limits of the lowerings, and nothing of how they are called.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxconv.kernels import dots, outer, patches, slices
from jaxconv.kernels.problem import Problem

Shapes = Mapping[str, tuple[int, ...]]


class Row(NamedTuple):
    """One row of the table: where it applies, the lowering, and the measurement that speaks for it."""

    lowering: str
    maps: tuple[str, ...]
    applies: Callable[["Facts"], bool]
    because: str


class Facts(NamedTuple):
    """What the rows ask about: the problem, sizes of one group, and the dtype of the operands."""

    problem: Problem
    shapes: Shapes
    dtype: Any

    @property
    def channels(self) -> int:
        return self.shapes["w"][-2]

    @property
    def filters(self) -> int:
        return self.shapes["w"][-1] // self.problem.groups

    @property
    def depthwise(self) -> bool:
        return self.problem.groups > 1 and self.channels == 1

    @property
    def half(self) -> bool:
        return jnp.dtype(self.dtype).itemsize < 4

    @property
    def batch(self) -> int:
        """Give the batch size; a symbolic one counts as 1."""
        size = self.shapes["x"][0]
        return size if isinstance(size, int) else 1

    @property
    def wide(self) -> bool:
        """Say whether there are enough channels and filters to fill a matrix product."""
        return min(self.channels, self.filters) >= 16

    @property
    def one_core(self) -> bool:
        """Say whether XLA's 2-D convolution would run slowly or on one core, and can be made to run on all."""
        few_filters = 16 < self.filters <= 64 and self.channels >= 16
        long_rows = self.filters > 16 > self.channels and self.channels * self.problem.taps >= 128
        return self.problem.rank == 2 and self.problem.strides[0] == 1 and (few_filters or long_rows)

    @property
    def few_filters(self) -> bool:
        """Say whether what x gives to every tap is hardly larger than x, and most of it is needed."""
        return dots.few_filters(self.problem, self.channels, self.filters)

    @property
    def few_filters_of_columns(self) -> bool:
        """Say whether the filters are few with the taps of one column beside them, and not with all taps."""
        p, count = self.problem, self.filters * self.problem.w[0]
        narrow = 1 < self.filters <= min(16, self.channels // 2) and self.channels >= 16
        together = p.w[0] <= 9 and count <= outer.TOGETHER and self.filters * p.taps > self.channels
        return p.rank == 2 and max(p.strides) == 1 and p.x[0] <= outer.WASTE * p.y[0] and narrow and together

    @property
    def few_places(self) -> bool:
        """Say whether the kernel is larger than what it meets: then not even turning it round is for nothing."""
        return math.prod(self.shapes["w"]) > 2 * self.batch * math.prod(self.problem.y) * self.filters

    @property
    def entries(self) -> int:
        """Give the number of entries of x, w and y together."""
        x, y = math.prod(self.problem.x), math.prod(self.problem.y)
        of_one_group = self.batch * (x * self.channels + y * self.filters)
        return self.problem.groups * of_one_group + math.prod(self.shapes["w"])

    @property
    def all_taps(self) -> int:
        """Give the number of entries of what y gives to every tap."""
        return self.batch * math.prod(self.problem.y) * self.problem.taps * self.channels

    @property
    def large(self) -> bool:
        """Say whether y, turned round, does not stay in the cache."""
        return self.batch * math.prod(self.problem.y) * self.filters > LARGE

    @property
    def narrow_rows(self) -> bool:
        """Say whether the patches of one row are not many times the input."""
        p = self.problem
        return math.prod(p.y[1:]) * p.taps <= 2 * math.prod(p.x)

    @property
    def products(self) -> float:
        """Give the number of multiplications of the direct sum."""
        return self.batch * math.prod(self.problem.y) * self.problem.taps * self.shapes["w"][-2] * self.shapes["w"][-1]

    @property
    def spectral(self) -> float:
        """Give the work of the Fourier way, in multiplications of the direct one at its usual speed.

        It is infinite where the spectra of all pairs of channels would need more memory than the operands.
        """
        p, groups = self.problem, self.problem.groups
        points = math.prod(n + low + high for n, (low, high) in zip(p.x, p.pads, strict=True))
        pairs = self.channels * self.filters * groups
        if pairs * points > self.entries:
            return math.inf
        transforms = self.batch * (self.channels + self.filters) * groups + pairs
        # direct products gain from many channels, those of spectra do not
        slower = min(max(8.0, 1.2 * math.sqrt(self.channels * self.filters)), 80.0)
        return slower * points * (math.log2(max(points, 2)) * transforms + self.batch * pairs)


LARGE = 1 << 22  # entries

ALL = ("convolve", "transpose", "correlate")
C, T, K, CK = ("convolve",), ("transpose",), ("correlate",), ("convolve", "correlate")

# The figures are milliseconds, medians on two cores (AMD, AVX-512): XLA's way, or the one named, -> this one. They are
# of `jaxconv bench`, of its own cases or of such shapes in a file for `--cases`.
TABLE: tuple[Row, ...] = (
    Row("fourier", ALL, lambda f: f.problem.taps >= 128 and f.products > f.spectral,
        "long kernels: 2048 steps, kernel 1024, depthwise: 394 -> 2.4; 300x300 with 100x100: 808 -> 0.7"),
    Row("slices", T, lambda f: f.depthwise and f.filters == 1 and f.problem.taps <= 9,
        "depthwise, few taps: needs no copy of y; forward and gradients of 4x2048x768 k4: 20.2 by phases, 5.3 so"),
    Row("phases", T, lambda f: f.problem.groups > 1,
        "grouped: ends in slices or blocks; 56x56x96 k7x7 depthwise: 18.5 by slices -> 3.2"),
    Row("slices", CK, lambda f: f.depthwise and f.problem.taps <= slices.MOST_TAPS,
        "depthwise: nothing to contract; 112x112x32 k3x3: 64.7 -> 1.1 forward, 149 -> 6.9 with gradients"),
    Row("blocks", CK, lambda f: f.problem.groups > 1,
        "few channels in each group; 56x56x128 in 32 groups: 104 -> 6.7 forward, 5458 -> 39 with gradients"),
    Row("dots", ALL, lambda f: f.problem.taps == 1,
        "one tap is one matrix product; 56x56, 64 to 256 channels: 4.6 -> 2 forward, 35.6 -> 8 with gradients"),
    Row("dots", T, lambda f: f.problem.taps <= 32 and f.few_places and f.all_taps <= 2 * f.entries,
        "the kernel is larger than its input, and need not be turned round so; 7x7x512 k3x3: 8.0 by phases -> 5.6"),
    Row("dots", T, lambda f: f.channels < 16 and f.problem.taps <= min(32, 3 * f.filters // (2 * f.channels)),
        "few channels: what y gives to all taps is hardly larger; 224x224, 3 to 64, k3x3: 7.9 by phases -> 5.5"),
    Row("dots", T, lambda f: f.half and f.wide and f.problem.taps <= 32 and 4 * f.all_taps <= 5 * f.entries,
        "half types through the matrix units; bfloat16 28x28x128 to 256 k3x3 s2: 3.9 by phases -> 1.9"),
    Row("phases", T, lambda f: True,
        "one small convolution for each phase; 14x14, 256 to 128 channels, k4 s2: gradients 1039 -> 29"),
    Row("slices", C, lambda f: f.channels == 1 and f.problem.rank > 1 and f.problem.taps <= 32,
        "one input channel; 28x28x1 to 32, k3x3: 0.28 -> 0.18"),
    Row("outer", C, lambda f: f.few_filters_of_columns,
        "few filters, with the taps beside them; 32x32x64 to 10, k3x3: 5.8 -> 2.5; 20x20x96 to 12, k5x5: 1.9 -> 0.9"),
    Row("dots", C, lambda f: f.few_filters and f.problem.taps <= 32 and (f.problem.rank > 1 or f.filters < 16),
        "one product for all taps; 112x112x32 to 1, k3x3: 3.0 -> 0.9; 1024x64 to 4, k7: 1.0 -> 0.3"),
    Row("outer", C, lambda f: f.problem.rank == 3,
        "XLA has no fast code for three axes; 24x24x24x32 k3x3x3: 26.8 -> 4.8; 16x56x56x3 to 64: 3.2"),
    Row("threads", C, lambda f: f.one_core,
        "up to 64 filters run on one core otherwise; 56x56x64 k3x3: 7.9 -> 4.8"),
    Row("direct", C, lambda f: True,
        "XLA's convolution is as fast as it gets here: 28x28x128 k3x3 at 460 GFLOP/s"),
    Row("dots", K, lambda f: f.half and f.wide,
        "half types through the matrix units; bfloat16 28x28x128 k3x3: 7.8 -> 4.4, 512x128 to 256 k5: 7.1 -> 4.6"),
    Row("lines", K, lambda f: f.problem.rank == 1 or f.half or (f.channels < 16 <= f.filters and not f.large),
        "one axis or few channels: one product without copies; 112x112x3 to 32, k3x3: 6.6 by patches -> 3.8"),
    Row("dots", K, lambda f: f.filters > 64 or f.filters < 16 <= f.channels,
        "a loop over the taps fills the matrix units; 14x14x256 k3x3: 6.5 by patches -> 5.1; 28x28x256 s2: 12 -> 10"),
    Row("patches", K, lambda f: f.problem.taps <= patches.MOST_TAPS and (f.problem.rank < 3 or f.narrow_rows),
        "few filters fill them only with all taps at once; 56x56x64 k3x3: 16.3 by dots -> 9.7; 48x48x48x16: 32 -> 15"),
    Row("dots", K, lambda f: f.problem.rank == 3 and f.wide,
        "one window is in memory at a time; 10x10x10x16: a third of the memory of patches"),
    Row("lines", K, lambda f: True, "many taps: patches would be long"),
)  # fmt: skip


def choose(name: str, problem: Problem, shapes: Shapes, dtype: Any) -> Row:
    """Give the row of the table that decides on CPU."""
    facts = Facts(problem, shapes, dtype)
    return next(row for row in TABLE if name in row.maps and row.applies(facts))
