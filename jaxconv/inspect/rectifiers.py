"""Functions whose rectifiers have other derivatives, for guided backpropagation and deconvolutional networks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr

from jaxconv.inspect.program import CALLS, CUSTOM, bind, branch, called, flatten, producers, run, scan, shards, trace

MOVES = ("broadcast_in_dim", "convert_element_type", "reshape", "copy")


@jax.custom_vjp
def guided(x: Array) -> Array:
    """Return ``max(x, 0)``; in the backward pass, only positive gradients pass, and only where ``x`` is positive."""
    return jnp.maximum(x, jnp.zeros((), x.dtype))


guided.defvjp(lambda x: (guided(x), x > 0), lambda open, g: (jnp.where(open, _positive(g), jnp.zeros((), g.dtype)),))


@jax.custom_vjp
def deconv(x: Array) -> Array:
    """Return ``max(x, 0)``; in the backward pass, positive gradients pass regardless of ``x``."""
    return jnp.maximum(x, jnp.zeros((), x.dtype))


deconv.defvjp(lambda x: (deconv(x), None), lambda _, g: (_positive(g),))


def _positive(g: Array) -> Array:
    return jnp.maximum(g, jnp.zeros((), g.dtype))


def replace(f: Callable[[Any], Array], rectifier: Callable[[Array], Array]) -> Callable[[Any], Array]:
    """Return ``f`` of one argument with ``rectifier`` at each ``max(x, 0)`` in its program.

    It is recognized as ``jax.nn.relu``, ``jnp.maximum(x, 0)`` and ``jnp.where(x > 0, x, 0)``, also in loops and
    branches. Another activation function that is jitted, or has its own derivative, stays unchanged: leaky_relu, elu,
    relu6 of ``jax.nn``.

    >>> f = replace(lambda x: -jax.nn.relu(x), guided)
    >>> jax.grad(f)(2.0).item()  # the gradient that arrives at the rectifier is -1
    0.0
    """

    def replaced(x: Any) -> Array:
        program = trace(f, x)
        return jax.tree.unflatten(program.tree, _evaluate(program.closed, jax.tree.leaves(x), rectifier))

    return replaced


def _evaluate(closed: ClosedJaxpr, args: Sequence[Any], rectifier: Callable[[Array], Array]) -> list[Any]:
    made_by = producers(closed.jaxpr)

    def evaluate(inner: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        return _evaluate(flatten(inner), args, rectifier)

    def step(eqn: Any, values: Sequence[Any]) -> list[Any]:
        source = _rectified(made_by, eqn)
        if source is not None:
            operand = next(value for atom, value in zip(eqn.invars, values, strict=True) if atom is source)
            return [rectifier(operand)]
        if eqn.primitive.name == "scan":
            return scan(eqn, values, evaluate, lambda value, like: value)
        if eqn.primitive.name == "cond":
            return branch(eqn, values, evaluate, lambda value, like: value)
        if eqn.primitive.name == "shard_map":
            return shards(eqn, values, evaluate)
        return bind(eqn, values)

    return run(closed, closed.jaxpr.outvars, args, step)


def _rectified(made_by: dict, eqn: Any) -> Any:
    """Return the operand ``x`` of a step that computes ``max(x, 0)``, or None for any other step."""
    name = eqn.primitive.name
    if name in (*CALLS, *CUSTOM) and len(eqn.outvars) == 1:
        inner = flatten(called(eqn)).jaxpr
        within = producers(inner)
        last = within.get(inner.outvars[0]) if not hasattr(inner.outvars[0], "val") else None
        source = _rectified(within, last) if last is not None else None
        return eqn.invars[inner.invars.index(source)] if source in inner.invars else None
    if name == "max":
        x, y = eqn.invars
        return x if _is_zero(made_by, y) else y if _is_zero(made_by, x) else None
    if name == "select_n" and len(eqn.invars) == 3:
        condition = made_by.get(eqn.invars[0])
        left, right = condition.invars if condition is not None and len(condition.invars) == 2 else (None, None)
        sign = {"gt": 1, "ge": 1, "lt": -1, "le": -1}.get(condition.primitive.name, 0) if condition is not None else 0
        if sign and _is_zero(made_by, left):
            left, right, sign = right, left, -sign
        negative, positive = eqn.invars[1:] if sign > 0 else eqn.invars[:0:-1]
        if sign and _is_zero(made_by, right) and _is_zero(made_by, negative) and positive is left:
            return left
    return None


def _is_zero(made_by: dict, atom: Any) -> bool:
    if hasattr(atom, "val"):
        return np.ndim(atom.val) == 0 and bool(atom.val == 0)
    eqn = made_by.get(atom)
    return eqn is not None and eqn.primitive.name in MOVES and _is_zero(made_by, eqn.invars[0])
