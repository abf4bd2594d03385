"""The choice of a lowering: a pure function of (map, problem, shapes, dtype, platform), written as one table.

Knows the lowerings by what they refuse. What was measured on this machine (:mod:`.tuned`) goes before; then, on CPU,
the table decides, and elsewhere XLA's own convolution is the default.
"""

import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry
from jaxconv.kernels import blocks, direct, dots, fourier, lines, outer, patches, phases, slices, threads, tuned, xla
from jaxconv.kernels.arithmetic import Arithmetic, arithmetic
from jaxconv.kernels.problem import Problem, Standard, standard
from jaxconv.registry import nearest

Array = jax.Array
SCOPE = "jaxconv."
NOT_STANDARD = "real floats, nothing empty, and strides of the input or of the output but not of both"
Shapes = Mapping[str, tuple[int, ...]]

LOWERINGS: dict[str, ModuleType] = {
    "xla": xla, "direct": direct, "threads": threads, "outer": outer, "dots": dots, "patches": patches,
    "slices": slices, "phases": phases, "lines": lines, "blocks": blocks, "fourier": fourier,
}  # fmt: skip


class Row(NamedTuple):
    """One row of the table: where it applies, the lowering, and the measurement that speaks for it."""

    lowering: str
    maps: tuple[str, ...]
    applies: Callable[["Facts"], bool]
    because: str


class Facts(NamedTuple):
    """What the rows ask about: the problem, sizes of one group, and the dtype of the operands."""

    name: str
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

# The figures are milliseconds, medians on two cores (AMD, AVX-512), of `jaxconv bench` cases: XLA's way -> this one.
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
    Row("dots", T, lambda f: f.channels < 16 and f.problem.taps <= 32 and 2 * f.problem.taps * f.channels <= 3 * f.filters,
        "few channels: what y gives to all taps is hardly larger than y; 224x224, 3 to 64, k3x3: 7.9 by phases -> 5.5"),
    Row("dots", T, lambda f: f.problem.taps <= 32 and f.half and f.wide and 4 * f.all_taps <= 5 * f.entries,
        "half types through the matrix units; bfloat16 28x28x128 to 256 k3x3 s2: 3.9 by phases -> 1.9"),
    Row("phases", T, lambda f: True,
        "one small convolution for each phase; 14x14, 256 to 128 channels, k4 s2: gradients 1039 -> 29"),
    Row("slices", C, lambda f: f.channels == 1 and f.problem.rank > 1 and f.problem.taps <= 32,
        "one input channel; 28x28x1 to 32, k3x3: 0.28 -> 0.18"),
    Row("outer", C, lambda f: f.problem.rank == 3,
        "XLA has no fast code for three axes; 24x24x24x32 k3x3x3: 26.8 -> 4.8"),
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
    facts = Facts(name, problem, shapes, dtype)
    return next(row for row in TABLE if name in row.maps and row.applies(facts))


def row(
    name: str, geometry: Geometry, a: Any, b: Any, lowering: str | None, platform: str | None, *, measured: bool = True
) -> Row:
    """Give the row that decides on one of the three maps: of the table, or one that says what else decides.

    Args:
        lowering: the one that is asked for. A derivative of what was asked for may be a map that it cannot compute.
        measured: False leaves out what was measured on this machine.
    """
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    if plan is None:
        return Row("xla", ALL, lambda f: True, f"the only one: others need {NOT_STANDARD}")
    operands = _arranged(plan, a, b)
    if lowering is not None and (lowering == "xla" or _reason(lowering, plan, *operands) is None):
        return Row(lowering, ALL, lambda f: True, "asked for")
    winner = _winner(plan, *operands, platform) if measured else None
    if winner is not None:
        return winner
    if platform != "cpu":
        return Row("xla", ALL, lambda f: True, f"on {platform} XLA's own is the default; no measurement says otherwise")
    shapes = plan.problem.shapes(plan.name, *(v.shape for v in operands))
    return choose(plan.name, plan.problem, shapes, promote(a.dtype, b.dtype))


def compute(
    name: str, a: Array, b: Array, *, geometry: Geometry, precision: Any, dtype: Any, lowering: str | None,
    platform: str | None,
) -> Array:  # fmt: skip
    """Compute one of the three maps by the lowering that is asked for, was measured best, or is the platform's."""
    decided = row(name, geometry, a, b, lowering, platform).lowering
    plan = None if decided == "xla" else standard(name, geometry)
    if plan is None:
        return getattr(xla, name)(a, b, geometry=geometry, precision=precision, dtype=dtype)
    common = promote(a.dtype, b.dtype)
    first, second = plan.arrange(a.astype(common), b.astype(common))
    out = solve(plan.name, first, second, plan.problem, arithmetic(common, dtype, precision), decided)
    return plan.restore(out).astype(dtype)


