"""What every layer made of layers shares: a graph of calls, and how params, shapes and values run through it.

Knows layers by their contract alone, and not how a graph comes about: each kind of container says that.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from jaxconv.contract import LEAF, Effects, Layer, Params, Window, merge, shape_of, whole
from jaxconv.contract.apply import describe_params
from jaxconv.contract.graph import Call, Graph
from jaxconv.contract.weights import sum_penalties
from jaxconv.errors import explain
from jaxconv.registry import snake_case

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Container(Layer):
    """A layer made of layers. A subclass sets ``graph`` when it is built.

    Each layer's params stand under its name in the container; a layer without weights has no entry.
    ``trainable=False`` holds for all layers inside, and ``dtype`` for those that have none of their own, as a global
    policy does in Keras.
    """

    composite: ClassVar[bool] = True

    graph: Any = dataclasses.field(init=False, compare=False)  # type: ignore[misc]  # a Graph; other layers have none

    @property
    def children(self) -> dict[str, Layer]:
        return dict(self.graph.children)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the layers, the keys of params among them."""
        return tuple(name for name, _ in self.graph.children)

    @property
    def output_structure(self) -> Any:
        return self.graph.structure

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return any(layer.needs_key for _, layer in self.graph.children)

    def adopt(self, layer: Any) -> Layer:
        """Return a layer as it is in here: with this container's dtype, where it has none, and frozen where this is."""
        where = type(self).__name__
        if not isinstance(layer, Layer):
            hint = "give one like Conv1D(8, 3) or Activation('relu')"
            hint = "write it with parentheses" if isinstance(layer, type) else hint
            got = (
                repr(layer)
                if isinstance(layer, str | type | int | float | None)
                else f"an object of type {type(layer).__name__}"
            )
            raise TypeError(f"{where}: {got} is no layer; {hint}")
        if layer.dtype is None and self.dtype is not None:
            layer = dataclasses.replace(layer, dtype=self.dtype)
        return dataclasses.replace(layer, trainable=False) if layer.trainable and not self.trainable else layer

    def map_layers(self, change: Callable[[str, Layer], Layer]) -> Self:
        """Return the same container with ``change(name, layer)`` in place of each layer, under the same names."""
        changed = {name: dataclasses.replace(change(name, layer), name=name) for name, layer in self.children.items()}
        return self.with_graph(self.graph._replace(children=tuple(changed.items())))

    def with_graph(self, graph: Graph) -> Self:
        """Return this container with another graph on the same inputs, every layer in it named as there.

        Raises:
            ValueError: a graph that this kind of container cannot have.
        """
        raise ValueError(f"{type(self).__name__}: its graph follows from its options and cannot be changed")

    def flat_inputs(self, value: Any) -> list:
        """Return the inputs, or their shapes, as a list in the order of their places."""
        return [value]

    def _trace_shapes(self, input_shape: Any) -> tuple[list, list]:
        """Return (inputs and outputs of all calls in the graph's numbering, the output of each call)."""
        children, values, out = self.children, self.flat_inputs(self.read_shape(input_shape)), []
        for _, call, given in self.graph.steps(values):
            with explain(f"{call.name}, given shape {given}"):
                out.append(children[call.name].output_shape(given))
            values += children[call.name].output_structure.flatten_up_to(out[-1])
        return values, out

    def shapes(self, input_shape: Any) -> list:
        """Return the output shape of each call in turn."""
        return self._trace_shapes(input_shape)[1]

    def output_shape(self, input_shape: Any) -> Any:
        return self.graph.result(self._trace_shapes(input_shape)[0])

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        """Return windows that hold for any graph: each output may read everything. The layers' own say more."""
        return tuple(map(whole, self.output_shape(input_shape)[1:]))

    def multiply_adds(self, input_shape: Any) -> int | None:
        values, counts = self.flat_inputs(self.read_shape(input_shape)), []
        for _, call, given in self.graph.steps(values):
            child = self.children[call.name]
            counts.append(child.multiply_adds(given))
            values += child.output_structure.flatten_up_to(child.output_shape(given))
        return None if None in counts else sum(count or 0 for count in counts)

    def init_params(self, key: Any, input_shape: Any) -> Params:
        children, values, params, first = self.children, self.flat_inputs(input_shape), {}, {}
        position = {name: index for index, name in enumerate(children)}
        for _, call, given in self.graph.steps(values):
            name, child = call.name, children[call.name]
            with explain(f"{name}, given shape {given}"):
                if name not in first:
                    params[name] = child.init_params(jax.random.fold_in(key, position[name]), given)
                    first[name] = given
                elif given != first[name]:
                    _check_shared(child, params[name], first[name], given, key)
                values += child.output_structure.flatten_up_to(child.output_shape(given))
        return {name: params[name] for name in children if params.get(name)}

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        children, values = self.children, self.flat_inputs(x)
        masks = [None] * len(values) if mask is None else self.flat_inputs(mask)
        fixed: Params = {}
        penalties = []
        for (number, call, given), (*_, own_mask) in zip(
            self.graph.steps(values), self.graph.steps(masks), strict=True
        ):
            name, child, own = call.name, children[call.name], params.get(call.name, {})
            if name in fixed:  # a shared layer: its statistics continue from its last call
                own = merge(child.select(own, fixed=False), fixed[name])
            own_key = None if key is None else jax.random.fold_in(key, number)
            with explain(f"{name}, given shape {shape_of(given)}"):
                y, effects = child.forward(own, given, train=train, key=own_key, mask=_any_mask(own_mask))
            form = child.output_structure
            values += form.flatten_up_to(y)
            masks += [None] * form.num_leaves if effects.mask is None else form.flatten_up_to(effects.mask)
            penalties.append(effects.penalty)
            if name in params:
                fixed[name] = effects.fixed
        passed_on = {index for index in self.graph.outputs if index < self.graph.input_count}
        values = [self._input(value) if index in passed_on else value for index, value in enumerate(values)]
        out, out_mask = self.graph.result(values), _any_mask(self.graph.result(masks))
        return out, Effects(fixed, sum_penalties(penalties, self.policy.penalty), out_mask)

    def _check_own_names(self, params: Any) -> None:
        if not isinstance(params, Mapping) or not set(params) <= set(self.names):
            raise ValueError(f"{self.label}: params {describe_params(params)}; the layers here are {list(self.names)}")


