"""The scores of a model for many small changes of its input, without computing again what no change reaches.

Knows layers by their contract alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxconv.inspect.calls import LeafCall, leaf_calls
from jaxconv.inspect.patches import Spans, Value, compute
from jaxconv.inspect.target import fix, select

CHUNK = 1 << 22  # entries of the largest value of as many changes as are computed together
MOST = 64  # changes


class Changes(NamedTuple):
    """Changes of one input, each of a part of it.

    input: which input. number: of changes. spans: the parts.
    patch: maps (the input with a batch of one, numbers of changes) to the new values of the parts.
    """

    input: int
    number: int
    spans: Spans
    patch: Callable[[Array, Array], Array]


def changed_scores(
    layer: Any, params: Any, inputs: list[Array], structure: Any, target: Any, changes: Changes
) -> tuple[Array, Array]:
    """Return the score of one example, a scalar, and its scores after each of the changes, (count,).

    Args:
        inputs: arrays with a batch of one; structure: that in which the model takes them.
        target: for this example, as for ``select``.
    """
    calls, outputs, bases = _unchanged(layer, params, inputs, structure)

    def run(index: Array, sizes: list[int]) -> Array:
        changed = [Value(x) for x in inputs]
        x = inputs[changes.input]
        changed[changes.input] = Value(x, changes.patch(x, index), changes.spans)
        values = list(changed)
        for call in calls:
            given = [values[number] for number in call.inputs]
            own = call.params(params)
            count = call.layer.output_structure.num_leaves
            values += compute(call, own, given, bases[len(values) : len(values) + count], index)
        sizes += [value.patch.size for value in values if value.patch is not None]
        result = [values[number].read({}, index) for number in outputs]
        return select(layer.output_structure.unflatten(result), goal)

    unchanged = layer.output_structure.unflatten([bases[number] for number in outputs])
    goal = fix(unchanged, target)
    sizes: list[int] = []
    jax.eval_shape(lambda index: run(index, sizes), jnp.zeros(1, jnp.int32))
    chunk = max(1, min(MOST, changes.number, CHUNK // max(sizes)))
    index = jnp.minimum(jnp.arange(-(-changes.number // chunk) * chunk, dtype=jnp.int32), changes.number - 1)
    scores = lax.map(lambda index: run(index, []), index.reshape(-1, chunk)).reshape(-1)[: changes.number]
    return select(unchanged, goal)[0], scores


def _unchanged(
    layer: Any, params: Any, inputs: list[Array], structure: Any
) -> tuple[list[LeafCall], list[int], list[Array]]:
    """Return the calls in a model, the numbers of its outputs, and all values for the unchanged inputs."""
    count = len(inputs)
    calls, outputs = leaf_calls(layer, count, structure)
    values = list(inputs)
    for call in calls:
        own, given = call.params(params), [values[number] for number in call.inputs]
        found, masks = call.infer(call.layer, own, given)
        if masks:  # layers behind it treat masked steps differently
            alone = LeafCall(layer, (), (), tuple(range(count)), structure, final=True)
            found, _ = alone.infer(layer, params, inputs)
            return [alone], list(range(count, count + len(found))), [*inputs, *found]
        values += found
    return calls, outputs, values
