"""A function of arrays as a flat list of JAX primitives: calls are inlined, and unused steps are left out.

Functions with their own derivative (``custom_jvp``, ``custom_vjp``) and loops stay one step. So does a jitted
activation function such as ``jax.nn.silu``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal

# calls that are inlined: they change when and where a value is computed, but not the value
CALLS = ("jit", "remat", "remat2", "checkpoint", "closed_call", "core_call", "custom_lin")
CUSTOM = ("custom_jvp_call", "custom_vjp_call")
ELEMENTWISE = frozenset(
    """abs acos acosh add and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp convert_element_type
    copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p
    logistic lt max min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt
    square stop_gradient sub tan tanh xor""".split()  # noqa: SIM905
)


Evaluate = Callable[[ClosedJaxpr, Sequence[Any]], list[Any]]
Promote = Callable[[Any, Any], Any]


class Program(NamedTuple):
    """A flat program. closed: its steps. tree: the structure of its results."""

    closed: ClosedJaxpr
    tree: Any


def trace(f: Callable, *args: Any) -> Program:
    """Return the flat program of ``f``, whose inputs are the leaves of the arguments.

    >>> jitted = jax.jit(lambda x: jax.nn.silu(x) @ x)
    >>> [step.primitive.name for step in trace(jitted, jnp.ones((2, 2))).closed.jaxpr.eqns]
    ['jit', 'dot_general']
    """
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    return Program(flatten(closed), jax.tree.structure(shapes))


def flatten(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the same program with its calls inlined."""

    def step(eqn: Any, values: Sequence[Any]) -> list[Any]:
        if eqn.primitive.name in CALLS and not is_activation(eqn):
            inner = called(eqn)
            return run(inner, inner.jaxpr.outvars, values, step)
        return bind(eqn, values)

    return jax.make_jaxpr(lambda *args: run(closed, closed.jaxpr.outvars, args, step))(*closed.in_avals)


def called(eqn: Any) -> ClosedJaxpr:
    """Return the program that a call runs."""
    inner = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr") if name in eqn.params)
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def producers(jaxpr: Any) -> dict[Any, Any]:
    """Return the step that computes each variable."""
    return {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Compute one step unchanged."""
    with eqn.ctx.manager:
        result = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(result) if eqn.primitive.multiple_results else [result]


def run(
    closed: ClosedJaxpr, wanted: Sequence[Any], args: Sequence[Any], step: Callable[[Any, Sequence[Any]], list] = bind
) -> list[Any]:
    """Compute the wanted variables of a program and only the steps they need; ``step`` computes one equation."""
    needed, steps = {atom for atom in wanted if not isinstance(atom, Literal)}, []
    for eqn in reversed(closed.jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
            steps.append(eqn)
    values = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in reversed(steps):
        values.update(zip(eqn.outvars, step(eqn, [read(atom) for atom in eqn.invars]), strict=True))
    return [read(atom) for atom in wanted]


def is_activation(eqn: Any) -> bool:
    """Return whether a call computes an elementwise function of one array, as activation functions do."""
    arrays = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
    if len(arrays) != 1 or len(eqn.outvars) != 1 or not arrays[0].aval.shape:
        return False
    inner = called(eqn)
    shape = arrays[0].aval.shape
    return eqn.outvars[0].aval.shape == shape and not inner.consts and _elementwise(inner.jaxpr, shape)


def _elementwise(jaxpr: Any, shape: tuple[int, ...]) -> bool:
    for eqn in jaxpr.eqns:
        scalars = all(atom.aval.shape == () for atom in eqn.invars)
        if eqn.primitive.name == "broadcast_in_dim" and scalars:
            continue
        if any(var.aval.shape not in ((), shape) for var in eqn.outvars):
            return False
        inside = eqn.primitive.name in (*CALLS, *CUSTOM) and _elementwise(called(eqn).jaxpr, shape)
        if eqn.primitive.name not in ELEMENTWISE and not inside:
            return False
    return True


# -- steps that contain programs, on values that are arrays or structures of arrays; ``evaluate`` runs these programs


def scan(eqn: Any, values: Sequence[Any], evaluate: Evaluate, promote: Promote) -> list[Any]:
    """Compute a scan; ``promote(value, like)`` converts values so that the structure of the carry stays the same."""
    params, body = eqn.params, eqn.params["jaxpr"]
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    constants, carry, inputs = list(values[:first]), list(values[first:last]), list(values[last:])

    def step(carry: Sequence[Any], inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        results = evaluate(body, [*constants, *carry, *inputs])
        after = [promote(new, old) for new, old in zip(results, carry, strict=False)]
        return after, results[len(carry) :]

    one = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), inputs)
    while True:
        after = jax.eval_shape(step, carry, one)[0]
        structures: list[Any] = [jax.tree.structure(after), jax.tree.structure(carry)]
        if structures[0] == structures[1]:
            break
        carry = [promote(old, new) for old, new in zip(carry, after, strict=True)]
    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, outputs = jax.lax.scan(step, carry, inputs, **options)
    return [*carry, *outputs]


def branch(eqn: Any, values: Sequence[Any], evaluate: Evaluate, promote: Promote) -> list[Any]:
    """Compute a branch, whose index is an array. For branches by platform, which are equal, compute the default one."""
    index, *operands = values
    branches = eqn.params["branches"]
    if eqn.params.get("branches_platforms"):
        return evaluate(branches[-1], operands)
    likes = [jax.eval_shape(lambda *args, b=b: evaluate(b, args), *operands) for b in branches]

    def alike(results: Sequence[Any]) -> list[Any]:
        for like in likes:
            results = [promote(result, other) for result, other in zip(results, like, strict=True)]
        return list(results)

    return jax.lax.switch(index, [lambda *args, b=b: alike(evaluate(b, args)) for b in branches], *operands)


def shards(eqn: Any, values: Sequence[Any], evaluate: Evaluate) -> list[Any]:
    """Compute a ``shard_map``."""
    params = eqn.params
    return jax.shard_map(
        lambda *args: evaluate(ClosedJaxpr(params["jaxpr"], ()), args),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=list(params["out_specs"]),
        axis_names=set(params["newly_manual_axes"]),
        check_vma=params["check_vma"],
    )(*values)
