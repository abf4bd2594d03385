"""DeepLIFT: the contribution of each input to the difference of a score from its value at a reference.

A program is evaluated on pairs of an actual value and its reference. Each step that is not linear gets the derivative
of a linear function with the same difference: ``sum(multiplier * (operand - reference)) == result - reference``.
An ordinary gradient then multiplies and sums the multipliers, and the attributions sum to the difference of the output.

Source: Shrikumar et al. 2017, https://arxiv.org/abs/1704.02685 (the rescale rule)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr

from jaxconv.inspect import program as programs
from jaxconv.inspect.program import CALLS, CUSTOM, ELEMENTWISE, bind, called, flatten, is_activation, run, trace
from jaxconv.kernels.maximum import largest_along

# linear in the operands at these positions (None: in all), for any values at the others
LINEAR: dict[str, tuple[int, ...] | None] = dict.fromkeys(
    """add add_any sub neg reduce_sum cumsum reduce_window_sum broadcast_in_dim reshape transpose squeeze expand_dims
    slice pad concatenate split rev convert_element_type reduce_precision copy copy_p real imag fft name device_put psum
    psum2 psum_invariant all_gather all_gather_invariant all_to_all ppermute reduce_scatter pvary pcast
    optimization_barrier sharding_constraint window_sum window_patches""".split()  # noqa: SIM905
)
LINEAR |= {"gather": (0,), "dynamic_slice": (0,), "dynamic_update_slice": (0, 1), "scatter": (0, 2)}
LINEAR |= {"scatter-add": (0, 2), "scatter_add": (0, 2), "triangular_solve": (1,)}
BILINEAR = """mul dot_general conv_general_dilated conv_general_dilated_xla conv_convolve conv_transpose
    conv_correlate""".split()  # noqa: SIM905
LARGEST = ("max", "reduce_max", "reduce_window_max", "window_max", "cummax")
SMALLEST = ("min", "reduce_min", "reduce_window_min", "cummin")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = ("and", "or", "xor", "not")
# primitives that, applied to a condition, are also applied to its cause
MOVES = ("broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice", "rev", "copy")


class Pair(NamedTuple):
    """A value that depends on the input.

    actual: the value at the input; its derivative consists of multipliers. reference: the value at the baseline.
    cause: for a condition such as ``x > y``, the Pair ``x - y`` that determines it, or None if unknown.
    """

    actual: Any
    reference: Any
    cause: Any = None


def multipliers(f: Callable[[Any], Array], x: Any, reference: Any) -> tuple[Any, Array, Array]:
    """Return the multipliers of all inputs, and the scores (batch,) at ``x`` and at the reference.

    Raises ValueError, with the name of the primitive, if a step of ``f`` that depends on ``x`` has no rule.
    """
    program = trace(f, x)
    references = [lax.stop_gradient(leaf) for leaf in jax.tree.leaves(reference)]

    def surrogate(x: Any) -> tuple[Array, Array]:
        pairs = [Pair(leaf, other) for leaf, other in zip(jax.tree.leaves(x), references, strict=True)]
        (score,) = _evaluate(program.closed, pairs)
        score = score if isinstance(score, Pair) else Pair(score, score)
        return score.actual, score.reference

    score, pull, other = jax.vjp(surrogate, x, has_aux=True)
    return pull(jnp.ones_like(score))[0], score, other


def _evaluate(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    return run(closed, closed.jaxpr.outvars, args, _step)


def _inner(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    return _evaluate(flatten(closed), args)


def _step(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Compute one step on arrays and pairs."""
    name = eqn.primitive.name
    places = [place for place, value in enumerate(values) if isinstance(value, Pair)]
    if not places:
        return bind(eqn, values)
    if name == "stop_gradient":  # the value depends on the input like any other
        return [values[0]]
    if name in (*CALLS, *CUSTOM):
        return [_nonlinear(eqn, values)] if is_activation(eqn) else _inner(called(eqn), values)
    if name == "scan":
        return programs.scan(eqn, values, _inner, _promote)
    if name == "shard_map":
        return programs.shards(eqn, values, _inner)
    if name == "cond" and 0 not in places:
        return programs.branch(eqn, values, _inner, _promote)
    if not any(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars):
        return _discrete(eqn, values)
    floats = all(jnp.issubdtype(eqn.invars[place].aval.dtype, jnp.floating) for place in places)
    if name in LINEAR and floats and set(places) <= set(LINEAR[name] or places):
        actual, reference = (bind(eqn, _lane(values, lane)) for lane in (0, 1))
        return [Pair(*pair) for pair in zip(actual, reference, strict=True)]
    if name == "select_n":
        return [_select(eqn, values)]
    if name == "convert_element_type" and _cause(values[0]) is not None:
        return [_switched(eqn, values, values[0])]
    rule = _rule(name, len(places)) if floats else None
    if rule is None:
        how = "whose condition or index depends" if name in ("cond", "while", *LINEAR) else "which depends"
        remedy = "write it with other functions, or use method='integrated', which needs only derivatives"
        raise ValueError(f"attribute: deeplift has no rule for the primitive {name!r}, {how} on the input; {remedy}")
    return [rule(eqn, values)]


