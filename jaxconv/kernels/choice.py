"""The choice of a lowering: a pure function of (map, problem, shapes, dtype, platform), written as one table.

Knows the lowerings by what they refuse. On CPU the table decides; elsewhere XLA's own convolution is the default.
"""

import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry
from jaxconv.kernels import blocks, direct, dots, fourier, lines, outer, patches, phases, slices, threads, xla
from jaxconv.kernels.arithmetic import Arithmetic, arithmetic
from jaxconv.kernels.problem import Problem, Standard, standard
from jaxconv.registry import nearest

Array = jax.Array
Shapes = Mapping[str, tuple[int, ...]]

LOWERINGS: dict[str, ModuleType] = {
    "xla": xla, "direct": direct, "threads": threads, "outer": outer, "dots": dots, "patches": patches, "slices": slices,
    "phases": phases, "lines": lines, "blocks": blocks, "fourier": fourier,
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
    def windows(self) -> int:
        """Give the bytes of the windows of all taps."""
        places = self.batch * math.prod(self.problem.y) * self.problem.taps
        return places * self.channels * jnp.dtype(self.dtype).itemsize

    @property
    def few_places(self) -> bool:
        """Say whether the kernel is larger than what it meets: then not even turning it round is for nothing."""
        return math.prod(self.shapes["w"]) > 2 * self.batch * math.prod(self.problem.y) * self.filters

    @property
    def products(self) -> float:
        """Give the number of multiplications of the direct sum."""
        return self.batch * math.prod(self.problem.y) * self.problem.taps * self.shapes["w"][-2] * self.shapes["w"][-1]

    @property
    def spectral(self) -> float:
        """Give the work of the Fourier way, in multiplications of the direct one at its usual speed."""
        p, groups = self.problem, self.problem.groups
        points = math.prod(n + low + high for n, (low, high) in zip(p.x, p.pads, strict=True))
        transforms = self.batch * (self.channels + self.filters) * groups + self.channels * self.filters * groups
        slower = 8 if self.channels * self.filters < 16 else 40
        mixing = self.batch * self.channels * self.filters * groups
        return slower * points * (math.log2(max(points, 2)) * transforms + mixing)


ALL = ("convolve", "transpose", "correlate")
C, T, K, CK = ("convolve",), ("transpose",), ("correlate",), ("convolve", "correlate")

TABLE: tuple[Row, ...] = (
    Row("fourier", ALL, lambda f: f.problem.taps >= 128 and f.products > f.spectral, "long kernels"),
    Row("slices", T, lambda f: f.depthwise and f.filters == 1 and f.problem.taps <= 9, ""),
    Row("phases", T, lambda f: f.problem.groups > 1, ""),
    Row("slices", CK, lambda f: f.depthwise and f.problem.taps <= slices.MOST_TAPS, ""),
    Row("blocks", CK, lambda f: f.problem.groups > 1, ""),
    Row("dots", ALL, lambda f: f.problem.taps == 1, ""),
    Row("dots", T, lambda f: (f.few_places or f.channels == 1) and f.problem.taps <= dots.MOST_TAPS, ""),
    Row("phases", T, lambda f: True, ""),
    Row("slices", C, lambda f: f.channels == 1 and 1 < f.problem.rank and f.problem.taps <= 32, ""),
    Row("patches", C, lambda f: f.half and f.wide and f.problem.taps <= patches.MOST_TAPS, ""),
    Row("outer", C, lambda f: f.problem.rank == 3, ""),
    Row("threads", C, lambda f: f.problem.rank == 2 and f.problem.strides[0] == 1 and f.channels >= 16 <= f.filters <= 64, ""),
    Row("direct", C, lambda f: True, ""),
    Row("lines", K, lambda f: f.problem.rank == 1 or f.half or not f.wide, ""),
    Row("dots", K, lambda f: f.windows <= dots.CACHED or f.problem.rank == 3, ""),
    Row("patches", K, lambda f: f.problem.taps <= patches.MOST_TAPS, ""),
    Row("lines", K, lambda f: True, ""),
)


def choose(name: str, problem: Problem, shapes: Shapes, dtype: Any) -> Row:
    """Give the row of the table that decides on CPU."""
    facts = Facts(name, problem, shapes, dtype)
    return next(row for row in TABLE if name in row.maps and row.applies(facts))


def compute(
    name: str, a: Array, b: Array, *, geometry: Geometry, precision: Any, dtype: Any, lowering: str | None,
    platform: str | None,
) -> Array:  # fmt: skip
    """Compute one of the three maps by the lowering that is asked for, or that the table names for the platform."""
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    if lowering == "xla" or plan is None or (lowering is None and platform != "cpu"):
        return getattr(xla, name)(a, b, geometry=geometry, precision=precision, dtype=dtype)
    common = promote(a.dtype, b.dtype)
    first, second = plan.arrange(a.astype(common), b.astype(common))
    how = arithmetic(common, dtype, precision)
    chosen = lowering
    if chosen is not None and not hasattr(LOWERINGS[chosen], plan.name):
        chosen = None  # a lowering has its say where it computes the map
    out = solve(plan.name, first, second, plan.problem, how, chosen)
    return plan.restore(out).astype(dtype)


def solve(name: str, a: Array, b: Array, problem: Problem, how: Arithmetic, lowering: str | None = None) -> Array:
    """Compute a map of a problem in standard form; parts of it that a lowering hands back are chosen anew."""
    if lowering is None:
        lowering = choose(name, problem, problem.shapes(name, a.shape, b.shape), a.dtype).lowering

    def part(name: str, a: Array, b: Array, problem: Problem, unfinished: bool = False) -> Array:
        return solve(name, a, b, problem, how._replace(out=how.wide) if unfinished else how)

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
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering {lowering!r} is unknown; {nearest(lowering, LOWERINGS)}")
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    reason = "it computes real floats and one stride, of the input or of the output" if plan is None else None
    if plan is not None and hasattr(LOWERINGS[lowering], plan.name):
        reason = LOWERINGS[lowering].refuses(plan.name, plan.problem, _plan_shapes(plan, a, b))
    if reason:
        raise ValueError(
            f"lowering {lowering!r} cannot compute this {name}: {reason}; "
            f"these can: {', '.join(able(name, geometry, a, b))}"
        )


def able(name: str, geometry: Geometry, a: Any, b: Any) -> list[str]:
    """List the lowerings that can compute a map of these operands (arrays or avals)."""
    plan = standard(name, geometry) if _computable(geometry, a, b) else None
    if plan is None:
        return ["xla"]
    shapes = _plan_shapes(plan, a, b)
    return ["xla", *(
        lowering for lowering, module in LOWERINGS.items()
        if hasattr(module, plan.name) and lowering != "xla" and module.refuses(plan.name, plan.problem, shapes) is None
    )]  # fmt: skip


def _plan_shapes(plan: Standard, a: Any, b: Any) -> Shapes:
    first, second = jax.eval_shape(plan.arrange, jax.ShapeDtypeStruct(a.shape, a.dtype), jax.ShapeDtypeStruct(b.shape, b.dtype))
    return plan.problem.shapes(plan.name, first.shape, second.shape)
