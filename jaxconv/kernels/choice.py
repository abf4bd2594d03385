"""The choice of a lowering, given a map, its geometry and operands, the platform, and measured winners.

A measured winner takes precedence. Otherwise the table decides on CPU (:mod:`.table`), and XLA's own convolution is the
default on other platforms. The caller passes the winners. For 16-bit floats, the table also asks whether the processor
may have matrix units (:mod:`.processor`); the choice depends on nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry
from jaxconv.kernels.arithmetic import Arithmetic, is_high
from jaxconv.kernels.lowering import STANDARD
from jaxconv.kernels.lowerings import LOWERINGS, find_lowering
from jaxconv.kernels.problem import Form, Problem, standard_form
from jaxconv.kernels.table import choose_row


class Winner(NamedTuple):
    """The result of a measurement: the fastest lowering, the table's, and the median times of both in milliseconds."""

    lowering: str
    ms: float
    table: str
    table_ms: float


Winners = Mapping[str, Winner]
NO_WINNERS: Winners = MappingProxyType({})


class Choice(NamedTuple):
    """The name of a lowering, and the reason for it, such as a measurement or a request."""

    lowering: str
    reason: str


def choose(
    name: str, geometry: Geometry, a: Any, b: Any, *, platform: str | None, override: str | None = None,
    winners: Winners = NO_WINNERS, precision: Any = None,
) -> Choice:  # fmt: skip
    """Choose the lowering of one of the three maps.

    Args:
        name: ``"convolve"``, ``"transpose"`` or ``"correlate"``.
        a, b: the operands, arrays or avals; only shapes and dtypes count.
        platform: the platform to lower for, or None for several at once.
        override: the requested lowering. It is ignored if it cannot compute the map: a derivative of the requested
            computation may be such a map.
        winners: the winners measured on the platform, by :func:`key`. A winner that is unknown or cannot compute the
            map is ignored. It applies to the whole map; the table chooses for parts of the map, as in the measurement.
        precision: the precision of the products. One above the default excludes lowerings that are not direct.
    """
    form = standard_form(name, geometry, a, b)
    if form is None:
        return Choice("xla", f"the only lowering here; the others need {STANDARD}")
    if override is not None and LOWERINGS[override].unsupported_reason(name, geometry, a, b) is None:
        return Choice(override, "requested")
    winner = winners.get(_key(form, promote(a.dtype, b.dtype)) or "") if winners else None
    if winner is not None and winner.lowering in supported(name, geometry, a, b, precision):
        other = f"the table's choice ({winner.table}) {winner.table_ms:.3g} ms"
        other = "the table's choice, and nothing was faster" if winner.lowering == winner.table else other
        return Choice(winner.lowering, f"measured on this machine: {winner.ms:.3g} ms, {other}")
    if platform != "cpu":
        return Choice("xla", f"the default on {platform} without a measurement")
    row = choose_row(form.map, form.problem, form.shapes, promote(a.dtype, b.dtype), _allowed(precision))
    return Choice(row.lowering, row.reason)


def compute(
    name: str, a: Array, b: Array, *, geometry: Geometry, precision: Any, dtype: Any, lowering: str | None,
    platform: str | None, winners: Winners = NO_WINNERS,
) -> Array:  # fmt: skip
    """Compute one of the three maps by the lowering that :func:`choose` returns."""
    chosen = choose(
        name, geometry, a, b, platform=platform, override=lowering, winners=winners, precision=precision
    ).lowering
    arithmetic = Arithmetic.of(promote(a.dtype, b.dtype), dtype, precision)
    return LOWERINGS[chosen].compute(name, a, b, geometry, arithmetic, _Parts(arithmetic, _allowed(precision)))


class _Parts(NamedTuple):
    """The computation of parts of a lowering's problem; see :class:`jaxconv.kernels.lowering.Solve`."""

    arithmetic: Arithmetic
    allowed: Sequence[str]

    def __call__(self, name: str, a: Array, b: Array, problem: Problem, unfinished: bool = False) -> Array:
        one = self.arithmetic
        part = one._replace(result_dtype=one.accumulate_dtype) if unfinished else one
        return LOWERINGS[self.chosen(name, a, b, problem)].run(name, a, b, problem, part, self)

    def chosen(self, name: str, a: Any, b: Any, problem: Problem) -> str:
        return choose_row(name, problem, problem.shapes(name, a.shape, b.shape), a.dtype, self.allowed).lowering


def check(lowering: str | None, name: str, geometry: Geometry, a: Any, b: Any) -> None:
    """Raise ValueError for an unknown lowering, or one that cannot compute the map."""
    reason = None if lowering is None else find_lowering(lowering).unsupported_reason(name, geometry, a, b)
    if reason:
        raise ValueError(
            f"lowering {lowering!r} cannot compute this {name}: {reason}; "
            f"these can: {', '.join(supported(name, geometry, a, b))}"
        )


def _allowed(precision: Any) -> list[str]:
    return [key for key, one in LOWERINGS.items() if one.is_direct or not is_high(precision)]


def supported(name: str, geometry: Geometry, a: Any, b: Any, precision: Any = None) -> list[str]:
    """List the lowerings that can compute a map of these operands (arrays or avals) in a precision."""
    return [key for key in _allowed(precision) if LOWERINGS[key].unsupported_reason(name, geometry, a, b) is None]


def key(name: str, geometry: Geometry, a: Any, b: Any) -> str | None:
    """Return the key under which the winner of a map is stored, the same in every process.

    Return None if there is nothing to choose or a size is symbolic.
    """
    form = standard_form(name, geometry, a, b)
    return None if form is None else _key(form, promote(a.dtype, b.dtype))


def _key(form: Form, dtype: Any) -> str | None:
    order = {"convolve": "xw", "transpose": "yw", "correlate": "xy"}[form.map]
    operands = [form.shapes[letter] for letter in order]
    if not all(isinstance(size, int) for shape in operands for size in shape):
        return None
    facts = {"map": form.map, **asdict(form.problem), "operands": operands, "dtype": jnp.dtype(dtype).name}
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))