def _rule(name: str, pairs: int) -> Callable[[Any, Sequence[Any]], Pair] | None:
    if name in BILINEAR:
        return _product if pairs == 2 else _linear
    if name == "div":
        return _quotient
    if name in LARGEST or name in SMALLEST:
        return _selection
    return _nonlinear if name in ELEMENTWISE and pairs <= 2 else None


def _lane(values: Sequence[Any], lane: int) -> list[Any]:
    """Return the actual values for lane 0, or the references for lane 1."""
    return [value[lane] if isinstance(value, Pair) else value for value in values]


def _fixed(values: Sequence[Any]) -> list[Any]:
    """Return the actual values as constants."""
    return [lax.stop_gradient(value) for value in _lane(values, 0)]


def _promote(value: Any, like: Any) -> Any:
    """Return a value as a Pair if ``like`` is a Pair, without a cause, which is not kept through loops and branches."""
    if isinstance(like, Pair) and not isinstance(value, Pair):
        return Pair(value, value)
    return value._replace(cause=None) if isinstance(value, Pair) else value


def _cause(value: Any) -> Any:
    return value.cause if isinstance(value, Pair) else None


@jax.custom_jvp
def _attach(value: Array, surrogate: Array) -> Array:
    """Return ``value`` with the derivative of ``surrogate``."""
    return value


@_attach.defjvp
def _attach_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return primals[0], tangents[1]


def _near(a: Array, b: Array) -> Array:
    """Return where two values agree up to rounding: there a quotient of differences has no correct digits."""
    return (a == b) | (jnp.abs(a - b) <= 8 * jnp.finfo(a.dtype).eps * jnp.maximum(jnp.abs(a), jnp.abs(b)))


def _secant(f: Callable[[Array], Array], a: Array, b: Array) -> Array:
    """Return ``(f(a) - f(b)) / (a - b)`` elementwise, and the derivative where a and b are equal."""
    near = _near(a, b)
    derivative = jax.jvp(f, (a,), (jnp.ones_like(a),))[1]
    return jnp.where(near, derivative, (f(a) - f(b)) / jnp.where(near, jnp.ones_like(a), a - b))


# -- rules


def _linear(eqn: Any, values: Sequence[Any]) -> Pair:
    return Pair(*(bind(eqn, _lane(values, lane))[0] for lane in (0, 1)))


def _product(eqn: Any, values: Sequence[Any]) -> Pair:
    """Divide the difference of a product: that of each factor times the mean of the other factor."""
    u, v = values
    u_mean, v_mean = ((lax.stop_gradient(w.actual) + w.reference) / 2 for w in values)
    actual, reference = (bind(eqn, _lane(values, lane))[0] for lane in (0, 1))
    surrogate = bind(eqn, [u.actual, v_mean])[0] + bind(eqn, [u_mean, v.actual])[0]
    return Pair(_attach(lax.stop_gradient(actual), surrogate), reference)


def _quotient(eqn: Any, values: Sequence[Any]) -> Pair:
    """Divide the difference of ``u / v`` as that of the product of ``u`` and ``1 / v``, whose secant is known."""
    (u, v), (u0, v0) = _fixed(values), _lane(values, 1)
    if not isinstance(values[1], Pair):
        return _linear(eqn, values)
    numerator, denominator = _lane(values, 0)
    surrogate = numerator * (1 / v + 1 / v0) / 2 - denominator * (u / v / v0 + u0 / v / v0) / 2
    return Pair(_attach(bind(eqn, [u, v])[0], surrogate), bind(eqn, [u0, v0])[0])


def _nonlinear(eqn: Any, values: Sequence[Any]) -> Pair:
    """Divide the difference of an elementwise function of one array, or of two by their Shapley values."""
    actual, reference = _fixed(values), _lane(values, 1)
    places = [place for place, value in enumerate(values) if isinstance(value, Pair)]
    surrogate = 0
    for place in places:
        slopes = []
        for others in (actual, reference) if len(places) == 2 else (actual,):

            def along(value: Array, others: Any = others, place: int = place) -> Array:
                return bind(eqn, [*others[:place], value, *others[place + 1 :]])[0]

            slopes.append(_secant(along, actual[place], reference[place]))
        surrogate += sum(slopes) / len(slopes) * values[place].actual
    return Pair(_attach(bind(eqn, actual)[0], surrogate), bind(eqn, reference)[0])


