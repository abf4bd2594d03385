"""Properties of a convolution that the conditions in the table of lowerings use."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxconv.kernels import processor
from jaxconv.kernels.lowerings import (
    block_diagonal,
    exchanged,
    leading_axis,
    matmul,
    polyphase,
    winograd,
    xla_extra_row,
)
from jaxconv.kernels.problem import Problem, Shapes, mirrored

# the most entries of the patches that stay in the cache
LARGE_PATCHES = 3 << 19
# multiplications above which few channels are stacked with taps; and the number for an odd number of channels and few
# filters, for which XLA's convolution is slow
WORTH_STACKING, WORTH_STACKING_ODD = 1 << 23, 1 << 19
# the most pairs of a channel and a filter that do not fill a matrix product
NARROW = 96
# few channels and filters, with taps stacked on both sides of a product: the fewest multiplications, and the most pairs
# of a channel and a filter by the number of axes
LEAST_STACKED, FEW_PAIRS = 1 << 17, {1: 48, 2: 96, 3: 0}


class Least(NamedTuple):
    """The minimum sizes of the convolutions that "winograd" computes by default.

    narrowest: the number of channels and of filters. multiplications: their number by the definition. saving: that
    number divided by the number of those left. taps: the numbers of taps on the longest axis of the kernel, for which
    there is an algorithm.
    """

    narrowest: int
    multiplications: int
    saving: float
    taps: tuple[int, ...] = (2, 3, 5)


# by the number of axes with more than one tap; a convolution must reach the sizes of one entry
PLANES = (Least(64, 1 << 25, 1.6, (5,)), Least(48, 1 << 27, 3.0), Least(96, 1 << 28, 1.7))
VOLUMES = (Least(32, 1 << 28, 6.2), Least(64, 1 << 28, 4.2))
LONG_ROWS = Least(128, 3 << 25, 1.6, (5,))
TRANSFORMED: dict[str, dict[int, tuple[Least, ...]]] = {
    "convolve": {1: (Least(64, 1 << 25, 1.45, (3,)), LONG_ROWS), 2: PLANES, 3: VOLUMES},
    "transpose": {1: (Least(64, 1 << 25, 1.7), Least(48, 1 << 27, 1.9), LONG_ROWS), 2: PLANES, 3: VOLUMES},
    "correlate": {
        1: (Least(16, 1 << 25, 1.9), Least(32, 1 << 25, 1.7), Least(64, 1 << 25, 1.45, (3,))),
        2: (
            Least(24, 1 << 25, 1.4, (3,)),
            Least(64, 1 << 25, 1.4, (2,)),
            Least(32, 1 << 28, 1.4, (2,)),
            Least(24, 1 << 25, 2.4, (5,)),
        ),
        3: (Least(24, 1 << 25, 1.4, (3,)), Least(24, 1 << 28, 1.4, (2,)), Least(16, 1 << 28, 1.4, (5,))),
    },
}
# 16-bit floats, transformed in float32; not if the processor may have matrix units for their products
CONVOLVED_HALF: dict[int, tuple[Least, ...]] = {2: (Least(96, 3 << 27, 3.4),)}
TRANSFORMED_HALF: dict[str, dict[int, tuple[Least, ...]]] = {
    "convolve": CONVOLVED_HALF,
    "transpose": CONVOLVED_HALF,
    "correlate": {2: (Least(32, 3 << 26, 2.6),), 3: (Least(12, 1 << 23, 3.0),)},
}


class Facts(NamedTuple):
    """The properties of one convolution: the problem, sizes of one group, and the dtype. Sizes are in entries."""

    problem: Problem
    shapes: Shapes
    dtype: Any

    @property
    def taps(self) -> int:
        return self.problem.taps

    @property
    def channels(self) -> int:
        return self.shapes["w"][-2]

    @property
    def filters(self) -> int:
        return self.shapes["w"][-1] // self.problem.groups

    @property
    def narrower_side(self) -> int:
        """Return the smaller of the numbers of channels and filters, which must fill a matrix product."""
        return min(self.channels, self.filters)

    @property
    def pairs(self) -> int:
        """Return the number of pairs of a channel and a filter in one group."""
        return self.channels * self.filters

    @property
    def is_one_narrow_tap(self) -> bool:
        """Return whether the kernel is one tap without strides or groups, with few pairs of a channel and a filter."""
        is_pointwise = self.taps == 1 and self.problem.groups == 1 and not self.is_strided
        return is_pointwise and self.pairs <= NARROW and not self.is_half

    @property
    def is_depthwise(self) -> bool:
        return self.problem.groups > 1 and self.channels == 1

    @property
    def is_half(self) -> bool:
        return jnp.dtype(self.dtype).itemsize < 4

    @property
    def batch(self) -> int:
        """Return the batch size; a symbolic one counts as 1."""
        size = self.shapes["x"][0]
        return size if isinstance(size, int) else 1

    @property
    def output_size(self) -> int:
        """Return the size of y in one group."""
        return self.batch * math.prod(self.problem.y) * self.filters

    @property
    def kernel_size(self) -> int:
        return math.prod(self.shapes["w"])

    @property
    def patch_size(self) -> int:
        """Return the size of the windows of all taps in one group."""
        return self.batch * math.prod(self.problem.y) * self.taps * self.channels

    @property
    def total_size(self) -> int:
        """Return the size of x, w and y together."""
        x = self.batch * math.prod(self.problem.x) * self.channels
        return self.problem.groups * (x + self.output_size) + self.kernel_size

    @property
    def positions(self) -> int:
        """Return the number of spatial positions of the output."""
        return math.prod(self.problem.y)

    @property
    def multiplications(self) -> int:
        return self.patch_size * self.filters

    @property
    def is_strided(self) -> bool:
        return max(self.problem.strides) > 1

    @property
    def is_padded(self) -> bool:
        return any(low > 0 or high > 0 for low, high in self.problem.pads)

    @property
    def product_growth(self) -> float:
        """Return the size of the products of x with all taps, relative to x."""
        return matmul.product_growth(self.problem, self.channels, self.filters)

    @property
    def runs_on_one_core(self) -> bool:
        """Return whether XLA's 2-D convolution would run on one core, and can be made to run on all."""
        narrow = 16 < self.filters <= 64 and self.channels >= 16
        return self.problem.rank == 2 and self.problem.strides[0] == 1 and narrow

    @property
    def fills_blocks(self) -> bool:
        """Return whether the groups combine to a few dense kernel gradients of images that are worth several cores."""
        p = self.problem
        if self.taps <= 4 or (self.is_strided and self.taps <= 9):
            return False  # too few taps for the copies of the blocks
        return p.rank == 2 and p.groups * self.channels <= 256 and p.groups * self.output_size >= 1 << 18

    @property
    def is_alone_in_products(self) -> bool:
        """Return whether the kernel gradient of each group is computed separately, as a matrix product."""
        return block_diagonal.is_alone("correlate", self.problem, self.channels, self.filters)

    @property
    def is_exchangeable(self) -> bool:
        """Return whether there are fewer filters than channels, and x and y can be exchanged."""
        p = self.problem
        if p.groups > 1 or exchanged.limits("correlate", p, self.shapes) is not None:
            return False
        # otherwise y would be padded for a small gain, or to many times its size
        is_gain = p.y == p.x or 4 * self.filters <= self.channels
        return is_gain and 3 * self.positions >= math.prod(p.x)

    @property
    def output_phases_stack(self) -> bool:
        """Return whether a strided convolution is fast with the phases of x as channels."""
        p, filters, channels = self.problem, self.filters, self.channels
        if p.groups > 1 or polyphase.limits("convolve", p, self.shapes) is not None:
            return False
        if p.rank == 1:
            few = 2 * filters <= channels and (filters <= 8 or polyphase.tap_growth(p) == 1)
            return few or p.w == p.strides
        side_by_side = p.w == p.strides and p.rank == 2 and not self.is_half
        return side_by_side and (1 < channels <= 12 or (channels <= 32 and self.total_size >= 1 << 22))

    @property
    def kernel_phases_stack(self) -> bool:
        """Return whether the kernel gradient of a strided convolution is fast with the phases of x as channels."""
        p, filters, channels = self.problem, self.filters, self.channels
        if p.groups > 1 or p.rank == 3 or polyphase.limits("correlate", p, self.shapes) is not None:
            return False
        growth = polyphase.tap_growth(p)
        if p.rank == 1:
            if p.w == p.strides:
                return channels <= 48 or not self.is_half
            few = filters < channels or filters == channels <= 32 or channels <= 16 or filters >= 16 * channels
            close = p.strides[0] == 2 or channels <= 64 or filters <= 8
            most, length = (2, 16) if filters <= 8 else (polyphase.MAX_WASTE, 48)
            return few and close and growth <= most and p.y[0] >= length
        if self.is_half:
            return False
        if filters <= 12 < channels and self.taps > 4 and not self.skips_positions:
            # adjacent windows are read once, without a transposed copy
            return growth <= 1.8 and self.multiplications >= 1 << 22 and p.w != p.strides
        if growth > 1:
            return channels <= 8 and (growth <= 1.8 or self.skips_positions) and self.output_size >= 1 << 19
        if channels <= 12 or (channels <= 32 and filters <= 16):
            return self.multiplications >= 1 << (20 if 1 < channels <= 8 else 22)
        return filters >= 5 * channels and self.multiplications >= 1 << 25

    @property
    def phases_are_equal(self) -> bool:
        """Return whether there are strides, and all phases of x have the same number of taps."""
        return self.is_strided and polyphase.tap_growth(self.problem) == 1

    @property
    def input_phases_stack(self) -> bool:
        """Return whether the input gradient of a strided convolution is fast with the phases of x as channels."""
        undilated = max(self.problem.dilation) == 1
        return undilated and self.is_strided and self.channels < 16 and polyphase.tap_growth(self.problem) <= 2.6

    @property
    def extra_row_is_cheap(self) -> bool:
        """Return whether the kernel gradient runs on all cores after a few rows of zeros are added."""
        p = self.problem
        return xla_extra_row.limits("correlate", p, self.shapes) is None and 8 * (p.x[0] + 1 - p.y[0]) <= p.y[0]

    def is_worth_transforming(self, name: str) -> bool:
        """Return whether the saved multiplications outweigh the additional sums and the longer compilation."""
        p, batch, side = self.problem, self.shapes["x"][0], self.narrower_side
        if not isinstance(batch, int) or batch * self.positions < 256:
            return False  # a symbolic batch cannot be computed in parts, and the transformed x is larger than x
        if self.is_half and (processor.may_have_matrix_units() or self._products_suit_half_types(name)):
            return False
        if name == "correlate" and p.rank == 2 and p.w[0] == 1:
            return False  # "leading_axis" is faster: kernel gradients of rows
        axes = sum(taps > 1 for taps in p.w)
        savings = [
            least.saving
            for least in (TRANSFORMED_HALF if self.is_half else TRANSFORMED)[name].get(axes, ())
            if side >= least.narrowest and self.multiplications >= least.multiplications and max(p.w) in least.taps
        ]
        fits = winograd.fits(p, self.channels + self.filters)
        return bool(savings) and fits and winograd.saving(name, p, self.shapes) >= min(savings)

    def _products_suit_half_types(self, name: str) -> bool:
        """Return whether products of 16-bit floats are faster than those of float32 after a transformation."""
        if name == "correlate":
            return self.problem.rank == 2 and self.channels >= 128
        return self.total_size - self.kernel_size > winograd.PART  # it would be computed in parts

    def filters_stack(self, name: str) -> bool:
        """Return whether C, or T as C, is fast with the taps of the first axis stacked with the filters."""
        p, narrow, wide = self.problem, self.filters, self.channels
        if name == "transpose":
            p, narrow, wide = mirrored(p), wide, narrow
        elif self.product_growth <= matmul.MAX_GROWTH:
            return False  # the taps of all axes fit
        if p.groups > 1 or self.is_strided or self.is_half or narrow > wide or min(p.w) == 1 or p.rank == 1:
            return False
        stacked = p.w[0] * narrow
        fits = stacked > leading_axis.NARROW and leading_axis.filters_fit((self.batch, *p.x, wide), stacked)
        if not fits or p.x[0] > leading_axis.MAX_WASTE * p.y[0]:
            return False
        if p.rank == 3:
            return self.batch * math.prod(p.x) * stacked <= 3 << 20  # otherwise "winograd" is faster
        many_taps = min(p.w) > 3
        enough = self.multiplications >= 1 << (24 if many_taps else 26)
        return enough and ((many_taps and narrow <= 48) or (p.w == (3, 3) and narrow <= 32))

    @property
    def kernel_taps_stack(self) -> bool:
        """Return whether the kernel gradient is fast with the taps of the first axis stacked with few channels."""
        p, channels, filters = self.problem, self.channels, self.filters
        if p.groups > 1 or not 1 < channels <= 32 or p.rank == 1 or not leading_axis.channels_fit(p.w[0], channels):
            return False
        if p.rank == 3:
            return channels <= 12
        if self.is_strided or self.is_half or channels < 8:
            return False
        if max(p.dilation) > 1 and min(p.w) >= 3:
            return filters >= channels + (not self.is_padded) and self.multiplications >= 1 << 24
        return min(p.w) >= 5 and channels <= 24 and filters <= 24

    @property
    def planes_correlate_well(self) -> bool:
        """Return whether kernel gradients of planes, one for each tap of the first axis, are fast."""
        depth, last = self.problem.w[0], self.problem.w[-1]
        few = self.channels <= {1: 48, 2: 64}.get(last, 0)
        return (few or (last >= 3 and self.is_padded)) and depth <= 5 and (depth > 1 or not self.is_half)

    @property
    def fewer_filters_than_channels(self) -> bool:
        """Return whether the filters are far fewer than the channels."""
        many = self.channels >= 96 and self.channels >= 4 * self.filters and self.problem.rank == 2
        return many or (self.is_strided and self.channels > 16 * self.filters)

    @property
    def skips_positions(self) -> bool:
        """Return whether there are positions of x between the windows, none of which overlap."""
        pairs = [*zip(self.problem.strides, self.problem.extents, strict=True)]
        return all(s >= k for s, k in pairs) and any(s > k for s, k in pairs)

    @property
    def few_channels_stack(self) -> bool:
        """Return whether the channels are few, and can be stacked with the taps of one column."""
        p = self.problem
        few = 1 < self.channels <= min(16, self.filters) and p.w[0] * self.channels <= leading_axis.MAX_CHANNELS
        dense = not self.is_strided or self.channels < self.filters
        least = WORTH_STACKING_ODD if self.channels % 2 and self.filters <= 32 else WORTH_STACKING
        if p.rank != 2 or not few or not dense or self.multiplications < least:
            return False
        return p.w[1] > 1 or self.patch_size < 1 << 22  # for one column, large copies cost more than they save

    @property
    def rows_convolve_well(self) -> bool:
        """Return whether convolutions of rows, one for each tap of a column, are faster than XLA's of images."""
        p, is_wide = self.problem, self.narrower_side > 16 and self.multiplications >= 3 << 23
        is_cached = p.w[0] == 1 or self.patch_size <= LARGE_PATCHES
        return p.rank == 2 and is_wide and is_cached and self.taps > 1 and not self.is_strided and not self.is_half

    @property
    def is_few_by_few(self) -> bool:
        """Return whether there are a few channels, and not many more filters."""
        few = 1 < self.channels <= 8 and self.filters <= 4 * self.channels and self.multiplications >= LEAST_STACKED
        return few and self.pairs <= FEW_PAIRS[self.problem.rank] and not self.is_strided and self.taps > 1

    @property
    def column_stacks_well(self) -> bool:
        """Return whether the filters can be stacked with the taps of one column, but not with those of all columns."""
        p = self.problem
        if p.rank != 2:
            return False
        few = self.filters <= min(16, self.channels // 2) and self.channels >= 16
        fits = p.w[0] <= 9
        all_read = max(p.strides) == 1 and p.x[0] <= leading_axis.MAX_WASTE * p.y[0]
        too_many = self.filters > 1 and self.filters * p.taps > self.channels
        return few and fits and all_read and (too_many or math.isinf(self.product_growth))