def solve(name: str, a: Array, b: Array, problem: Problem, how: Arithmetic, lowering: str | None = None) -> Array:
    """Compute a map of a problem in standard form; parts of it that a lowering hands back are chosen anew."""
    if lowering is None:
        lowering = choose(name, problem, problem.shapes(name, a.shape, b.shape), a.dtype).lowering

    def part(name: str, a: Array, b: Array, problem: Problem, unfinished: bool = False) -> Array:
        return solve(name, a, b, problem, how._replace(out=how.wide) if unfinished else how)

    with jax.named_scope(f"{SCOPE}{name}.{lowering}"):  # profiles and explain_lowering read it
        return getattr(LOWERINGS[lowering], name)(a, b, problem, how, part)


def _computable(geometry: Geometry, a: Any, b: Any) -> bool:
    """Say whether the lowerings apply at all: real floats, and nothing empty."""
    floats = all(jnp.issubdtype(v.dtype, jnp.floating) for v in (a, b))
    empty = 0 in geometry.y_lengths or any(isinstance(n, int) and n == 0 for v in (a, b) for n in v.shape)
    return floats and not empty


def check(lowering: str | None, name: str, geometry: Geometry, a: Any, b: Any) -> None:
    """Raise ValueError for a name that is no lowering, or for one that cannot compute the map."""
    if lowering is None or lowering == "xla":
        return
    known(lowering)
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    reason = f"it needs {NOT_STANDARD}" if plan is None else _reason(lowering, plan, *_arranged(plan, a, b))
    if reason:
        raise ValueError(
            f"lowering {lowering!r} cannot compute this {name}: {reason}; "
            f"these can: {', '.join(able(name, geometry, a, b))}"
        )


def known(lowering: str) -> None:
    """Raise ValueError for a name that is no lowering."""
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering {lowering!r} is unknown; {nearest(lowering, LOWERINGS)}")


def able(name: str, geometry: Geometry, a: Any, b: Any) -> list[str]:
    """List the lowerings that can compute a map of these operands (arrays or avals)."""
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    if plan is None:
        return ["xla"]
    operands = _arranged(plan, a, b)
    return [lowering for lowering in LOWERINGS if lowering == "xla" or _reason(lowering, plan, *operands) is None]


def key(name: str, geometry: Geometry, a: Any, b: Any) -> str | None:
    """Give the key under which the winner of a map is remembered; None where there is nothing to choose."""
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    return None if plan is None else _key(plan, *_arranged(plan, a, b))


def _key(plan: Standard, a: Any, b: Any) -> str | None:
    return tuned.key(plan.name, plan.problem, a.shape, b.shape, promote(a.dtype, b.dtype))


def _winner(plan: Standard, a: Any, b: Any, platform: str | None) -> Row | None:
    """Give the row of what was measured for operands in standard form; None where nothing was, or it does not fit.

    It speaks for a whole map; the parts that a lowering hands back are the table's, as they were when it was measured.
    """
    winners = tuned.winners(platform)
    name = _key(plan, a, b) if winners else None
    winner = None if name is None else winners.get(name)
    if winner is None or winner.lowering not in LOWERINGS:
        return None
    if winner.lowering != "xla" and _reason(winner.lowering, plan, a, b) is not None:
        return None
    other = f"the table's choice ({winner.table}) {winner.table_ms:.3g} ms"
    other = "the table's choice, and nothing beat it" if winner.lowering == winner.table else other
    return Row(winner.lowering, ALL, lambda f: True, f"measured on this machine: {winner.ms:.3g} ms, {other}")


def _reason(lowering: str, plan: Standard, a: Any, b: Any) -> str | None:
    """Say why a lowering cannot compute a map of operands in standard form, or None where it can."""
    module = LOWERINGS[lowering]
    if not hasattr(module, plan.name):
        maps = [name for name in ALL if hasattr(module, name)]
        return f"in standard form this is the map {plan.name!r}, and it computes {' and '.join(map(repr, maps))}"
    return module.refuses(plan.name, plan.problem, plan.problem.shapes(plan.name, a.shape, b.shape))


def _arranged(plan: Standard, a: Any, b: Any) -> tuple[Any, Any]:
    return jax.eval_shape(plan.arrange, *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (a, b)))
