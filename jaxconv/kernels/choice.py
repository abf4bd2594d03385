"""The choice of a lowering: a pure function of (map, problem, shapes, dtype, platform).

Knows the lowerings by what they refuse. What was measured on this machine (:mod:`.tuned`) goes before; then, on CPU,
the table (:mod:`.table`) decides, and elsewhere XLA's own convolution is the default.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry
from jaxconv.kernels import blocks, direct, dots, fourier, lines, outer, patches, phases, slices, threads, tuned, xla
from jaxconv.kernels.arithmetic import Arithmetic, arithmetic
from jaxconv.kernels.problem import Problem, Standard, standard
from jaxconv.kernels.table import ALL, Row, choose
from jaxconv.registry import nearest

Array = jax.Array
SCOPE = "jaxconv."
NOT_STANDARD = "real floats, nothing empty, and strides of the input or of the output but not of both"

LOWERINGS: dict[str, ModuleType] = {
    "xla": xla, "direct": direct, "threads": threads, "outer": outer, "dots": dots, "patches": patches,
    "slices": slices, "phases": phases, "lines": lines, "blocks": blocks, "fourier": fourier,
}  # fmt: skip


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