def _any_mask(masks: Any) -> Any:
    """Return a structure of masks, or None where there is none in it."""
    return masks if jax.tree.leaves(masks) else None


def _check_shared(child: Layer, params: Params, first: Any, given: Any, key: Any) -> None:
    """Raise ValueError where a later call of a shared layer would need other weights than the first one made."""
    again = jax.eval_shape(lambda key: child.init_params(key, given), key)
    if jax.tree.map(jnp.shape, again) != jax.tree.map(jnp.shape, params):
        raise ValueError(
            f"the layer is shared, and its weights are for inputs of shape {first}, where it is called first"
        )


def count_names(inside: Iterable[Layer], where: str, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Name layers as Keras does: the given name, or the class's, counted from the second one on.

    Raises:
        ValueError: two of one name, those in ``taken`` included.
    """
    inside = tuple(inside)
    given = [*taken, *(layer.name for layer in inside if layer.name is not None)]
    for name in given:
        if given.count(name) > 1:
            raise ValueError(f"{where}: {given.count(name)} layers have the name {name!r}; names must differ")
    count: dict[str, int] = {}
    return tuple(layer.name or free_name(base_name(layer), given, count) for layer in inside)


def base_name(layer: Layer) -> str:
    """Return the name that a layer's counted names begin with: its class's in snake_case."""
    return getattr(layer, "counted_as", None) or snake_case(type(layer).__name__)


def free_name(base: str, taken: Sequence[str], count: dict[str, int]) -> str:
    """Return the next counted name that nobody was given."""
    while True:
        number = count[base] = count.get(base, -1) + 1
        name = f"{base}_{number}" if number else base
        if name not in taken:
            return name


def chain(names: Sequence[str], inside: Sequence[Layer]) -> Graph:
    """Return the graph that calls layers one after the other."""
    inputs: tuple[int, ...] = (0,)
    calls, structure, count = [], LEAF, 1
    for name, layer in zip(names, inside, strict=True):
        calls.append(Call(name, inputs, structure))
        structure = layer.output_structure
        inputs, count = tuple(range(count, count + structure.num_leaves)), count + structure.num_leaves
    return Graph(tuple(zip(names, inside, strict=True)), tuple(calls), inputs, structure)
