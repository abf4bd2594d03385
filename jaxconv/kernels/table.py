"""The table that chooses a lowering on CPU. Each row has a condition and the measurement that is its reason."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from jaxconv.kernels.facts import LARGE_PATCHES, Facts
from jaxconv.kernels.lowerings import groups_last, im2col, leading_axis, matmul, shift_add, stacked_taps, winograd
from jaxconv.kernels.problem import Problem, Shapes


class Row(NamedTuple):
    """One row of the table: the lowering, the maps and facts it applies to, and the measurement that is its reason."""

    lowering: str
    maps: tuple[str, ...]
    applies: Callable[[Facts], bool]
    reason: str


# the fewest multiplications of the convolutions that were measured
MEASURED = 1 << 19
# the most positions of a small image, by the number of axes
SMALL_IMAGE = {1: 512, 2: 2560, 3: 2560}
# the most entries of a small output: of several signals or images, of one or two signals
SMALL_OUTPUT, SMALL_SIGNALS = 20_000, 1 << 16
HALF = {1: 1 << 22, 2: LARGE_PATCHES, 3: 0}  # the most entries of the patches in a product of 16-bit floats

ALL = ("convolve", "transpose", "correlate")
C, T, K, CK = ("convolve",), ("transpose",), ("correlate",), ("convolve", "correlate")

# The figures are milliseconds, medians on two cores (AMD, AVX-512): by XLA or by the lowering named -> by this one.
# They are from `jaxconv bench`, for its own cases or for such shapes in a file for `--cases`, or from `jaxconv tune
# --table` with the seeds 2026 to 2029, and others up to 2099. "1.1 of the best" is the geometric mean, over the shapes
# of a row, of the time divided by that of the fastest lowering.
TABLE: tuple[Row, ...] = (
    Row("shift_add", T, lambda f: f.is_depthwise and f.filters == 1 and f.problem.groups % 16 == 0
        and f.taps <= (8 if f.problem.rank == 1 else 9),
        "depthwise, few taps: no copy of y; forward and gradients of 4x2048x768 k4: 20.2 by polyphase -> 5.3; but for "
        "8x2048x64 k9: 0.50, by polyphase 0.36"),
    Row("block_diagonal", T, lambda f: f.problem.groups > 1 and f.problem.rank == 1 and f.pairs > 4
        and not f.is_strided,
        "signals in groups; 8x8192x64 to 8162x64 in 16 groups, k31: 49 by polyphase -> 25; 32 shapes: 1.03 of the "
        "best, polyphase 1.16"),
    Row("block_diagonal", T, lambda f: f.problem.groups > 1
        and f.narrower_side >= (24 if f.taps == max(f.problem.w) else 48),
        "wide groups, each computed separately; 14x14x1024 in 32 groups, k1x7: 8.5 by polyphase -> 6.2"),
    Row("polyphase", T, lambda f: f.problem.groups > 1,
        "groups: its parts are computed by shift_add or block_diagonal; 56x56x96 k7x7 depthwise: 18.5 by shift_add -> "
        "3.2"),
    Row("groups_last", K, lambda f: f.is_depthwise and f.filters == 2 and f.problem.groups >= 8
        and (f.problem.rank == 3 or (f.problem.rank == 1 and f.taps >= 9) or f.taps > shift_add.BOX),
        "depthwise, two filters for each channel; 8x4096x24 to 48, k31: 4.4 by shift_add -> 2.7; but for 8x56x56x32 "
        "to 28x28x64, k3x3 s2: 0.69, by shift_add 0.36"),
    Row("shift_add", CK, lambda f: f.is_depthwise,
        "depthwise: nothing to contract; 112x112x32 k3x3: 64.7 -> 1.1 forward; 2048 steps, k1024: 394 -> 16"),
    Row("groups_last", C, lambda f: f.problem.groups >= 8 and f.pairs <= groups_last.MAX_PAIRS
        and f.pairs * f.taps <= groups_last.MAX_TERMS,
        "few channels in each of many groups; 56x56x128 in 32 groups, k3x3: 17.0 by block_diagonal -> 8.1"),
    Row("groups_last", K, lambda f: f.problem.groups >= 8 and f.pairs <= groups_last.MAX_PAIRS
        and not (f.pairs >= 16 and (f.fills_blocks or f.is_alone_in_products))
        and not (f.pairs >= 16 and f.problem.rank == 1 and f.taps >= 8),
        "few channels in each of many groups; 28x28x128 in 64 groups, k3x3: 13.7 by block_diagonal -> 6.6, in half the "
        "time to compile"),
    Row("block_diagonal", CK, lambda f: f.problem.groups > 1,
        "enough channels for products of groups or blocks; 28x28x256 in 64 groups, K: 15.5 by groups_last -> 10.6; "
        "8x20x20x128 to 256 in 16 groups, k5x5, C: 8.5 in blocks -> 4.3 group by group"),
    Row("exchanged", K, lambda f: f.is_exchangeable and (f.taps > 1 or not f.is_half)
        and not (f.problem.rank == 3 and f.kernel_taps_stack and f.taps > f.problem.w[0]),
        "fewer filters than channels: windows of y are copied, and x is read once; 64x64x64 to 3, k7x7: 20.3 by matmul "
        "-> 5.2; 80x80x192 to 3, k5x5: 40.8 -> 6.4; 8x28x28x256 to 64, k1x3: 4.5 -> 3.2; 8x112x112x12 "
        "to 4, k1x1: 0.6 -> 0.2"),
    Row("im2col", K, lambda f: f.taps == 1 and f.channels > 8 * f.filters,
        "one tap, strided or of 16-bit floats, few filters: y is transposed instead of x; 32x32x320 to 24: 2.0 by "
        "matmul -> 1"),
    Row("xla_nhwc", C, lambda f: f.is_one_narrow_tap,
        "one tap, few channels and filters: they do not fill a product; 32x32x32x32x3 to 3: 9.7 by matmul -> 0.9"),
    Row("polyphase", T, lambda f: f.is_one_narrow_tap,
        "one tap, few channels and filters: they do not fill a product, so as a convolution; 32x32x32x32x3 to 3: 9.6 "
        "by matmul -> 0.9"),
    Row("matmul", ALL, lambda f: f.problem.has_one_window,
        "the kernel covers the input: one matrix product, as in a dense layer; 32x7x7x512 to 512, k7x7: 49 by xla_nhwc "
        "-> 7 forward, 220 by polyphase -> 8 for the input gradient"),
    Row("matmul", ALL, lambda f: f.taps == 1,
        "one tap is one matrix product; 56x56, 64 to 256 channels: 4.6 -> 2 forward, 35.6 -> 8 with gradients"),
    Row("shift_add", CK, lambda f: f.channels == 1 and f.filters < 16 and f.taps > shift_add.MAX_TAPS,
        "one input channel, long kernels; 200x200 k50x50: 430 -> 4.6 forward, 21 by row_correlation -> 5.0 backward"),
    Row("polyphase", T, lambda f: f.problem.w == f.problem.strides and f.taps > 1,
        "adjacent windows: one product and a reshape; 112x112x8 to 28x28x48, k4x4 s4: 0.63 by matmul -> 0.18"),
    Row("matmul", T, lambda f: f.taps <= 32 and f.skips_positions
        and not (f.problem.rank == 2 and f.channels <= (16 if f.taps >= 9 else 4)),
        "gaps between the windows: one product, and no sums; 16x128x64x64, k3x3 s4: 14.4 by polyphase -> 7.9; but for "
        "few channels, 32x64x64x16 to 16x16x12: 0.76, by polyphase 0.35"),
    Row("polyphase", T, lambda f: f.filters_stack("transpose"),
        "the taps of the first axis stacked with the channels; 2x24x24x24x32 to 32, k3x3x3: 4.6 by winograd -> 4.0"),
    Row("winograd", T, lambda f: f.is_worth_transforming("transpose")
        and winograd.limits("transpose", f.problem, f.shapes) is None,
        "many channels: 36 products instead of 144; 28x28x128 k3x3: 10.0 by polyphase -> 5.3, in bfloat16 6.5 -> 4.5; "
        "8x27x27x64 to 192, k5x5: 20.1 -> 13.4"),
    Row("matmul", T, lambda f: f.taps <= 32 and f.kernel_size > 2 * f.output_size and f.patch_size <= 2 * f.total_size,
        "the kernel is larger than its input and need not be mirrored; 7x7x512 k3x3: 8.0 by polyphase -> 5.6"),
    Row("polyphase", T, lambda f: f.input_phases_stack,
        "strided, few channels; 2x160x32x4 to 40x8x64, k5x5 s4: 0.26 by matmul -> 0.14"),
    Row("matmul", T, lambda f: f.taps <= 32 and ((f.channels < 16 and 2 * f.taps * f.channels <= 3 * f.filters)
        or (f.channels <= 8 and f.filters >= 12 and not f.is_strided)),
        "few channels: the products of y with all taps are hardly larger; 224x224, 3 to 64, k3x3: 7.9 -> 5.5; "
        "8x128x128x3 to 12, k3x3: 10.3 by polyphase -> 1.5"),
    Row("matmul", T, lambda f: f.is_half and f.problem.rank == 2 and f.problem.w[0] == 1 and f.narrower_side >= 12
        and f.taps <= 32,
        "16-bit floats, a kernel of one row; bfloat16 2x80x80x48 to 48, k1x3: 1.1 by polyphase -> 0.4"),
    Row("matmul", T, lambda f: f.is_half and f.narrower_side >= 16 and f.taps <= 32
        and (f.patch_size <= 1 << 23 if f.problem.rank == 1 else 4 * f.patch_size <= 5 * f.total_size),
        "16-bit floats: products not many times as large as y; bfloat16 512x128 to 256, k5: 21.1 by polyphase -> 8.6; "
        "but for 32x512x256 to 32, k3: 24.0, by polyphase 5.9"),
    Row("matmul", T, lambda f: f.taps <= (9 if f.problem.rank == 3 else 32)
        and f.positions <= SMALL_IMAGE[f.problem.rank] and f.multiplications >= MEASURED and f.patch_size <= 1 << 21
        and f.taps * f.channels <= 16 * f.filters
        and not (f.problem.rank == 2 and (f.phases_are_equal or f.skips_positions or (f.is_strided and f.taps > 9))),
        "small images: one product, then sums in the cache; 28x28x128 to 256, k3x3 s2: 16.0 by polyphase -> 10.2; but "
        "for 8x48x48x64 to 16x16x64, k4x4 s3: 3.3, by polyphase 1.5"),
    Row("polyphase", T, lambda f: True,
        "one small convolution for each phase; 14x14, 256 to 128 channels, k4 s2: gradients 1039 -> 29"),
    Row("shift_add", C, lambda f: f.channels == 1 and (f.filters < 16 or f.taps <= 32)
        and (f.problem.rank > 1 or f.multiplications >= MEASURED // 4),
        "one input channel; 28x28x1 to 32, k3x3: 0.28 -> 0.18; 32x28x28x1 to 1, k7x7: 2.4 by xla_nhwc -> 0.14; "
        "16x4096x1 to 16, k8: 1.3 -> 0.4"),
    Row("polyphase", C, lambda f: f.output_phases_stack,
        "strided, adjacent windows or few filters: phases as channels; 64x64x64x32 to 32x32x32, k2x2 s2: 15.3 by "
        "leading_axis -> 7.5; 16x512x512 to 171x8, k9 s3: 3.5 by xla_nhwc -> 2.0; bfloat16 8x2048x192 to 1024x8, "
        "k7 s2: 2.7 -> 1.2"),
    Row("leading_axis", C, lambda f: f.filters_stack("convolve"),
        "the taps of the first axis stacked with the filters: wider products; 2x24x24x24x32 to 32, k3x3x3: 4.8 by "
        "winograd -> 4.0; 8x8x8x8x64 to 64: 1.9 -> 1.6; 56x56x32 to 32, k5x5: 4.0 by xla_extra_row -> 3.3; 64x64x32 to "
        "61x61x24, k4x4: 3.2 -> 2.2"),
    Row("winograd", C, lambda f: f.is_worth_transforming("convolve"),
        "many channels: 36 products instead of 144; 28x28x128 k3x3: 9.8 by xla_extra_row -> 5.5; 16x16x16x48 to 128 "
        "k3x3x3: 12.3 by leading_axis -> 6.6; bfloat16 28x28x128 k3x3: 6.5 by stacked_taps -> 4.5; 8x27x27x64 to 192, "
        "k5x5: 17.8 by xla_extra_row -> 13.0"),
    Row("stacked_taps", C, lambda f: f.is_few_by_few and stacked_taps.limits("convolve", f.problem, f.shapes) is None,
        "few channels and filters, both stacked with taps; 32x64x64x4 to 1, k3x3: 3.7 by xla_nhwc -> 0.6; "
        "64x20x20x3 to 2, k7x7: 6.8 -> 0.7"),
    Row("im2col", C, lambda f: f.problem.rank == 2 and f.skips_positions and f.channels <= 8 and not f.is_half
        and f.output_size <= 1 << 19,
        "gaps between the windows, few channels; 128x128x8 to 32x32x320, k2x2 s4: 0.20 by leading_axis -> 0.11"),
    Row("leading_axis", C, lambda f: f.problem.rank == 2 and f.phases_are_equal and f.filters <= 4 < f.taps
        and not f.is_half,
        "strided, few filters, as the first gradient of a transposed convolution to an image; 16x112x112x8 to 55x55x2, "
        "k4x4 s2: 2.4 by xla_nhwc -> 0.5"),
    Row("leading_axis", C, lambda f: f.few_channels_stack,
        "few channels, stacked with the taps; 8x128x128x4 to 32, k5x5: 21 by xla_nhwc -> 8; 56x56x16 to 96: 4 -> 2; "
        "8x112x112x8 to 56x56x64, k7x7 s2: 5.4 -> 3.9"),
    Row("leading_axis", C, lambda f: f.column_stacks_well,
        "few filters, stacked with the taps; 32x32x64 to 10, k3x3: 5.8 -> 2.5; 20x20x96 to 12, k5x5: 1.9 -> 0.9; "
        "64x20x20x256 to 14x14x1, k7x7: 400 by xla_nhwc -> 5.5"),
    Row("matmul", C, lambda f: f.product_growth <= matmul.MAX_GROWTH and f.taps <= matmul.MAX_TAPS
        and (f.problem.rank > 1 or f.filters <= 32),
        "one product for all taps; 112x112x32 to 1, k3x3: 3.0 -> 0.9; 1024x64 to 4, k7: 1.0 -> 0.3; "
        "32x512x512 to 16, k7: 38 by xla_nhwc -> 12"),
    Row("matmul", C, lambda f: f.is_half and f.problem.rank == 2 and f.problem.w[0] == 1 and f.channels >= 48
        and f.taps <= matmul.MAX_TAPS,
        "16-bit floats, a kernel of one row; bfloat16 64x64x192 to 192, k1x3: 2.0 by stacked_taps -> 1.4; 8x80x80x128 "
        "to 40x39x128, k1x3 s2: 4.5 by leading_axis -> 3.5"),
    Row("stacked_taps", C, lambda f: f.is_half and f.problem.rank < 3
        and (f.channels >= 48 or (f.channels >= 32 and f.patch_size < 3 << 21)
             or (f.problem.rank == 1 and f.channels >= 12 and f.taps <= 9))
        and stacked_taps.limits("convolve", f.problem, f.shapes) is None,
        "16-bit floats: products of bfloat16 are twice as fast as in float32; bfloat16 56x56x64 k3x3: 11.3 by "
        "leading_axis -> 7.7; 512 steps, k5: 13.5 by xla_nhwc -> 8.8; 7x7x320 to 512, k3x3: 3.7 by matmul -> 2.5"),
    Row("leading_axis", C, lambda f: f.is_half and f.problem.rank == 2 and f.is_strided,
        "16-bit floats, strided: row by row; bfloat16 28x28x64 to 14x14x16, k3x3: 0.72 by matmul -> 0.32; 1.10 of the "
        "best, matmul 1.53, im2col 1.71, xla_nhwc 1.73"),
    Row("matmul", C, lambda f: f.is_half and f.channels > 48 and f.taps <= 32 and f.patch_size <= HALF[f.problem.rank],
        "16-bit floats, many channels, strided; 2x100x128 to 50x32, k9 s2: 0.23 by xla_nhwc -> 0.17"),
    Row("im2col", C, lambda f: f.problem.rank == 3 and f.is_strided and not f.is_padded and f.filters >= 32
        and not f.is_half and f.taps <= im2col.MAX_TAPS,
        "strided, without padding: XLA packs slowly; 2x20x20x20x48 to 32, k3x3x3 s2: 1.8 by leading_axis -> 1.4"),
    Row("leading_axis", C, lambda f: f.problem.rank == 3,
        "XLA has no fast code for three axes; 24x24x24x32 k3x3x3: 26.8 -> 4.8; 16x56x56x3 to 64: 3.2"),
    Row("leading_axis", C, lambda f: f.problem.rank == 2 and 1 < f.filters <= 16 and f.patch_size <= LARGE_PATCHES
        and not f.is_strided,
        "few filters, small images; 1.06 of the best, xla_nhwc 1.54"),
    Row("leading_axis", C, lambda f: f.rows_convolve_well,
        "row by row, for a kernel of one row or small images; 56x56x64 to 512, k1x3: 2.8 by xla_nhwc -> 1.4; 16x7x7x64 "
        "to 128, k3x3: 0.61 -> 0.35; 16x64x64x24 to 64, k1x3: 2.7 by xla_extra_row -> 2.1"),
    Row("xla_extra_row", C, lambda f: f.runs_on_one_core and not f.is_padded and f.patch_size <= LARGE_PATCHES,
        "without padding XLA packs slowly; 18x18x24 to 24, k3x3: 2.65 by xla_nhwc -> 1"),
    Row("xla_extra_row", C, lambda f: f.problem.rank == 2 and not f.is_strided and f.narrower_side > 16
        and f.problem.y[0] > 8 and f.patch_size > LARGE_PATCHES,
        "large: Eigen is faster; 28x28x128 k3x3: 15.3 by xla_nhwc -> 10.2; 80x80x32 to 256: 9.3 -> 5.3"),
    Row("matmul", C, lambda f: f.problem.rank == 2 and f.skips_positions and f.taps >= 4 and f.channels >= 64
        and not f.is_half,
        "gaps between the windows, many channels; 16x28x28x192 to 7x7x64, k3x3 s4: 1.8 by xla_nhwc -> 0.6"),
    Row("leading_axis", C, lambda f: f.problem.rank == 2 and f.patch_size > LARGE_PATCHES
        and f.narrower_side > 16 and not (f.is_strided and f.channels < 32 and f.problem.w[0] > 1),
        "large and strided, or few rows: row by row; 56x56x128 k3x3 s3: 12.8 by xla_nhwc -> 7.2; 7x7x512: 25 -> 13"),
    Row("matmul", C, lambda f: f.problem.rank == 2 and f.is_strided and f.taps == 4 and f.channels >= 128,
        "strided, few taps, many channels; 16x40x40x320 to 20x20x8, k2x2 s2: 4.1 by leading_axis -> 2.9"),
    Row("leading_axis", C, lambda f: f.problem.rank == 2 and f.is_strided and f.taps <= 4 and f.total_size >= 1 << 20,
        "strided, few taps; 8x128x128x32 to 32, k2x2 s4: 2.7 by xla_nhwc -> 1.5"),
    Row("im2col", C, lambda f: f.problem.rank == 1 and f.patch_size <= LARGE_PATCHES // 2 and f.taps <= 4
        and not f.is_half and f.multiplications >= MEASURED and not (f.is_strided and f.filters < f.channels),
        "few taps of short signals; 1.24 of the best, xla_nhwc 1.45"),
    Row("stacked_taps", C, lambda f: f.problem.rank == 1 and 4 < f.taps <= 9 and f.channels >= max(16, f.filters)
        and f.multiplications < 1 << 24 and not f.is_strided and not f.is_half,
        "short signals; 8x64x16 to 16, k9: 0.10 by xla_nhwc -> 0.05; 256x64 to 250x64, k7: 0.17 -> 0.10; 8x64x64 to "
        "64, k5: 0.19 -> 0.12"),
    Row("xla_nhwc", C, lambda f: True,
        "XLA's convolution is fast in this form: 28x28x128 k3x3 at 460 GFLOP/s"),
    Row("leading_axis", K, lambda f: f.problem.rank == 2 and f.skips_positions and f.filters >= 32 * f.channels > 32
        and not f.is_half,
        "gaps between the windows, many filters; 128x128x8 to 32x32x320, k2x2 s4: 0.72 by im2col -> 0.18; "
        "8x64x64x8 to 16x16x512: 1.0 by polyphase -> 0.6"),
    Row("polyphase", K, lambda f: f.kernel_phases_stack,
        "strided, adjacent windows, few channels or filters: phases as channels; 16x32x32x24 to 16x16x320, k2x2 s2: "
        "3.6 by im2col -> 1.2; 16x3000x24 to 1000x96, k3 s3: 2.1 by matmul -> 0.8; 16x2000x64 to 1000x48, k4 s2: "
        "3.6 by xla_nhwc -> 2.2; 8x224x224x8 to 112x112x48, k5x5 s2: 54 -> 18; 8x128x128 to 32x1, k31 s4: 0.18 by "
        "matmul -> 0.08; but for 4x120x120x128 to 40x40x12, k3x3 s3: 5.1, by matmul 1.7"),
    Row("shift_add", K, lambda f: f.channels == 1 and f.problem.rank == 3 and f.taps <= 9,
        "one input channel; 2x64x64x64x1 to 12, k2x2x2: 17 by matmul -> 6"),
    Row("shift_add", K, lambda f: f.channels == 1 and f.problem.rank == 2 and f.taps <= 9
        and (f.taps <= 4 or (f.is_strided and f.filters < 12)),
        "one input channel, few taps; 32x56x56x1 to 12, k2x2: 2.5 by xla_nhwc -> 1.1; 32x224x224x1 to 8, k3x3 s2: 7.5 "
        "-> 4"),
    Row("leading_axis", K, lambda f: f.kernel_taps_stack,
        "few channels, stacked with the taps of the first axis; 4x16x8x32x12 to 128, k3x3x3: 8.3 with a kernel "
        "gradient for each tap, 6.1 by row_correlation -> 3.8; 96x96x96x2 to 48x48x48x24, k4x4x4 s2: 48 by "
        "row_correlation -> 25; 32x16x16x24 to 24, k5x5: 1.5 by winograd -> 1.0; 16x128x128x12 to 12, k3x3 d2: 13.9 by "
        "xla_extra_row -> 7.5"),
    Row("winograd", K, lambda f: f.is_worth_transforming("correlate") and f.channels <= 4 * f.filters,
        "many multiplications: 36 products instead of 144; 8x56x56x64 k3x3: 14.6 by xla_extra_row -> 9.8; "
        "2x24x24x24x32 k3x3x3: 19.4 by leading_axis -> 9.7; 16x512x128 k3: 6.8 by xla_nhwc -> 4.3; 1x56x56x64 "
        "k3x3: 1.9 by xla_extra_row -> 1.5; bfloat16 56x56x64: 12.2 by matmul -> 4.9; 2x8x28x28x144 to 64, k3x1x1: 7.2 "
        "by matmul -> 4.1"),
    Row("leading_axis", K, lambda f: f.is_half and f.problem.rank == 2 and f.problem.w[0] == 1 < f.problem.w[1]
        and f.channels >= 16,
        "16-bit floats, a kernel of one row; bfloat16 8x40x40x24 to 24, k1x3: 0.51 by xla_extra_row -> 0.41"),
    Row("leading_axis", K, lambda f: f.is_half and f.problem.rank == 2 and f.is_strided and f.problem.w[0] <= 4
        and f.channels >= 32,
        "16-bit floats, strided: row by row; bfloat16 56x56x64 to 28x28x128, k3x3: 7.0 by matmul -> 4.9"),
    Row("matmul", K, lambda f: f.is_half and f.channels > 48,
        "16-bit floats, many channels: products; 16x16x192 k3x3, bfloat16: 1.18 by xla_nhwc -> 1; 14x14x256 to 512: "
        "6.0 by winograd -> 4.9"),
    Row("xla_extra_row", K, lambda f: f.is_half and f.extra_row_is_cheap and f.problem.w[1] > 1,
        "16-bit floats, few channels: in float32, on all cores; bfloat16 56x56x32 k3x3"),
    Row("xla_nhwc", K, lambda f: f.is_half and (f.problem.rank == 1 or (f.problem.rank == 2 and f.problem.w[1] > 1)),
        "16-bit floats, few channels: in float32; 32x32x32 k3x3, bfloat16: 1.85 by matmul -> 1; but for one column, "
        "64x40x40x32 to 48, k3x1: 46.6, by leading_axis 15.3"),
    Row("leading_axis", K, lambda f: f.is_half and f.problem.rank == 3 and not f.is_strided and f.channels <= 24
        and f.problem.w[0] <= leading_axis.MAX_UNROLLED,
        "16-bit floats, few channels: planes in float32; bfloat16 16x32x32x32x4 to 16, k1x3x3: 44.1 by row_correlation "
        "-> 18.0; 12x12x12x12 to 12, k3x3x3: 1.13 by matmul -> 0.39; 2x8x40x40x24 to 24, k1x3x3: 5.7 -> 2.0"),
    Row("leading_axis", K, lambda f: f.problem.rank == 3 and not f.is_strided and f.planes_correlate_well
        and f.filters >= min(12, f.channels) and f.output_size >= 2 * SMALL_OUTPUT,
        "XLA's own kernel gradient of planes, for each plane of taps; 24x24x24x32 k3x3x3: 35.5 by matmul -> 22.6; "
        "16x16x16x16x2 to 96: 25 by row_correlation -> 13; 32x16x16x16x12 to 12: 57 by matmul -> 29"),
    Row("leading_axis", K, lambda f: f.problem.rank == 3 and f.is_strided and f.channels > 8
        and (f.problem.w[0] == 1 or f.skips_positions),
        "strided, planes that are read once; 36x72x192x16 to 12x24x64x16, k1x3x3 s3: 7.6 by row_correlation -> 2.9"),
    Row("row_correlation", K, lambda f: f.problem.rank == 3
        and (f.channels * f.taps <= (81 if f.is_padded else 324) or f.channels <= (2 if f.problem.w[0] <= 4 else 4)),
        "few channels: one product without copies; 24x24x24x3 to 32, k3x3x3: 2.0 by im2col -> 1; "
        "64x16x16x16x4 to 14x14x14x32: 70.6 by leading_axis -> 19.8; bfloat16 16x8x8x8x3 to 128, k5x5x5: 52.5 by "
        "matmul -> 7.4"),
    Row("im2col", K, lambda f: f.problem.rank == 3 and f.is_strided and not f.is_half and 8 < f.taps <= im2col.MAX_TAPS
        and f.filters >= 12 and f.channels <= 48,
        "strided; 24x24x24x32 to 64, k3x3x3 s2: 5.9 by matmul -> 3.7"),
    Row("im2col", K, lambda f: f.problem.rank == 3 and f.problem.w[0] <= 2 and f.taps <= im2col.MAX_TAPS
        and f.channels < 96 and not f.is_half,
        "few taps; 1.05 of the best, matmul 1.14"),
    Row("matmul", K, lambda f: f.problem.rank == 3,
        "one window is in memory at a time; 17 shapes: 1.05 of the best, im2col 1.61"),
    Row("leading_axis", K, lambda f: f.problem.rank == 2 and f.problem.w[0] == 1 and f.taps > 1
        and not (f.is_strided and f.taps <= 3 and f.channels >= 16),
        "a kernel of one row; 16x8x112x8 to 256, k1x3: 2.2 by xla_nhwc -> 1.2; 8x28x28x192 to 14x14x192, k1x7 s2: 5.1 "
        "by matmul -> 3.0"),
    Row("matmul", K, lambda f: f.output_size <= SMALL_OUTPUT
        or (f.problem.rank == 1 and f.batch <= 2 and f.output_size <= SMALL_SIGNALS),
        "small outputs: nothing to prepare; 1.1 of the best, xla_nhwc 1.7 to 1.8; 1x1024x64, k9: 2.0 -> 1.1"),
    Row("xla_extra_row", K, lambda f: f.problem.rank == 2 and f.channels <= 4 < f.filters and f.extra_row_is_cheap,
        "few channels; 8x20x20x4 to 256, k2x2: 1.7 by matmul -> 0.62"),
    Row("matmul", K, lambda f: f.problem.rank == 2 and f.is_strided
        and f.channels >= (16 if f.taps == 4 or f.problem.w[0] == 1 else 64 if f.problem.w[1] <= 2 else 128),
        "strided, many channels; 14x14x256 k3x3 s2: 2.6 by xla_nhwc -> 2.0; 28x28x256 to 32, k5x5 s2: 17.9 -> 13.1"),
    Row("leading_axis", K, lambda f: f.problem.rank == 2 and f.problem.w[1] == 1 and f.channels < f.filters
        and f.problem.w[0] <= leading_axis.MAX_UNROLLED,
        "a kernel of one column, more filters than channels; 4x20x20x96 to 192, k3x1: 3.5 by im2col -> 2.0"),
    Row("matmul", K, lambda f: f.problem.rank == 2 and f.filters <= 4 * f.channels and f.channels >= 16
        and f.multiplications <= (1 << 25 if f.problem.w[1] <= 2 else 1 << 24),
        "little work; for kernels of one column: 1.04 of the best, im2col 1.65"),
    Row("im2col", K, lambda f: f.problem.rank == 2 and f.problem.w[1] <= 2 and f.taps <= im2col.MAX_TAPS
        and not f.extra_row_is_cheap and not f.is_half,
        "a kernel of one or two columns, large; 1.06 of the best, xla_nhwc 1.55"),
    Row("matmul", K, lambda f: (f.filters < 12 and f.channels >= 16) or f.fewer_filters_than_channels,
        "few filters: they do not fill XLA's product; 16x28x28x256 to 14x14x4, k3x3 s2: 5.9 by xla_nhwc -> "
        "2.1; 4x112x112x48 to 56x56x2, k7x7 s2: 37.5 -> 9.1"),
    Row("im2col", K, lambda f: f.problem.rank == 2 and f.is_strided and f.output_size >= 1 << 17
        and f.taps <= im2col.MAX_TAPS and (f.narrower_side >= 16 or 8 <= f.channels <= 16 >= f.filters),
        "large and strided; 128x128x16 to 64x64x16, k4x4: 3.0 by xla_nhwc -> 1; 16x80x80x48, k3x3 s2: 26 -> 17"),
    Row("matmul", K, lambda f: f.narrower_side >= 16 and max(f.problem.strides) > 2
        and (f.problem.rank == 2 or f.taps <= 2 * f.problem.strides[0]),
        "strides of three and more: XLA dilates y; 19x19x128 k3x3 s3: 1.48 by xla_nhwc -> 1; 8x8192x32, k8 s4: 9 -> 6"),
    Row("row_correlation", K, lambda f: f.problem.rank == 1 and f.channels == 1,
        "one channel; 1000x1 to 320, k7: 2.2 by xla_nhwc -> 1"),
    Row("xla_extra_row", K, lambda f: f.extra_row_is_cheap,
        "XLA's own kernel gradient, on all cores; 56x56x64 k3x3: 21.6 by xla_nhwc -> 14.7; 32x32x48 k5x5: 12.4 -> 8.4"),
    Row("xla_nhwc", K, lambda f: f.problem.rank == 1 or f.problem.w[1] <= 5 or f.is_strided,
        "XLA's own kernel gradient; 36 shapes: 1.09 of the best, matmul 1.63, im2col 1.71"),
    Row("row_correlation", K, lambda f: True, "many taps: their patches would be large"),
)  # fmt: skip


def choose_row(name: str, problem: Problem, shapes: Shapes, dtype: Any, allowed: Collection[str]) -> Row:
    """Return the first row of the table that applies, among those of the allowed lowerings."""
    facts = Facts(problem, shapes, dtype)
    return next(row for row in TABLE if name in row.maps and row.lowering in allowed and row.applies(facts))
