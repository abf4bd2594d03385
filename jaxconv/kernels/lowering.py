"""The protocol of a lowering, one way to compute some of the three maps."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
from jax import Array

from jaxconv.geometry import Geometry
from jaxconv.kernels.apart import apart
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Form, Problem, Shapes, standard_form

SCOPE = "jaxconv."  # the prefix of the names that profiles and explain_lowering read
STANDARD = "real floats, no empty array, no symbolic length, and no strides together with a dilated input"
LARGE = 1 << 14  # entries of an operand whose transposition takes longer than a call


class Solve(Protocol):
    """Compute a map of a smaller problem, by the lowering that the table chooses for it.

    ``unfinished`` keeps the result in the accumulation type, for a result that is one term of a sum.
    """

    def __call__(self, name: str, a: Array, b: Array, problem: Problem, unfinished: bool = False) -> Array: ...

    def chosen(self, name: str, a: Any, b: Any, problem: Problem) -> str:
        """Return the name of the lowering that the table chooses, given the operands or their shapes and dtypes."""
        ...


def no_limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Accept every problem."""
    return None


@dataclass(frozen=True)
class Lowering:
    """One way to compute some of the three maps.

    Args:
        name: the argument of ``jaxconv.lowering(name)``.
        maps: the function that computes each map, called as ``function(a, b, problem, arithmetic, solve)``. Operands
            are in the lowering's form, have one dtype, and are in the order of :data:`jaxconv.kernels.maps.SIGNATURES`.
            The result has the dtype of accumulation or of the result; ``solve`` computes parts of the problem.
        limits: called as ``limits(map, problem, shapes)``; returns the reason why a problem is not supported,
            or None.
        form: converts a map to the form that the functions are written for, or returns None if that form cannot
            express it. By default the standard form; "xla" uses the geometry unchanged.
        by_default: whether it may be used without a request.
        is_direct: whether it sums the products of the definition. The error of each result is then bounded by
            ``terms * eps`` times the sum of their absolute values; otherwise by ``terms * eps`` times the number of
            products and the largest of x, w and y that are multiplied, and a precision above the default excludes it.
        sums: the maps whose result is a sum over taps instead of a product or a convolution. XLA would fuse such a sum
            with the operations that read it.
    """

    name: str
    maps: Mapping[str, Callable[..., Array]]
    limits: Callable[[str, Problem, Shapes], str | None] = no_limits
    form: Callable[[str, Geometry, Any, Any], Form | None] = standard_form
    by_default: bool = True
    is_direct: bool = True
    sums: Collection[str] = ()

    def unsupported_reason(self, name: str, geometry: Geometry, a: Any, b: Any) -> str | None:
        """Return the reason why this lowering cannot compute a map of two operands (arrays or avals), or None."""
        form = self.form(name, geometry, a, b)
        if form is None:
            return f"it needs {STANDARD}"
        if form.map not in self.maps:
            computed = " and ".join(map(repr, self.maps))
            return f"in standard form this is the map {form.map!r}, and it computes {computed}"
        return self.limits(form.map, form.problem, form.shapes)

    def compute(self, name: str, a: Array, b: Array, geometry: Geometry, arithmetic: Arithmetic, solve: Solve) -> Array:
        """Compute a map that is supported; the result has the dtype that ``arithmetic`` names."""
        form = self.form(name, geometry, a, b)
        assert form is not None
        first, arranged = form.arrange(a, b)

        def run(first: Array) -> Array:
            # inside the call, a product reads a kernel in any order, without a copy. Sums read the kernels of
            # groups many times, so these are transposed before the call
            second = form.arrange(a, b)[1] if form.problem.groups == 1 else arranged
            return self.run(form.map, first, second, form.problem, arithmetic, solve).astype(arithmetic.result_dtype)

        is_large = all(isinstance(n, int) for n in first.shape) and first.size >= LARGE
        if not (form.map in self.sums and form.problem.taps > 1 and form.moves and is_large):
            return form.restore(run(first))
        # fused with the transposes, the sums would read and write with strides, once for each reader of the result
        return form.restore(apart(run, first))

    def run(self, name: str, a: Array, b: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
        """Compute a map of operands that are in this lowering's form."""
        with jax.named_scope(f"{SCOPE}{name}.{self.name}"):
            return self.maps[name](a, b, problem, arithmetic, solve)
