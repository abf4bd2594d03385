"""Steps of a program that contain programs: loops, branches and shards, with other values inside than arrays.

A value is an array or a structure of arrays; ``evaluate`` computes an inner program on such values.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr

Evaluate = Callable[[ClosedJaxpr, Sequence[Any]], list[Any]]
Promote = Callable[[Any, Any], Any]


def scan(eqn: Any, values: Sequence[Any], evaluate: Evaluate, promote: Promote) -> list[Any]:
    """Compute a scan.

    Args:
        promote: converts a value to the structure of another one, as the carry must have one structure throughout.
    """
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
    """Compute a branch, whose index is an array. Of branches for platforms, which are equal, it is the default one."""
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
