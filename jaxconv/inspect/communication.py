"""Communication between devices caused by each layer of a model, at inference and in training.

Collectives of compiled programs are assigned to layers by the names of layers in them.
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxconv.contract import Apply, Layer, as_layer, merge
from jaxconv.contract.display import Table, format_shapes, summary
from jaxconv.contract.weights import param_shapes
from jaxconv.inspect.compiled import Collective, collectives

COLUMNS = ["layer", "kind", "output", "forward", "loss and gradients"]
OUTSIDE = "(outside)"
SHORT = {"all-gather": "gather", "all-reduce": "reduce", "collective-permute": "permute"}


class Moved(NamedTuple):
    """The communication of one layer.

    name: the name of the layer after those of the containers around it; empty for the whole model. A shared layer has
    one entry.
    kind, output: the class of the layer, and the shape of its (first) output.
    forward, gradients: bytes by kind of collective in the program of the output, and in the program of a loss with the
    gradients of all weights. A container includes its layers.
    depth: the number of containers around the layer.
    """

    name: str
    kind: str
    output: Any
    forward: dict[str, int]
    gradients: dict[str, int]
    depth: int = 0


class Communication(Table):
    """The entries of a model: first that of the whole model, then one for each layer. ``print`` shows a table."""

    def cells(self) -> list[list[str]]:
        total, *rows = self
        lines = [COLUMNS]
        for row in rows:
            name = "  " * (row.depth - 1) + row.name.rpartition("/")[2]
            lines.append([name, row.kind, format_shapes(row.output) if row.kind else "", *_cells(row)])
        return [*lines, ["total", "", "", *_cells(total)]]


def communication(layer: Layer | Apply, x: Any) -> Communication:
    """Return the communication of each layer of a model whose input is sharded and whose params are replicated.

    Two programs are compiled and analyzed: the output at inference, and the mean square of the output in training, with
    the gradients of all weights, which are replicated at the end, as in ``fit``. A collective belongs to the layer for
    whose operation XLA created it; the others, such as the sum of the loss, are in ``"(outside)"``. The bytes are those
    of the results on one device.

    Args:
        layer: a layer or its ``apply_fn``.
        x: the input, as an array or ``jax.ShapeDtypeStruct`` with a ``NamedSharding``; several inputs in their
            structure.

    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    >>> x = jax.ShapeDtypeStruct((8, 16, 4), jnp.float32, sharding=sharding)
    >>> [(row.name, row.forward, row.gradients) for row in communication(jaxconv.Sequential([jaxconv.ReLU()]), x)]
    [('', {}, {}), ('re_lu', {}, {})]
    """
    layer = as_layer(layer, "communication(layer, x)")
    given = jax.tree.leaves(x)
    if not given or not all(isinstance(getattr(one, "sharding", None), NamedSharding) for one in given):
        what = f"{layer.label}: the input of type {type(x).__name__} has no NamedSharding"
        raise TypeError(f"communication: {what}; give jax.device_put(x, sharding)")
    shape = jax.tree.map(lambda one: tuple(one.shape), x)
    replicated = NamedSharding(given[0].sharding.mesh, PartitionSpec())

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=replicated), tree)

    params = everywhere(param_shapes(layer, shape))
    trainable, fixed = layer.apply_fn.split(params)
    key = jax.random.key(0) if layer.needs_key else None

    def loss(trainable: Any, fixed: Any, x: Any) -> Any:
        y, effects = layer.forward(merge(trainable, fixed), x, train=True, key=key)
        outputs = [one for one in jax.tree.leaves(y) if jnp.issubdtype(one.dtype, jnp.floating)]
        return sum(jnp.mean(jnp.square(one)).astype(jnp.float32) for one in outputs), effects.fixed

    gradients = jax.jit(jax.value_and_grad(loss, has_aux=True), out_shardings=replicated)
    found = collectives(layer.apply_fn, params, x), collectives(gradients, trainable, fixed, x)
    rows = summary(layer, shape)

    def moved(row: Any, counted: Callable[[str], bool]) -> Moved:
        forward, training = (_sizes(part, counted) for part in found)
        return Moved(row.name, row.kind, row.output, forward, training, row.depth)

    total = moved(rows[0], lambda path: True)
    calls = [moved(row, _inside(row.name)) for row in {row.name: row for row in reversed(rows[1:])}.values()][::-1]
    outside = moved(rows[0], lambda path: not path)._replace(name=OUTSIDE, kind="", depth=1)
    if calls and (outside.forward or outside.gradients):
        calls.append(outside)
    return Communication([total, *(calls or [total._replace(name=layer.label, depth=1)])], layer.label)


def _inside(name: str) -> Callable[[str], bool]:
    return lambda path: path == name or path.startswith(f"{name}/")


def _sizes(found: Sequence[Collective], counted: Callable[[str], bool]) -> dict[str, int]:
    """Return the bytes, by kind, of the collectives whose layer is counted."""
    sizes: collections.Counter[str] = collections.Counter()
    for one in found:
        if counted(one.layer):
            sizes[one.kind] += one.times * one.bytes
    return dict(sorted(sizes.items()))


def _cells(row: Moved) -> list[str]:
    return [
        ", ".join(f"{SHORT.get(kind, kind)} {size:,}" for kind, size in sizes.items()) or "-"
        for sizes in (row.forward, row.gradients)
    ]