def _selection(eqn: Any, values: Sequence[Any]) -> Pair:
    """Pass the difference of an extreme value to one entry.

    If the value is more extreme than its reference, this is the extreme entry of the input, otherwise that of the
    reference. The derivative of the step gathers that entry, so that windows may overlap. This is the rule of captum's
    code, with which the contributions sum to the difference. The authors' implementation (kundajelab/deeplift,
    "gradient") passes the multiplier to the extreme entry of the input; that sums to the difference only if the
    reference is constant in a window. captum 0.9 does the same if the pooling follows an activation, whose hook undoes
    the hook of the pooling.
    """
    actual, reference = _fixed(values), _lane(values, 1)
    surrogates = _lane(values, 0)
    value, other = bind(eqn, actual)[0], bind(eqn, reference)[0]
    outwards = value >= other if eqn.primitive.name in LARGEST else value <= other

    def gathered(at: Sequence[Any], of: Sequence[Any]) -> Array:
        moving = [place for place, entry in enumerate(values) if isinstance(entry, Pair)]

        def f(*chosen: Array) -> Array:
            operands = list(at)
            for place, array in zip(moving, chosen, strict=True):
                operands[place] = array
            return _extreme(eqn, operands)

        return jax.jvp(f, tuple(at[place] for place in moving), tuple(of[place] for place in moving))[1]

    def part(at: Sequence[Any]) -> Array:
        differences = [
            jnp.where(now == then, 0, now - then) if isinstance(entry, Pair) else None  # both may be infinite
            for entry, now, then in zip(values, actual, reference, strict=True)
        ]
        difference = gathered(at, differences)
        zero = (difference == 0) | (value == other)
        slope = jnp.where(zero, jnp.ones_like(value), (value - other) / jnp.where(zero, 1, difference))
        return slope * gathered(at, surrogates)

    return Pair(_attach(value, jnp.where(outwards, part(actual), part(reference))), other)


def _extreme(eqn: Any, operands: Sequence[Any]) -> Array:
    """Return an extreme value with a derivative that does not depend on XLA's rounding of operands in comparisons."""
    if eqn.primitive.name not in ("reduce_max", "reduce_min"):
        return bind(eqn, operands)[0]
    sign = 1 if eqn.primitive.name == "reduce_max" else -1
    return sign * jnp.squeeze(largest_along(sign * operands[0], eqn.params["axes"]), eqn.params["axes"])


# -- conditions


def _discrete(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Compute booleans and integers, whose derivative is 0, and keep the cause of their changes."""
    name = eqn.primitive.name
    actual, reference = (bind(eqn, _lane(values, lane)) for lane in (0, 1))
    cause = None
    if name in COMPARISONS and jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating):
        cause = Pair(*(jnp.subtract(*_lane(values, lane)) for lane in (0, 1)))
    elif name == "is_finite":
        cause = values[0]._replace(cause=None)
    elif name == "not":
        cause = _cause(values[0])
    elif name in LOGICAL:
        causes = [_cause(value) for value in values]
        dependent = [isinstance(value, Pair) for value in values]
        if all(cause is not None for cause in causes):
            changed = values[0].actual != values[0].reference
            cause = Pair(*(jnp.where(changed, *(cause[lane] for cause in causes)) for lane in (0, 1)))
        elif sum(dependent) == 1:
            cause = causes[dependent.index(True)]
    elif name in MOVES and _cause(values[0]) is not None:
        cause = Pair(*(bind(eqn, [values[0].cause[lane]])[0] for lane in (0, 1)))
    return [Pair(a, b, cause) for a, b in zip(actual, reference, strict=True)]


def _select(eqn: Any, values: Sequence[Any]) -> Pair:
    """Pass the difference to the selected case, or to the cause of the condition where the condition changed."""
    condition = values[0]
    if not isinstance(condition, Pair):
        return _linear(eqn, values)
    if _cause(condition) is None:
        where = "the primitive 'select_n' (jnp.where) on a condition that is not a comparison of numbers"
        what = f"deeplift has no rule for {where} and depends on the input"
        raise ValueError(f"attribute: {what}; use method='integrated'")
    return _switched(eqn, [condition.actual, *values[1:]], condition)


def _switched(eqn: Any, values: Sequence[Any], condition: Pair) -> Pair:
    actual, reference = bind(eqn, _fixed(values))[0], bind(eqn, [condition.reference, *_lane(values[1:], 1)])[0]
    now, then = lax.stop_gradient(condition.cause.actual), condition.cause.reference
    changed = condition.actual != condition.reference
    slope = jnp.where(changed, (actual - reference) / jnp.where(changed, now - then, 1), 0)
    inside = bind(eqn, [lax.stop_gradient(condition.actual), *_lane(values[1:], 0)])[0]
    return Pair(_attach(actual, jnp.where(changed, slope * condition.cause.actual, inside)), reference)
