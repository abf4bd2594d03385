"""What every layer made of layers shares: a graph of calls, and how params, shapes and values run through it.

Knows layers by their contract alone, and not how a graph comes about: each kind of container says that.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from jaxconv.contract.apply import held
from jaxconv.contract.layer import LEAF, Effects, Layer, Params, merge, shape_of
from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.registry import snake_case

Array = jax.Array


class Call(NamedTuple):
    """One call of one layer.

    name: which layer, by its name in the container.
    takes: the places of the values it is called on. Place 0 and on are the container's inputs, then come the outputs
        of the first call, of the second, and so on.
    structure: how those values hang together: one, a list, a dict.
    """

    name: str
    takes: tuple[int, ...]
    structure: Any = LEAF


class Graph(NamedTuple):
    """Layers and the calls of them, in an order in which each call finds what it takes.

    gives: the places of the outputs. structure: how these hang together. inputs: how many inputs there are.
    """

    children: tuple[tuple[str, Layer], ...]
    calls: tuple[Call, ...]
    gives: tuple[int, ...]
    structure: Any = LEAF
    inputs: int = 1


@dataclasses.dataclass(frozen=True)
class Container(Layer):
    """A layer made of layers. A subclass sets ``graph`` when it is built.

    Each layer's params stand under its name in the container; a layer without weights has no entry.
    ``trainable=False`` holds for all layers inside, and ``dtype`` for those that have none of their own, as a global
    policy does in Keras.
    """

    graph: Graph = dataclasses.field(init=False, repr=False, compare=False)

    @property
    def children(self) -> dict[str, Layer]:
        return dict(self.graph.children)

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the layers, the keys of params among them."""
        return tuple(name for name, _ in self.graph.children)

    @property
    def output_structure(self) -> Any:
        return self.graph.structure

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return any(layer.draws for _, layer in self.graph.children)

    def adopt(self, layer: Any) -> Layer:
        """Give a layer as it is in here: with this container's dtype, where it has none, and frozen where this is."""
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
        """Give the same container with ``change(name, layer)`` in place of each layer, under the same names."""
        changed = {name: dataclasses.replace(change(name, layer), name=name) for name, layer in self.children.items()}
        return self.with_graph(self.graph._replace(children=tuple(changed.items())))

    def with_graph(self, graph: Graph) -> Self:
        """Give this container with another graph on the same inputs, every layer in it named as there.

        Raises:
            ValueError: a graph that this kind of container cannot have.
        """
        raise ValueError(f"{type(self).__name__}: its graph follows from its options and cannot be changed")

    def flat_inputs(self, value: Any) -> list:
        """Give the inputs, or their shapes, as a list in the order of their places."""
        return [value]

    def _steps(self, values: list) -> Iterator[tuple[int, str, Any]]:
        """Give (number, name, what it is called on) of each call; the caller adds what it gives to ``values``."""
        for index, (name, takes, structure) in enumerate(self.graph.calls):
            yield index, name, structure.unflatten(values[place] for place in takes)

    def _outputs(self, values: list) -> Any:
        return self.graph.structure.unflatten(values[place] for place in self.graph.gives)

    def _run_shapes(self, input_shape: Any) -> tuple[list, list]:
        """Give (inputs and outputs of all calls in order of their places, outputs of each call)."""
        children, values, out = self.children, self.flat_inputs(self.read_shape(input_shape)), []
        for _, name, given in self._steps(values):
            with explain(f"{name}, given shape {given}"):
                out.append(children[name].output_shape(given))
            values += children[name].output_structure.flatten_up_to(out[-1])
        return values, out

    def shapes(self, input_shape: Any) -> list:
        """Give the output shape of each call in turn."""
        return self._run_shapes(input_shape)[1]

    def output_shape(self, input_shape: Any) -> Any:
        return self._outputs(self._run_shapes(input_shape)[0])

    def multiply_adds(self, input_shape: Any) -> int | None:
        values, counts = self.flat_inputs(self.read_shape(input_shape)), []
        for (_, name, given), out in zip(self._steps(values), self.shapes(input_shape), strict=True):
            counts.append(self.children[name].multiply_adds(given))
            values += self.children[name].output_structure.flatten_up_to(out)
        return None if None in counts else sum(count or 0 for count in counts)

    def init_params(self, key: Any, input_shape: Any) -> Params:
        children, values, params, first = self.children, self.flat_inputs(input_shape), {}, {}
        place = {name: index for index, name in enumerate(children)}
        for _, name, given in self._steps(values):
            child = children[name]
            with explain(f"{name}, given shape {given}"):
                if name not in first:
                    params[name] = child.init_params(jax.random.fold_in(key, place[name]), given)
                    first[name] = given
                elif given != first[name]:
                    _check_shared(child, params[name], first[name], given, key)
                values += child.output_structure.flatten_up_to(child.output_shape(given))
        return {name: params[name] for name in children if params.get(name)}

    def forward(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any = None) -> tuple[Any, Effects]:
        self._check_names(params)
        children, values = self.children, self.flat_inputs(x)
        masks = [None] * len(values) if mask is None else self.flat_inputs(mask)
        fixed: Params = {}
        penalties = []
        for (index, name, given), (*_, hidden) in zip(self._steps(values), self._steps(masks), strict=True):
            child, own = children[name], params.get(name, {})
            if name in fixed:  # a shared layer: its statistics go on from its last call
                own = merge(child.select(own, fixed=False), fixed[name])
            own_key = None if key is None else jax.random.fold_in(key, index)
            with explain(f"{name}, given shape {shape_of(given)}"):
                y, effects = child.forward(own, given, train=train, key=own_key, mask=_any_mask(hidden))
            form = child.output_structure
            values += form.flatten_up_to(y)
            masks += [None] * form.num_leaves if effects.mask is None else form.flatten_up_to(effects.mask)
            penalties.append(effects.penalty)
            if name in params:
                fixed[name] = effects.fixed
        straight = {place for place in self.graph.gives if place < self.graph.inputs}
        values = [self._input(value) if place in straight else value for place, value in enumerate(values)]
        fixed, mask = {name: fixed[name] for name in params}, _any_mask(self._outputs(masks))
        return self._outputs(values), Effects(fixed, self._total(penalties), mask)

    def _total(self, penalties: Sequence[Array]) -> Array:
        dtype = promote(self.policy.penalty, *(penalty.dtype for penalty in penalties))
        return sum((penalty.astype(dtype) for penalty in penalties), start=jnp.zeros((), dtype))

    def _check_names(self, params: Any) -> None:
        if not isinstance(params, Mapping) or not set(params) <= set(self.names):
            raise ValueError(f"{self.label}: params {held(params)}; the layers here are {list(self.names)}")


def _any_mask(masks: Any) -> Any:
    """Give a structure of masks, or None where there is none in it."""
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
    """Give the name that a layer's counted names begin with: its class's in snake_case."""
    return getattr(layer, "counted_as", None) or snake_case(type(layer).__name__)


def free_name(base: str, taken: Sequence[str], count: dict[str, int]) -> str:
    """Give the next counted name that nobody was given."""
    while True:
        number = count[base] = count.get(base, -1) + 1
        name = f"{base}_{number}" if number else base
        if name not in taken:
            return name


def chain(names: Sequence[str], inside: Sequence[Layer]) -> Graph:
    """Give the graph that calls layers one after the other."""
    takes: tuple[int, ...] = (0,)
    calls, structure, place = [], LEAF, 1
    for name, layer in zip(names, inside, strict=True):
        calls.append(Call(name, takes, structure))
        structure = layer.output_structure
        takes, place = tuple(range(place, place + structure.num_leaves)), place + structure.num_leaves
    return Graph(tuple(zip(names, inside, strict=True)), tuple(calls), takes, structure)
